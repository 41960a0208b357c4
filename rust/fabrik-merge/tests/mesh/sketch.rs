//! Ops without their place, which proptest can shrink; and what a replica must have in common with its naive twin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use std::collections::BTreeSet;

use fabrik_merge::naive::Naive;
use fabrik_merge::schema::{MEMBER, TOMBSTONE};
use fabrik_merge::{Chained, Change, Replica};
use fabrik_op::hash::step_id;
use fabrik_op::limits::LAMPORT_STEP_MAX;
use fabrik_op::{Follows, OpBody, Tip, WriteBody};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{answer, cbor, claim, fenced, key, member, node_name, question, run, stage, step, title, tombstone, write};

pub const AUTHORS: u8 = 3;

/// An op without its place: what proptest can shrink.
#[derive(Debug, Clone)]
pub struct Sketch {
    pub step: u64,
    pub wall_ms: u64,
    pub kind: u64,
    pub follows: bool,
    pub writes: Vec<Pen>,
}

#[derive(Debug, Clone)]
pub enum Pen {
    Title(u8, u8),
    Stage(u8, u64, Option<(u64, u64, u8)>),
    Attempts(u8, u64, Option<(u64, u64, u8)>),
    Claim {
        item: u8,
        node: u8,
        id: u8,
        receipt: u64,
        epoch: u64,
        state: u64,
    },
    Tombstone(u8, u8),
    Member(u8, u64),
    NodeName(u8, u8),
    Run(u8, u8, u64),
    /// Item, name, state; with a fence.
    Step(u8, u8, u64, Option<(u64, u64, u8)>),
    /// A question or an answer.
    Request(u8, bool),
    /// A kind or field of a later version.
    Later(u64, u8, u64),
    /// Malformed: a wrong type, a short id, or a fence where none may be.
    Bad(u8, u8),
}

pub fn item(number: u8) -> [u8; 16] {
    let mut id = [0x11; 16];
    id[0] = number;
    id[15] = number / 2; // Two ids share a bucket.
    id
}

impl Pen {
    pub fn write(&self) -> WriteBody {
        let with = |body: WriteBody, fence: Option<(u64, u64, u8)>| match fence {
            Some((receipt, epoch, claim)) => fenced(body, receipt, epoch, claim),
            None => body,
        };
        match *self {
            Self::Title(id, text) => title(&item(id), &format!("title {text}")),
            Self::Stage(id, number, fence) => with(stage(&item(id), number), fence),
            Self::Attempts(id, count, fence) => with(write(1, &item(id), 10, cbor(|w| w.uint(count))), fence),
            Self::Claim { item: id, node, id: claim_id, receipt, epoch, state } => claim(&item(id), &key(node).public(), claim_id, receipt, epoch, state),
            Self::Tombstone(id, why) => tombstone(&item(id), &why.to_string()),
            Self::Member(who, role) => member(&key(who).public(), role),
            Self::NodeName(who, name) => node_name(&key(who).public(), &name.to_string()),
            Self::Run(id, node, state) => run(&item(id), &key(node).public(), state),
            Self::Step(id, name, state, fence) => with(step(&item(id), &name.to_string(), state), fence),
            Self::Request(id, true) => question(&item(id), "may I?"),
            Self::Request(id, false) => answer(&item(id), "yes"),
            Self::Later(kind, id, field) => write(kind, &item(id), field, vec![0xf6]),
            Self::Bad(id, 0) => write(1, &item(id), 1, vec![0x01]),
            Self::Bad(id, 1) => title(&item(id)[..15], "short id"),
            Self::Bad(id, 2) => write(8, &step_id(&item(id), "another"), 1, step(&item(id), "one", 0).value),
            Self::Bad(id, _) => fenced(title(&item(id), "fence"), 9, 9, 9),
        }
    }
}

pub fn fence() -> impl Strategy<Value = Option<(u64, u64, u8)>> {
    prop::option::of((0..2_u64, 0..3_u64, 0..3_u8))
}

pub fn pen() -> impl Strategy<Value = Pen> {
    prop_oneof![
        6 => (0..4_u8, 0..3_u8).prop_map(|(id, text)| Pen::Title(id, text)),
        6 => (0..4_u8, 0..3_u64, fence()).prop_map(|(id, number, fence)| Pen::Stage(id, number, fence)),
        2 => (0..4_u8, 0..3_u64, fence()).prop_map(|(id, count, fence)| Pen::Attempts(id, count, fence)),
        5 => (0..4_u8, 0..AUTHORS, 0..3_u8, 0..2_u64, 0..3_u64, 0..3_u64)
            .prop_map(|(item, node, id, receipt, epoch, state)| Pen::Claim { item, node, id, receipt, epoch, state }),
        2 => (0..4_u8, 0..3_u8).prop_map(|(id, why)| Pen::Tombstone(id, why)),
        1 => (0..4_u8, 0..5_u64).prop_map(|(who, role)| Pen::Member(who, role)),
        1 => (0..AUTHORS, 0..3_u8).prop_map(|(who, name)| Pen::NodeName(who, name)),
        1 => (0..4_u8, 0..AUTHORS, 0..3_u64).prop_map(|(id, node, state)| Pen::Run(id, node, state)),
        1 => (prop::sample::select(vec![1_u64, 2, 7, 300]), 0..4_u8, prop::sample::select(vec![0_u64, 11, 999])).prop_map(|(kind, id, field)| Pen::Later(kind, id, field)),
        2 => (0..4_u8, 0..2_u8, 0..4_u64, fence()).prop_map(|(id, name, state, fence)| Pen::Step(id, name, state, fence)),
        1 => (0..4_u8, any::<bool>()).prop_map(|(id, asks)| Pen::Request(id, asks)),
        1 => (0..4_u8, 0..4_u8).prop_map(|(id, how)| Pen::Bad(id, how)),
    ]
}

pub fn sketch() -> impl Strategy<Value = Sketch> {
    let step = prop_oneof![20 => 1..3_u64, 1 => Just(0), 1 => Just(LAMPORT_STEP_MAX), 1 => Just(LAMPORT_STEP_MAX + 1)];
    let kind = prop_oneof![20 => Just(1_u64), 1 => Just(2), 2 => Just(3), 1 => Just(9)];
    (step, 0..2_u64, kind, prop::bool::weighted(0.1), vec(pen(), 0..4)).prop_map(|(step, wall_ms, kind, follows, writes)| Sketch {
        step,
        wall_ms,
        kind,
        follows,
        writes,
    })
}

impl Sketch {
    /// The op behind `tip`, `self.step` above `lamport`.
    pub fn op(&self, tip: &Tip, lamport: u64) -> OpBody {
        let follows = self.follows.then_some(Follows { epoch: 1, seq: 1, head: [0; 32] });
        let writes = self.writes.iter().map(Pen::write).collect();
        OpBody { seq: tip.seq + 1, lamport: (lamport + self.step).max(1), wall_ms: self.wall_ms, kind: self.kind, writes, follows }
    }
}

pub fn assert_same(replica: &Replica, naive: &Naive) {
    let meaning = naive.meaning();
    for ((kind, id, field), touch) in &meaning.registers {
        let held = replica.get(u8::try_from(*kind).unwrap(), id, u8::try_from(*field).unwrap()).expect("a register is missing");
        assert_eq!(
            (&held.value[..], held.fence, held.lamport, held.digest, held.author, held.epoch, held.seq, held.wall_ms),
            (&touch.value[..], touch.fence, touch.lamport, touch.digest, touch.author, touch.epoch, touch.seq, touch.wall_ms)
        );
    }
    assert_eq!(replica.registers(), meaning.registers.len());
    assert_eq!(replica.state_digest(), meaning.state_digest());
    assert_eq!(replica.frontier_digest(), naive.frontier_digest());
    assert_eq!((replica.lamport(), replica.voided()), (meaning.lamport, meaning.voided));
    for (key, (role, named)) in &meaning.roles {
        let member = replica.member(key);
        assert_eq!((member.role, member.named, replica.is_admitted(key)), (*role, *named, *role != 0));
    }
    for head in replica.heads() {
        assert_eq!(Some(&head.clock), meaning.clocks.get(&(head.author, head.epoch, head.seq, head.head)));
    }
}

/// What a reader of changes holds: `(kind, id, field) -> value`.
pub type View = std::collections::BTreeMap<(u8, Box<[u8]>, u8), Box<[u8]>>;

/// Applies the changes that `replica` told in its last call, and checks each against what it holds now.
pub fn follow(view: &mut View, replica: &Replica, changes: impl IntoIterator<Item = Change>) {
    let mut seen = BTreeSet::new();
    for change in changes {
        assert!(seen.insert((change.kind(), change.id().to_vec(), change.field)), "one change for each register");
        let held = replica.get(change.kind(), change.id(), change.field);
        assert_eq!(change.new.as_ref(), held.as_ref().map(|register| &register.value));
        if let Some(cause) = held.or_else(|| replica.get(TOMBSTONE, change.id(), 1).filter(|_| change.kind() < MEMBER)) {
            assert_eq!((change.author, change.wall_ms, change.digest), (cause.author, cause.wall_ms, cause.digest));
        }
        let place = (change.kind(), change.id().into(), change.field);
        assert_eq!(view.remove(&place), change.old, "a change starts from what was there");
        if let Some(new) = change.new {
            view.insert(place, new);
        }
    }
}

/// The view that was followed is what the replica holds.
pub fn assert_view(view: &View, replica: &Replica) {
    assert_eq!(view.len(), replica.registers());
    for ((kind, id, field), value) in view {
        assert_eq!(replica.get(*kind, id, *field).map(|register| register.value).as_ref(), Some(value));
    }
}

/// Of all that is written to any id, the same writes have effect; `rows` are the stored segments of `replica`, each op once.
pub fn assert_effects(replica: &Replica, naive: &Naive, rows: &[Chained]) {
    let raw = || rows.iter().map(|row| fabrik_op::RawSegment(std::sync::Arc::clone(row.data())));
    let effects = naive.meaning().effects;
    let ids: BTreeSet<Vec<u8>> = effects.keys().map(|place| place.1.clone()).chain((0..4).map(|number| item(number).to_vec())).collect();
    for id in ids {
        let told = |each: fabrik_merge::Touch| (each.kind, each.field, each.author, each.epoch, each.seq, each.digest, each.lamport, each.value.to_vec());
        let mut found: Vec<_> = replica.effects(raw(), &id).unwrap().into_iter().map(told).collect();
        let of_id = effects.iter().filter(|(place, _)| place.1 == id);
        let mut expected: Vec<_> = of_id
            .flat_map(|((kind, _, field), touches)| {
                touches.iter().map(|each| (*kind, *field, each.author, each.epoch, each.seq, each.digest, each.lamport, each.value.clone()))
            })
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert!(fabrik_merge::history(raw(), &id).unwrap().len() >= found.len());
    }
}
