//! The replica and its naive twin hold the same, whatever the order, the batches, the cuts and the repeats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::Replica;
use fabrik_merge::naive::Naive;
use mesh::sketch::{AUTHORS, Sketch, View, assert_same, assert_view, follow, sketch};
use mesh::{Log, deliver, genesis};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

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
        let op = sketch.op(&log.tip, log.lamport);
        log.op(op.lamport, op.wall_ms, op.kind, op.writes, op.follows);
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

fn twin_of(logs: &[Log]) -> Naive {
    let mut naive = Naive::new(genesis());
    logs.iter().flat_map(|log| &log.segments).for_each(|segment| naive.add(segment));
    naive
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
                let changes = deliver(&mut replica, batch);
                follow(&mut view, &replica, changes);
                let _ = replica.state_digest(); // Fills the cache that later batches must clear.
                route = rest;
            }
            assert_same(&replica, &naive);
            assert_view(&view, &replica);
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
