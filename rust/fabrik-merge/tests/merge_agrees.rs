//! The replica and its naive twin hold the same, whatever the order, the batches, the cuts and the repeats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::naive::Naive;
use fabrik_merge::{Change, Replica};
use fabrik_op::limits::LAMPORT_STEP_MAX;
use fabrik_op::{Follows, WriteBody};
use mesh::{Log, cbor, claim, deliver, fenced, genesis, key, member, node_name, run, stage, title, tombstone, write};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const AUTHORS: u8 = 3;

/// An op without its place: what proptest can shrink.
#[derive(Debug, Clone)]
struct Sketch {
    step: u64,
    wall_ms: u64,
    kind: u64,
    follows: bool,
    writes: Vec<Pen>,
}

#[derive(Debug, Clone)]
enum Pen {
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
    /// A kind or field of a later version.
    Later(u64, u8, u64),
    /// Malformed: a wrong type, a short id, or a fence where none may be.
    Bad(u8, u8),
}

fn item(number: u8) -> [u8; 16] {
    let mut id = [0x11; 16];
    id[0] = number;
    id[15] = number / 2; // Two ids share a bucket.
    id
}

impl Pen {
    fn write(&self) -> WriteBody {
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
            Self::Later(kind, id, field) => write(kind, &item(id), field, vec![0xf6]),
            Self::Bad(id, 0) => write(1, &item(id), 1, vec![0x01]),
            Self::Bad(id, 1) => title(&item(id)[..15], "short id"),
            Self::Bad(id, _) => fenced(title(&item(id), "fence"), 9, 9, 9),
        }
    }
}

fn fence() -> impl Strategy<Value = Option<(u64, u64, u8)>> {
    prop::option::of((0..2_u64, 0..3_u64, 0..3_u8))
}

fn pen() -> impl Strategy<Value = Pen> {
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
        1 => (0..4_u8, 0..3_u8).prop_map(|(id, how)| Pen::Bad(id, how)),
    ]
}

fn sketch() -> impl Strategy<Value = Sketch> {
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

/// Logs of three authors, the admin's in two epochs.
fn logs() -> impl Strategy<Value = Vec<Log>> {
    vec(vec(sketch(), 0..7), usize::from(AUTHORS) + 1).prop_map(|sketches| {
        let names = [(0, 1), (1, 1), (2, 1), (0, 2)];
        names.into_iter().zip(sketches).map(|((author, epoch), sketches)| draw(author, epoch, &sketches)).collect()
    })
}

fn draw(author: u8, epoch: u64, sketches: &[Sketch]) -> Log {
    let mut log = Log::new(author, epoch);
    for sketch in sketches {
        let follows = sketch.follows.then_some(Follows { epoch: 1, seq: 1, head: [0; 32] });
        let lamport = (log.lamport + sketch.step).max(1);
        log.op(lamport, sketch.wall_ms, sketch.kind, sketch.writes.iter().map(Pen::write).collect(), follows);
    }
    log
}

/// Cuts each log into segments, some of which repeat ops that came before, and mixes the logs. Each log stays in order.
fn route(logs: &[Log], cuts: &[(Index, bool)], picks: &[Index]) -> Vec<Arc<[u8]>> {
    let mut cuts = cuts.iter().cycle();
    let mut picks = picks.iter().cycle();
    let mut queues: Vec<Vec<Arc<[u8]>>> = Vec::new();
    for log in logs {
        let mut queue = Vec::new();
        let mut done = 0;
        while done < log.segments.len() {
            let (size, again) = cuts.next().unwrap();
            let last = done + 1 + size.index(log.segments.len() - done);
            queue.push(log.cut(if *again { done / 2 } else { done }, last));
            if *again {
                queue.push(log.cut(done / 2, last));
            }
            done = last;
        }
        queue.reverse();
        queues.push(queue);
    }
    let mut route = Vec::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        queues.retain(|queue| !queue.is_empty());
        let place = picks.next().unwrap().index(queues.len());
        route.extend(queues[place].pop());
    }
    route
}

fn assert_same(replica: &Replica, naive: &Naive) {
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
    for head in replica.heads() {
        assert_eq!(Some(&head.clock), meaning.clocks.get(&(head.author, head.epoch, head.seq, head.head)));
    }
}

fn twin_of(logs: &[Log]) -> Naive {
    let mut naive = Naive::new(genesis());
    logs.iter().flat_map(|log| &log.segments).for_each(|segment| naive.add(segment));
    naive
}

/// What a reader of changes holds: `(kind, id, field) -> value`.
type View = std::collections::BTreeMap<(u8, Box<[u8]>, u8), Box<[u8]>>;

fn follow(view: &mut View, changes: Vec<Change>) {
    for change in changes {
        let place = (change.kind(), change.id().into(), change.field);
        assert_eq!(view.remove(&place), change.old, "a change starts from what was there");
        if let Some(new) = change.new {
            view.insert(place, new);
        }
    }
}

proptest! {
    #![proptest_config(mesh::proptest_config(400))]

    #[test]
    fn any_route_ends_in_the_same_state(
        logs in logs(),
        routes in vec((vec((any::<Index>(), prop::bool::weighted(0.2)), 8), vec(any::<Index>(), 16), vec(1..6_usize, 4)), 2),
    ) {
        let naive = twin_of(&logs);
        for (cuts, picks, sizes) in routes {
            let mut replica = Replica::new(genesis());
            let mut view = View::new();
            let mut route = &route(&logs, &cuts, &picks)[..];
            for &size in sizes.iter().cycle() {
                if route.is_empty() {
                    break;
                }
                let (batch, rest) = route.split_at(size.min(route.len()));
                follow(&mut view, deliver(&mut replica, batch));
                let _ = replica.state_digest(); // Fills the cache that later batches must clear.
                route = rest;
            }
            assert_same(&replica, &naive);
            prop_assert_eq!(view.len(), replica.registers());
            for ((kind, id, field), value) in view {
                prop_assert_eq!(replica.get(kind, &id, field).map(|register| register.value), Some(value));
            }
        }
    }

    #[test]
    fn loading_equals_merging(logs in logs(), cuts in vec((any::<Index>(), prop::bool::weighted(0.2)), 8), picks in vec(any::<Index>(), 16)) {
        let mut replica = Replica::new(genesis());
        let route = route(&logs, &cuts, &picks);
        prop_assert_eq!(mesh::load(&mut replica, &route).ops, replica.ops());
        assert_same(&replica, &twin_of(&logs));
        prop_assert_eq!(mesh::load(&mut replica, &route).ops, 0);
        assert_same(&replica, &twin_of(&logs));
    }

    #[test]
    fn part_of_the_ops_is_part_of_the_meaning(logs in logs(), ends in vec(any::<Index>(), 4)) {
        let mut replica = Replica::new(genesis());
        let mut naive = Naive::new(genesis());
        for (log, end) in logs.iter().zip(&ends) {
            let end = end.index(log.segments.len() + 1);
            log.segments[..end].iter().for_each(|segment| naive.add(segment));
            if end > 0 {
                deliver(&mut replica, &[log.cut(0, end)]);
            }
        }
        assert_same(&replica, &naive);
    }
}
