//! An upgrade: what this version keeps without understanding it takes effect in a later one, from the same stored bytes.
//!
//! The later version is this crate's own source with the table of `schema.rs` beside this file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.
#![allow(dead_code, clippy::pedantic)] // Both for the later version: only its door is used here, and its source is checked as the product's.

#[path = "../../src/adopt.rs"]
mod adopt;
#[path = "../../src/apply.rs"]
mod apply;
#[path = "../../src/audit.rs"]
mod audit;
#[path = "../../src/authority.rs"]
mod authority;
#[path = "../../src/branch.rs"]
mod branch;
#[path = "../../src/chaining.rs"]
mod chaining;
#[path = "../../src/change.rs"]
mod change;
#[path = "../../src/claim.rs"]
mod claim;
#[path = "../../src/digest.rs"]
mod digest;
#[path = "../../src/draft.rs"]
mod draft;
#[path = "../../src/exchange.rs"]
mod exchange;
#[path = "../../src/growth.rs"]
mod growth;
#[path = "../../src/log.rs"]
mod log;
#[path = "../mesh/mod.rs"]
mod mesh;
#[path = "../../src/moment.rs"]
mod moment;
#[path = "../../src/naive.rs"]
mod naive;
#[path = "../../src/naive_authority.rs"]
mod naive_authority;
#[path = "../../src/names.rs"]
mod names;
#[path = "../../src/order.rs"]
mod order;
#[path = "../../src/parts.rs"]
mod parts;
#[path = "../../src/powers.rs"]
mod powers;
#[path = "../../src/reading.rs"]
mod reading;
#[path = "../../src/record.rs"]
mod record;
#[path = "../../src/replica.rs"]
mod replica;
#[path = "../../src/restore.rs"]
mod restore;
#[path = "../../src/row_key.rs"]
mod row_key;
mod schema;
#[path = "../../src/sheet.rs"]
mod sheet;
#[path = "../../src/snapshot.rs"]
mod snapshot;
#[path = "../../src/state.rs"]
mod state;
#[path = "../../src/validity.rs"]
mod validity;
#[path = "../../src/value.rs"]
mod value;

use std::sync::Arc;

use mesh::{Log, cbor, fenced, genesis, key, title, verify, write};
use replica::Replica as Later;
use schema::{DUE_MS, NOTE};

type Today = fabrik_merge::Replica;

const ITEM: [u8; 16] = [0x42; 16];
const OTHER: [u8; 16] = [0x43; 16];

/// A log of a node of the later version, one op to a segment.
fn rows() -> Vec<Arc<[u8]>> {
    let due = |id: &[u8], ms: u64| write(1, id, DUE_MS.into(), cbor(|w| w.uint(ms)));
    let note = |text: &str| write(NOTE.into(), &OTHER, 1, cbor(|w| w.text(text)));
    let mut log = Log::new(0, 1);
    log.write(vec![title(&ITEM, "title"), due(&ITEM, 1_000)]);
    log.write(vec![note("first")]);
    log.write(vec![due(&ITEM, 2_000), note("second"), title(&OTHER, "other")]);
    log.segments.iter().map(|segment| Arc::clone(segment.data())).collect()
}

fn sound<E>(rows: &[Arc<[u8]>]) -> Vec<Result<fabrik_op::VerifiedSegment, E>> {
    rows.iter().map(|row| Ok(verify(row))).collect()
}

#[test]
fn promise_i23_what_was_kept_takes_effect_after_an_upgrade() {
    let rows = rows();
    let mut today = Today::new(genesis());
    let verified: Vec<_> = rows.iter().map(verify).collect();
    let taken = today.chain(&verified, true).unwrap().chained;
    assert!(taken.iter().map(|segment| segment.data()).eq(&rows), "what is stored and relayed is what came");
    let changes = today.merge(&taken).unwrap();
    assert_eq!(changes.iter().map(|change| (change.kind(), change.field)).collect::<Vec<_>>(), [(1, 1), (1, 1)], "only what it knows has effect");
    assert_eq!((today.voided(), today.registers(), today.get(1, &ITEM, DUE_MS), today.rows(NOTE)), (0, 2, None, vec![]));

    // The upgrade: the store is the same, the snapshot says what an older version understood.
    let refused = Later::restore(genesis(), &today.snapshot()).unwrap_err();
    assert!(refused.to_string().contains("other kinds, fields or rules"), "{refused}");
    let mut later = Later::new(genesis());
    assert_eq!(later.load(sound(&rows), &[]).unwrap().ops, 3);
    assert_eq!(later.get(1, &ITEM, DUE_MS).unwrap().value[..], cbor(|w| w.uint(2_000)));
    assert_eq!(later.get(NOTE, &OTHER, 1).unwrap().value[..], cbor(|w| w.text("second")));
    assert_eq!((later.registers(), later.ops(), later.voided()), (4, 3, 0));
    assert_eq!(later.frontier_digest(), today.frontier_digest(), "no op was written for it");

    // Whoever was of the later version all the time has the same, and so has one that comes from a snapshot of its own.
    let mut always = Later::new(genesis());
    for row in &rows {
        let chained = always.chain(&[verify(row)], true).unwrap().chained;
        always.merge(&chained).unwrap();
    }
    assert_eq!(always.state_digest(), later.state_digest());
    assert_eq!(Later::restore(genesis(), &later.snapshot()).unwrap().state_digest(), later.state_digest());

    // And back: the older version refuses the newer snapshot, and finds what it had.
    assert!(Today::restore(genesis(), &later.snapshot()).is_err());
    let mut back = Today::new(genesis());
    back.load(sound(&rows), &[]).unwrap();
    assert_eq!(back.state_digest(), today.state_digest());
}

/// What would be without the check: the registers of an older version, for good.
#[test]
fn a_snapshot_of_an_older_version_lacks_what_it_did_not_know() {
    let mut today = Today::new(genesis());
    today.load(sound(&rows()), &[]).unwrap();
    let mut forged = today.snapshot();
    let rules = schema::fingerprint(schema::KINDS, schema::MERGE_RULES);
    forged[20..52].copy_from_slice(&rules);
    forged.truncate(forged.len() - 32);
    let later = Later::restore(genesis(), &fabrik_merge::seal(forged)).unwrap();
    assert_eq!((later.ops(), later.registers(), later.get(1, &ITEM, DUE_MS)), (3, 2, None));
    assert_eq!(later.state_digest(), today.state_digest());
}

/// What an older node counted, a later one counts: a write that breaks a rule of a new field has no effect, and voids nothing.
#[test]
fn promise_i23_a_field_that_is_new_voids_nothing() {
    let due = |value| write(1, &ITEM, DUE_MS.into(), value);
    let bad = [
        due(cbor(|w| w.text("not a number"))),
        fenced(due(cbor(|w| w.uint(7))), 1, 1, 1),
        write(1, &ITEM[..15], DUE_MS.into(), cbor(|w| w.uint(7))),
        write(NOTE.into(), &OTHER[..3], 1, cbor(|w| w.text("short id"))),
    ];
    for write in bad {
        let mut log = Log::new(0, 1);
        log.write(vec![due(cbor(|w| w.uint(1)))]);
        log.write(vec![write.clone(), title(&ITEM, "counts")]);
        let (mut today, mut later, mut twin) = (Today::new(genesis()), Later::new(genesis()), naive::Naive::new(genesis()));
        today.load(sound(&[log.whole()]), &[]).unwrap();
        later.load(sound(&[log.whole()]), &[]).unwrap();
        log.segments.iter().for_each(|segment| twin.add(segment));
        assert_eq!((today.voided(), later.voided(), twin.meaning().voided), (0, 0, 0));
        assert_eq!(today.get(1, &ITEM, 1).unwrap().value, later.get(1, &ITEM, 1).unwrap().value);
        assert_eq!(later.get(1, &ITEM, DUE_MS).unwrap().value[..], cbor(|w| w.uint(1)));
        assert_eq!((later.registers(), twin.meaning().registers.len()), (2, 2));
        assert_eq!(twin.meaning().state_digest(), later.state_digest());
        let mut draft = later.draft(key(0), 2).unwrap();
        assert!(draft.append(vec![write], 0).is_err(), "nobody writes it on purpose");
    }
}
