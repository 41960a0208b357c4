//! Local ops: signed like everybody's, refused when they would be void, without trace until merged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use fabrik_merge::{Draft, Replica};
use fabrik_op::Follows;
use fabrik_op::limits::LAMPORT_STEP_MAX;
use mesh::{Log, deliver, genesis, key, member, stage, title, verify};

const ITEM: [u8; 16] = [0x42; 16];

fn reason(draft: &mut Draft, writes: Vec<fabrik_op::WriteBody>) -> String {
    draft.append(writes, 1).unwrap_err().to_string()
}

#[test]
fn drafted_ops_are_accepted_elsewhere() {
    let mut replica = Replica::new(genesis());
    let mut draft = replica.draft(key(0), 1).unwrap();
    let mut segments = draft.genesis(5).unwrap();
    segments.extend(draft.append(vec![title(&ITEM, "a"), stage(&ITEM, 0)], 6).unwrap());
    segments.extend(draft.append(vec![member(&key(1).public(), 2)], 7).unwrap());
    assert_eq!((draft.lamport(), replica.ops(), replica.lamport()), (3, 0, 0));
    replica.merge(&segments).unwrap();
    let mut other = Replica::new(genesis());
    let verified: Vec<_> = segments.iter().map(|segment| verify(segment.data())).collect();
    let outcome = other.chain(&verified, false).unwrap();
    other.merge(&outcome.chained).unwrap();
    assert_eq!((replica.state_digest(), replica.frontier_digest(), replica.voided()), (other.state_digest(), other.frontier_digest(), 0));
}

#[test]
fn a_refused_op_uses_up_nothing() {
    let replica = Replica::new(genesis());
    let mut draft = replica.draft(key(1), 1).unwrap();
    assert_eq!(
        reason(&mut draft, vec![stage(&ITEM, 0), title(&ITEM, &"x".repeat(201))]),
        "write 1 to item.title: not text<=200: byte 0: a text that is too long"
    );
    assert_eq!(reason(&mut draft, vec![title(&ITEM[..15], "x")]), "write 0 to item.title: an id of 15 bytes, expected 16");
    assert!(reason(&mut draft, vec![member(&key(1).public(), 2)]).starts_with("only an admin writes member records"));
    assert_eq!(reason(&mut draft, vec![mesh::claim(&ITEM, &key(2).public(), 1, 0, 1, 0)]), "write 0 to claim.claim: it names another node than its author");
    assert!(draft.genesis(1).unwrap_err().to_string().contains("genesis admin"));
    let first = draft.append(vec![title(&ITEM, "good")], 1).unwrap();
    assert_eq!((first.len(), first[0].first_seq(), draft.lamport()), (1, 1, 1));
    assert!(draft.genesis(1).unwrap_err().to_string().contains("seq 1"));
    assert!(replica.draft(key(1), 0).is_err() && replica.draft(key(1), 1 << 53).is_err());
}

#[test]
fn a_mesh_clock_far_ahead_is_climbed_in_full_steps() {
    let mut ahead = Log::new(1, 1);
    for step in 1..=3 {
        ahead.op(step * LAMPORT_STEP_MAX, 0, 1, Vec::new(), None);
    }
    let mut replica = Replica::new(genesis());
    deliver(&mut replica, &[ahead.whole()]);
    let mut draft = replica.draft(key(2), 1).unwrap();
    let segments = draft.append(vec![title(&ITEM, "late")], 9).unwrap();
    let clocks: Vec<_> = segments.iter().flat_map(|segment| segment.ops().map(|op| (op.lamport(), op.writes().len())).collect::<Vec<_>>()).collect();
    assert_eq!(clocks, [(LAMPORT_STEP_MAX, 0), (2 * LAMPORT_STEP_MAX, 0), (3 * LAMPORT_STEP_MAX, 0), (3 * LAMPORT_STEP_MAX + 1, 1)]);
    replica.merge(&segments).unwrap();
    assert_eq!((replica.voided(), replica.lamport()), (0, 3 * LAMPORT_STEP_MAX + 1));
}

#[test]
fn a_draft_goes_on_from_the_head_and_above_every_clock() {
    let mut replica = Replica::new(genesis());
    let mut other = Log::new(1, 1);
    other.op(500, 0, 1, Vec::new(), None);
    deliver(&mut replica, &[other.whole()]);
    let first = replica.draft(key(2), 1).unwrap().append(vec![title(&ITEM, "one")], 1).unwrap();
    replica.merge(&first).unwrap();
    let second = replica.draft(key(2), 1).unwrap().append(vec![title(&ITEM, "two")], 1).unwrap();
    assert_eq!((second[0].first_seq(), second[0].prev(), replica.lamport()), (2, first[0].head(), 501));
    assert_eq!(second[0].ops().map(|op| op.lamport()).collect::<Vec<_>>(), [502]);
    let epoch = replica.draft(key(2), 2).unwrap().append(Vec::new(), 1).unwrap();
    assert_eq!((epoch[0].first_seq(), epoch[0].epoch()), (1, 2));
}

fn follows(epoch: u64) -> Follows {
    Follows { epoch, seq: 7, head: [9; 32] }
}

#[test]
fn promise_i10_a_new_epoch_opens_at_seq_1_and_names_what_it_follows() {
    let mut replica = Replica::new(genesis());
    let first = replica.draft(key(1), 1).unwrap().append(vec![title(&ITEM, "old")], 1).unwrap();
    replica.merge(&first).unwrap();
    let mut draft = replica.draft(key(1), 2).unwrap();
    assert!(draft.open_epoch(follows(2), 1).unwrap_err().to_string().contains("follow itself"));
    assert!(draft.open_epoch(Follows { seq: 0, ..follows(1) }, 1).is_err());
    let mut segments = draft.open_epoch(follows(1), 5).unwrap();
    assert_eq!((segments.len(), draft.lamport(), segments[0].branch, segments[0].base), (1, 2, 0, None));
    segments.extend(draft.append(vec![title(&ITEM, "new")], 6).unwrap());
    let ops: Vec<_> =
        segments.iter().flat_map(|one| one.ops().map(|op| (op.seq, op.kind(), op.lamport(), op.follows().copied())).collect::<Vec<_>>()).collect();
    assert_eq!(ops, [(1, 3, 2, Some(follows(1))), (2, 1, 3, None)]);
    assert!(draft.open_epoch(follows(1), 7).unwrap_err().to_string().contains("seq 1"));
    replica.merge(&segments).unwrap();
    assert_eq!((replica.voided(), replica.ops(), replica.heads().count()), (0, 3, 2));
    assert!(replica.draft(key(1), 2).unwrap().open_epoch(follows(1), 8).is_err());
}

#[test]
fn promise_i10_an_epoch_opening_comes_before_the_climb() {
    let mut ahead = Log::new(1, 1);
    for step in 1..=3 {
        ahead.op(step * LAMPORT_STEP_MAX, 0, 1, Vec::new(), None);
    }
    let mut replica = Replica::new(genesis());
    deliver(&mut replica, &[ahead.whole()]);
    let mut draft = replica.draft(key(2), 2).unwrap();
    assert_eq!(draft.lamport(), 3 * LAMPORT_STEP_MAX);
    let mut segments = draft.open_epoch(follows(1), 5).unwrap();
    assert_eq!(draft.lamport(), LAMPORT_STEP_MAX);
    segments.extend(draft.append(vec![title(&ITEM, "late")], 6).unwrap());
    let ops: Vec<_> = segments.iter().flat_map(|one| one.ops().map(|op| (op.kind(), op.lamport())).collect::<Vec<_>>()).collect();
    assert_eq!(ops, [(3, LAMPORT_STEP_MAX), (1, 2 * LAMPORT_STEP_MAX), (1, 3 * LAMPORT_STEP_MAX), (1, 3 * LAMPORT_STEP_MAX + 1)]);
    replica.merge(&segments).unwrap();
    assert_eq!((replica.voided(), replica.lamport()), (0, 3 * LAMPORT_STEP_MAX + 1));
}
