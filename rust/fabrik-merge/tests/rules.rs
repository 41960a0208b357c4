//! What is void, who wins, and what a deletion does. Each test merges ops and reads registers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use fabrik_merge::Replica;
use fabrik_op::limits::LAMPORT_STEP_MAX;
use fabrik_op::{Fence, Follows, WriteBody};
use mesh::{Log, cbor, claim, deliver, fenced, genesis, key, member, node_name, run, stage, title, tombstone, write};
use proptest::prelude::*;

const ITEM: [u8; 16] = [0x42; 16];

fn replica_of(logs: &[&Log]) -> Replica {
    let mut replica = Replica::new(genesis());
    for log in logs {
        deliver(&mut replica, &[log.whole()]);
    }
    replica
}

/// Whether one op of these writes by author `number` is void.
fn is_void(number: u8, writes: Vec<WriteBody>) -> bool {
    let mut log = Log::new(number, 1);
    log.write(writes);
    replica_of(&[&log]).voided() == 1
}

fn read(replica: &Replica, kind: u8, field: u8) -> Option<Vec<u8>> {
    replica.get(kind, &ITEM, field).map(|register| register.value.to_vec())
}

fn text(text: &str) -> Vec<u8> {
    cbor(|w| w.text(text))
}

#[test]
fn values_of_each_type() {
    let long = |bytes: usize| text(&"x".repeat(bytes));
    let texts = |count: usize, bytes: usize| cbor(|w| (0..count).fold(w.array(count), |w, _| w.text(&"x".repeat(bytes))));
    let ids = |count: usize, bytes: usize| cbor(|w| (0..count).fold(w.array(count), |w, _| w.bytes(&vec![0; bytes])));
    let map = |key: u64| cbor(|w| w.map(1).uint(key).null());
    let text_map = cbor(|w| w.map(1).text("a").array(1).null());
    let good: &[(u64, Vec<u8>)] = &[
        (1, long(0)),
        (1, long(200)),
        (2, long(32_768)),
        (3, vec![0x81, 0]),
        (3, vec![0x81, 2]),
        (3, cbor(|w| w.array(3).uint(3).text("b").uint(1))),
        (3, cbor(|w| w.array(3).uint(3).text(&"b".repeat(255)).uint(u64::from(u32::MAX)))),
        (3, cbor(|w| w.array(3).uint(4).uint(u64::MAX).bytes(&[0; 20]))),
        (3, cbor(|w| w.array(3).uint(4).uint(0).bytes(&[0; 32]))),
        (3, cbor(|w| w.array(3).uint(5).uint(0).uint(5))),
        (4, text_map.clone()),
        (4, vec![0xa0]),
        (5, texts(32, 64)),
        (5, texts(0, 0)),
        (6, cbor(|w| w.int(i64::MIN))),
        (6, cbor(|w| w.int(i64::MAX))),
        (7, ids(64, 16)),
        (8, cbor(|w| w.uint(u64::MAX))),
        (9, vec![0xf6]),
        (9, text_map.clone()),
        (10, vec![0]),
    ];
    for (field, value) in good {
        assert!(!is_void(1, vec![write(1, &ITEM, *field, value.clone())]), "field {field}: {value:02x?}");
    }
    let bad: &[(u64, Vec<u8>)] = &[
        (1, long(201)),
        (1, vec![0x41, 0x61]),
        (2, long(32_769)),
        (3, vec![0]),
        (3, vec![0x80]),
        (3, vec![0x81, 3]),
        (3, vec![0x81, 6]),
        (3, vec![0x82, 0, 0]),
        (3, cbor(|w| w.array(3).uint(3).text("").uint(1))),
        (3, cbor(|w| w.array(3).uint(3).text(&"b".repeat(256)).uint(1))),
        (3, cbor(|w| w.array(3).uint(3).text("b").uint(0))),
        (3, cbor(|w| w.array(3).uint(3).text("b").uint(1 << 32))),
        (3, cbor(|w| w.array(3).uint(4).uint(0).bytes(&[0; 21]))),
        (3, cbor(|w| w.array(3).uint(5).uint(0).uint(6))),
        (4, map(1)),
        (4, vec![0xf6]),
        (5, texts(33, 1)),
        (5, texts(1, 65)),
        (6, cbor(|w| w.uint(1 << 63))),
        (6, text("1")),
        (7, ids(65, 16)),
        (7, ids(1, 15)),
        (8, cbor(|w| w.int(-1))),
        (9, map(1)),
        (10, vec![0xf6]),
    ];
    for (field, value) in bad {
        assert!(is_void(1, vec![write(1, &ITEM, *field, value.clone())]), "field {field}: {value:02x?}");
    }
}

#[test]
fn a_claim_is_whole_or_void() {
    let me = key(1).public();
    let good = claim(&ITEM, &me, 7, 0, 1, 0);
    assert!(!is_void(1, vec![good.clone()]));
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut body = good.clone();
        edit(&mut body.value);
        is_void(1, vec![body])
    };
    let more = |pairs: u8, tail: &[u8]| {
        with(&|value| {
            value[0] += pairs;
            value.extend_from_slice(tail);
        })
    };
    assert!(!more(1, &[9, 0x61, b'x']));
    assert!(!more(2, &[10, 0x41, 0, 12, 0xf6]));
    assert!(!more(1, &[[11, 0x50].as_slice(), &[0; 16]].concat()));
    assert!(more(1, &[9, 0]));
    assert!(more(1, &[11, 0x41, 0]));
    assert!(more(1, &[0x61, b'x', 0]));
    assert!(with(&|value| *value = vec![0xa0]));
    assert!(with(&|value| *value = vec![0xf6]));
    assert!(is_void(1, vec![claim(&ITEM, &me, 7, 0, 1, 3)]), "an unknown state");
    assert!(is_void(2, vec![good.clone()]), "another node's claim");
    assert!(is_void(1, vec![fenced(good, 0, 1, 7)]), "a claim is not fenced");
}

#[test]
fn authority() {
    let (admin, me) = (key(0).public(), key(1).public());
    assert!(!is_void(0, vec![member(&me, 2)]));
    assert!(is_void(1, vec![member(&me, 2)]));
    assert!(is_void(0, vec![member(&me, 5)]));
    assert!(!is_void(1, vec![node_name(&me, "n")]));
    assert!(is_void(1, vec![node_name(&admin, "n")]));
    assert!(!is_void(1, vec![run(&ITEM, &me, 0)]));
    assert!(is_void(1, vec![run(&ITEM, &admin, 0)]));
    assert!(is_void(1, vec![write(6, &ITEM, 1, vec![0xa0])]));
}

#[test]
fn one_malformed_write_voids_the_whole_op() {
    let mut log = Log::new(1, 1);
    log.write(vec![title(&ITEM, "good"), title(&ITEM[..15], "bad")]);
    log.write(vec![write(1, &ITEM, 99, vec![0xf6]), write(99, &[1], 1, vec![0xf6]), title(&ITEM, "beside unknown ones")]);
    let replica = replica_of(&[&log]);
    assert_eq!((replica.voided(), replica.ops(), replica.registers()), (1, 2, 1));
    assert_eq!(read(&replica, 1, 1), Some(text("beside unknown ones")));
    assert!(is_void(1, vec![fenced(title(&ITEM, "x"), 0, 0, 0)]));
    assert!(!is_void(1, vec![fenced(stage(&ITEM, 0), 0, 0, 0)]));
}

#[test]
fn clocks_rise_by_bounded_steps_and_void_ops_do_not_move_them() {
    let mut log = Log::new(1, 1);
    let name = |text: &str| vec![title(&ITEM, text)];
    log.op(LAMPORT_STEP_MAX, 0, 1, name("first"), None);
    log.op(2 * LAMPORT_STEP_MAX + 1, 0, 1, name("too far"), None);
    log.op(LAMPORT_STEP_MAX, 0, 1, name("not above"), None);
    log.op(LAMPORT_STEP_MAX + 1, 0, 1, vec![title(&ITEM[..15], "void by schema")], None);
    log.op(2 * LAMPORT_STEP_MAX + 1, 0, 1, name("within again"), None);
    let replica = replica_of(&[&log]);
    assert_eq!((replica.voided(), replica.lamport()), (3, 2 * LAMPORT_STEP_MAX + 1));
    assert_eq!(read(&replica, 1, 1), Some(text("within again")));
    assert_eq!(replica.head(&log.public(), 1, 0).map(|head| (head.seq, head.clock)), Some((5, 2 * LAMPORT_STEP_MAX + 1)));
}

#[test]
fn op_kinds_have_their_places() {
    let follows = Some(Follows { epoch: 1, seq: 1, head: [0; 32] });
    let voided = |number: u8, kind: u64, follows: Option<Follows>, second: bool| {
        let mut log = Log::new(number, 2);
        if second {
            log.write(Vec::new());
        }
        log.op(log.lamport + 1, 0, kind, vec![title(&ITEM, "x")], follows);
        let replica = replica_of(&[&log]);
        (replica.voided(), replica.registers())
    };
    assert_eq!(voided(0, 2, None, false), (0, 1));
    assert_eq!(voided(0, 2, None, true), (1, 0));
    assert_eq!(voided(1, 2, None, false), (1, 0));
    assert_eq!(voided(1, 3, follows, false), (0, 1));
    assert_eq!(voided(1, 3, follows, true), (1, 0));
    assert_eq!(voided(1, 3, None, false), (1, 0));
    assert_eq!(voided(1, 1, follows, false), (1, 0));
    assert_eq!(voided(1, 4, None, false), (0, 0), "a later kind is not void, and has no effect");
    assert_eq!(voided(1, 4, follows, false), (1, 0));
}

#[test]
fn the_fence_decides_before_the_clock() {
    let mut old = Log::new(1, 1);
    old.op(1_000, 0, 1, vec![fenced(stage(&ITEM, 2), 0, 1, 1)], None);
    let mut new = Log::new(2, 1);
    new.write(vec![fenced(stage(&ITEM, 1), 0, 2, 2)]);
    let mut unfenced = Log::new(0, 1);
    unfenced.op(2_000, 0, 1, vec![stage(&ITEM, 0)], None);
    let mut granted = Log::new(3, 1);
    granted.write(vec![fenced(stage(&ITEM, 0), 1, 1, 3)]);
    assert_eq!(read(&replica_of(&[&old, &new, &unfenced]), 1, 3), Some(vec![0x81, 1]));
    assert_eq!(read(&replica_of(&[&unfenced, &old]), 1, 3), Some(vec![0x81, 2]));
    assert_eq!(read(&replica_of(&[&granted, &unfenced, &new]), 1, 3), Some(vec![0x81, 0]));
}

#[test]
fn the_winner_of_the_claim_wins_its_registers() {
    let rivals = [1_u8, 2];
    let mut logs = Vec::new();
    for number in rivals {
        let mut log = Log::new(number, 1);
        log.write(vec![claim(&ITEM, &key(number).public(), number, 0, 1, 1)]);
        log.write(vec![fenced(stage(&ITEM, u64::from(number)), 0, 1, number)]);
        logs.push(log);
    }
    logs[0].op(900, 0, 1, vec![fenced(stage(&ITEM, 1), 0, 1, 1)], None);
    let replica = replica_of(&[&logs[0], &logs[1]]);
    let fence = replica.winning_fence(&ITEM).unwrap();
    let lost = Fence { claim_id: [3 - fence.claim_id[0]; 16], ..fence };
    assert_eq!(read(&replica, 1, 3), Some(vec![0x81, fence.claim_id[0]]));
    assert!(Replica::fence_beats(&ITEM, Some(&fence), Some(&lost)) && !Replica::fence_beats(&ITEM, Some(&lost), Some(&fence)));
    assert!(
        Replica::fence_beats(&ITEM, Some(&lost), None) && !Replica::fence_beats(&ITEM, None, None) && !Replica::fence_beats(&ITEM, Some(&fence), Some(&fence))
    );
    let rank = |claim: u8| fabrik_op::hash::blake3(&[ITEM, [claim; 16]].concat());
    assert!(rank(fence.claim_id[0]) < rank(lost.claim_id[0]), "the lower digest wins");
}

#[test]
fn released_beats_confirmed_beats_tentative_of_one_claim_only() {
    let me = key(1).public();
    let mut log = Log::new(1, 1);
    log.write(vec![claim(&ITEM, &me, 1, 0, 1, 2)]);
    log.write(vec![claim(&ITEM, &me, 1, 0, 1, 0)]);
    let state = |replica: &Replica| read(replica, 2, 1).map(|value| value[24]);
    let released = replica_of(&[&log]);
    assert_eq!(released.get(2, &ITEM, 1).map(|register| register.seq), Some(1));
    assert_eq!(state(&released), Some(2));
    log.write(vec![claim(&ITEM, &me, 2, 0, 2, 0)]);
    assert_eq!(state(&replica_of(&[&log])), Some(0));
}

#[test]
fn a_tombstone_is_final_in_any_order() {
    let other = [0x43; 16];
    let mut writer = Log::new(1, 1);
    writer.write(vec![title(&ITEM, "a"), stage(&ITEM, 0), title(&other, "stays")]);
    writer.write(vec![claim(&ITEM, &key(1).public(), 1, 0, 1, 0), run(&ITEM, &key(1).public(), 0)]);
    writer.op(9_000, 0, 1, vec![title(&ITEM, "newer")], None);
    let mut deleter = Log::new(2, 1);
    deleter.write(vec![tombstone(&ITEM, "first")]);
    let mut again = Log::new(0, 1);
    again.op(5, 0, 1, vec![title(&ITEM, "beside it"), tombstone(&ITEM, "second"), stage(&ITEM, 1)], None);
    let orders: [[&Log; 3]; 6] = [
        [&writer, &deleter, &again],
        [&writer, &again, &deleter],
        [&deleter, &writer, &again],
        [&deleter, &again, &writer],
        [&again, &writer, &deleter],
        [&again, &deleter, &writer],
    ];
    let replicas = orders.map(|order| replica_of(&order));
    for replica in &replicas {
        assert!(replica.tombstoned(&ITEM) && !replica.tombstoned(&other));
        assert!(replica.row(1, &ITEM).is_empty() && replica.row(2, &ITEM).is_empty());
        assert_eq!(replica.row(6, &ITEM).len(), 1);
        assert_eq!(replica.get(5, &ITEM, 1).map(|register| register.author), Some(deleter.public()));
        assert_eq!(replica.registers(), 3);
        assert_eq!(replica.state_digest(), replicas[0].state_digest());
    }
}

#[test]
fn changes_of_a_deletion_name_its_author() {
    let mut log = Log::new(1, 1);
    log.write(vec![title(&ITEM, "a"), stage(&ITEM, 0)]);
    let mut replica = replica_of(&[&log]);
    let mut deleter = Log::new(2, 1);
    deleter.op(1, 77, 1, vec![tombstone(&ITEM, "gone")], None);
    let changes = deliver(&mut replica, &[deleter.whole()]);
    let shown: Vec<_> = changes.iter().map(|change| (change.kind(), change.field, change.old.is_some(), change.new.is_some())).collect();
    assert_eq!(shown, [(1, 1, true, false), (1, 3, true, false), (5, 1, false, true)]);
    assert!(changes.iter().all(|change| change.author == deleter.public() && change.wall_ms == 77));
    let both = deliver(&mut Replica::new(genesis()), &[log.whole(), deleter.whole()]);
    assert_eq!(both.iter().map(|change| (change.kind(), change.field)).collect::<Vec<_>>(), [(5, 1)], "what came and went within a call is no change");
}

#[test]
fn equal_ops_of_two_logs_name_the_same_writer_in_any_order() {
    let same = |number: u8, epoch: u64| {
        let mut log = Log::new(number, epoch);
        log.write(vec![title(&[0x44; 16], "same"), tombstone(&ITEM, "same")]);
        log
    };
    let logs = [same(1, 1), same(1, 2), same(2, 1)];
    assert_eq!(logs[0].segments[0].ops().next().map(|op| *op.digest), logs[2].segments[0].ops().next().map(|op| *op.digest));
    let names = logs.iter().map(|log| (log.public(), log.tip.epoch));
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let replica = replica_of(&order.map(|place| &logs[place]));
        let writer = |kind: u8, id: &[u8]| replica.get(kind, id, 1).map(|register| (register.author, register.epoch));
        assert_eq!(writer(1, &[0x44; 16]), names.clone().max());
        assert_eq!(writer(5, &ITEM), names.clone().min());
    }
}

#[test]
fn reads_of_what_is_not_there() {
    let replica = Replica::new(genesis());
    assert!(replica.get(0, &ITEM, 1).is_none() && replica.get(7, &ITEM, 1).is_none() && replica.get(1, &[1], 1).is_none() && replica.get(1, &[], 1).is_none());
    assert!(replica.row(1, &[0; 40]).is_empty() && replica.rows(9).is_empty() && !replica.tombstoned(&[]) && replica.winning_fence(&[1; 64]).is_none());
}

/// Well-typed values of many types, for damage to start from.
fn values() -> Vec<Vec<u8>> {
    let me = key(0).public();
    let mut values = vec![vec![0xf6], vec![0xa0], vec![0x80], vec![0x81, 0], text("text"), cbor(|w| w.int(-300)), cbor(|w| w.uint(u64::MAX))];
    values.extend([claim(&ITEM, &me, 1, 2, 3, 1), member(&me, 3), run(&ITEM, &me, 1), tombstone(&ITEM, "why")].map(|write| write.value));
    values.push(cbor(|w| w.array(3).uint(3).text("branch").uint(7)));
    values.push(cbor(|w| w.array(3).uint(4).uint(7).bytes(&[7; 20])));
    values.push(cbor(|w| w.array(2).bytes(&[7; 16]).bytes(&[8; 16])));
    values
}

proptest! {
    #![proptest_config(mesh::proptest_config(2_000))]

    /// Any value in any known field, damaged or not: its op is void or its register is there, and never a panic.
    #[test]
    fn no_value_breaks_the_merge(
        kind in 1..7_u64,
        field in 1..11_u64,
        value in prop::sample::select(values()),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut data = value;
        if let Some((place, byte)) = damage {
            let place = place.index(data.len());
            data[place] = byte;
        }
        let mut reader = fabrik_op::cbor::Reader::new(&data);
        if reader.item(3).is_ok() && reader.end().is_ok() {
            let id = if kind == 3 || kind == 4 { key(0).public().to_vec() } else { ITEM.to_vec() };
            let known = fabrik_merge::schema::lookup(kind, field).is_some();
            let mut log = Log::new(0, 1);
            log.write(vec![write(kind, &id, field, data)]);
            let replica = replica_of(&[&log]);
            prop_assert_eq!(replica.registers() + usize::try_from(replica.voided()).unwrap(), usize::from(known));
        }
    }
}
