//! Logs that fork mean the same, whatever the order, the cuts, the batches and the repeats; and nodes that hold parts of them become equal by asking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::collections::BTreeSet;
use std::sync::Arc;

use fabrik_merge::naive::Naive;
use fabrik_op::Refused;
use mesh::genesis;
use mesh::sketch::{Sketch, assert_effects, assert_same, assert_view, sketch};
use mesh::tree::{Home, Tree, twin_of};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// An op and where it goes: behind the newest op, or behind any other or the start.
type Twig = (bool, Index, Sketch);

/// Logs of three authors with few kinds of ops, so that equal ones stand on several branches. The admin's have two epochs.
fn trees() -> impl Strategy<Value = Vec<Tree>> {
    let twigs = vec((prop::bool::weighted(0.6), any::<Index>(), sketch()), 0..12);
    (vec(twigs, 4), vec(sketch(), 3), vec(any::<Index>(), 8)).prop_map(|(twigs, pool, picks)| {
        let names = [(0, 1), (1, 1), (2, 1), (0, 2)];
        names.into_iter().zip(twigs).map(|((author, epoch), twigs)| plant(author, epoch, &twigs, &pool, &picks)).collect()
    })
}

fn plant(author: u8, epoch: u64, twigs: &[Twig], pool: &[Sketch], picks: &[Index]) -> Tree {
    let mut tree = Tree::new(author, epoch);
    let mut newest = None;
    for ((place, (goes_on, anywhere, own)), pick) in twigs.iter().enumerate().zip(picks.iter().cycle()) {
        let parent = if *goes_on { newest } else { anywhere.index(tree.nodes.len() + 1).checked_sub(1) };
        let sketch = if place % 2 == 0 { own } else { &pool[pick.index(pool.len())] };
        let op = sketch.op(&tree.tip(parent), tree.lamport(parent));
        newest = Some(tree.grow(parent, &op));
    }
    tree
}

/// How logs are cut and mixed: ends and lengths of segments, then a shuffle.
#[derive(Debug, Clone)]
struct Route {
    cuts: Vec<(Index, Index, usize)>,
    order: Vec<Index>,
    sizes: Vec<usize>,
}

fn route() -> impl Strategy<Value = Route> {
    (vec((any::<Index>(), any::<Index>(), 1..6_usize), 0..24), vec(any::<Index>(), 16), vec(1..6_usize, 4)).prop_map(|(cuts, order, sizes)| Route {
        cuts,
        order,
        sizes,
    })
}

impl Route {
    /// Segments of any part of any branch.
    fn some(&self, trees: &[Tree]) -> Vec<Arc<[u8]>> {
        let grown: Vec<_> = trees.iter().filter(|tree| !tree.nodes.is_empty()).collect();
        let cuts = if grown.is_empty() { &[] } else { &self.cuts[..] };
        cuts.iter()
            .map(|(tree, end, count)| {
                let tree = tree.get(&grown);
                tree.segment(end.index(tree.nodes.len()), *count)
            })
            .collect()
    }

    /// The same and every leaf's whole path or its single ops, in any order.
    fn all(&self, trees: &[Tree]) -> Vec<Arc<[u8]>> {
        let mut segments = self.some(trees);
        let mut picks = self.order.iter().cycle();
        for tree in trees {
            for leaf in tree.leaves() {
                let whole = picks.next().unwrap().index(2) == 0;
                segments.extend(if whole {
                    vec![tree.segment(leaf, usize::MAX)]
                } else {
                    tree.path(leaf).into_iter().map(|node| tree.segment(node, 1)).collect()
                });
            }
        }
        for place in (1..segments.len()).rev() {
            segments.swap(place, picks.next().unwrap().index(place + 1));
        }
        segments
    }
}

proptest! {
    #![proptest_config(mesh::proptest_config(150))]

    #[test]
    fn promise_i10_forks_mean_the_same_by_any_route(trees in trees(), routes in vec(route(), 2)) {
        let naive = twin_of(&trees);
        let ops: usize = trees.iter().map(|tree| tree.nodes.len()).sum();
        for route in routes {
            let mut home = Home::new();
            home.take_all(&route.all(&trees), &route.sizes);
            assert_same(&home.replica, &naive);
            assert_view(&home.view, &home.replica);
            assert_effects(&home.replica, &naive, &home.rows);
            prop_assert_eq!(home.replica.ops(), ops as u64, "each op once");
            prop_assert_eq!(home.replica.heads().count(), naive.leaves().len());
            let again = home.replica.ops();
            home.take_all(&route.all(&trees), &[3]);
            prop_assert_eq!(home.replica.ops(), again, "repeats are nothing");
        }
    }

    #[test]
    fn promise_i1_a_restart_finds_the_same_branches(trees in trees(), route in route()) {
        let mut home = Home::new();
        home.take_all(&route.all(&trees), &route.sizes);
        let fresh = home.reloaded();
        prop_assert!(fresh.heads().eq(home.replica.heads()));
        prop_assert_eq!(fresh.state_digest(), home.replica.state_digest());
        prop_assert_eq!((fresh.lamport(), fresh.voided()), (home.replica.lamport(), home.replica.voided()));
        for row in &home.rows {
            let check = |branch| home.replica.check(row.author(), row.epoch(), branch, &mesh::verify(row.data()));
            prop_assert_eq!(check(row.branch), Ok(()));
            prop_assert!(check(row.branch + 1).is_err(), "a row is of one branch");
        }
    }

    #[test]
    fn promise_i10_a_damaged_store_keeps_its_numbers_and_is_made_whole_again(trees in trees(), route in route(), hits in vec(any::<Index>(), 1..4)) {
        let mut home = Home::new();
        home.take_all(&route.all(&trees), &route.sizes);
        if home.rows.is_empty() {
            return Ok(());
        }
        let damaged: BTreeSet<usize> = hits.iter().map(|hit| hit.index(home.rows.len())).collect();
        let read = |place: usize| if damaged.contains(&place) { Err(Refused::invalid("damaged")) } else { Ok(mesh::verify(home.rows[place].data())) };
        let branches: Vec<u32> = home.rows.iter().map(|row| row.branch).collect();
        let mut fresh = Home::new();
        let outcome = fresh.replica.load((0..home.rows.len()).map(read).collect(), &branches).unwrap();
        prop_assert_eq!(outcome.damaged.iter().map(|(place, _)| *place).collect::<BTreeSet<_>>(), damaged.clone());
        for (place, row) in home.rows.iter().enumerate() {
            let held = !damaged.contains(&place) && !outcome.stranded.contains(&place);
            if held {
                prop_assert_eq!(fresh.replica.check(row.author(), row.epoch(), row.branch, &mesh::verify(row.data())), Ok(()));
            }
        }
        let kept = (0..home.rows.len()).filter(|place| !damaged.contains(place) && !outcome.stranded.contains(place));
        prop_assert_eq!(kept.map(|place| home.rows[place].len() as u64).sum::<u64>(), outcome.ops, "what is not named is held");
        for place in outcome.stranded.iter().chain(&damaged).chain(&outcome.stranded) {
            let outcome = fresh.replica.chain(&[mesh::verify(home.rows[*place].data())], true).unwrap();
            fresh.replica.merge(&outcome.chained).unwrap();
        }
        let again: Vec<_> = home.rows.iter().map(|row| mesh::verify(row.data())).collect();
        let healed = fresh.replica.chain(&again, true).unwrap();
        fresh.replica.merge(&healed.chained).unwrap();
        assert_same(&fresh.replica, &twin_of(&trees));
    }

    #[test]
    fn promise_i10_places_are_on_every_path(trees in trees(), route in route()) {
        let mut home = Home::new();
        home.take_all(&route.all(&trees), &route.sizes);
        for tree in trees.iter().filter(|tree| !tree.nodes.is_empty()) {
            let mut wanted = BTreeSet::new();
            for path in tree.leaves().into_iter().map(|leaf| tree.path(leaf)) {
                let back = [0, 1, 2, 4, 8, 16].into_iter().filter(|back| *back < path.len()).map(|back| path.len() - 1 - back);
                wanted.extend(back.chain([0]).map(|place| (place as u64 + 1, *tree.nodes[path[place]].segment.head().first_chunk().unwrap())));
            }
            let places = home.replica.places(&tree.public(), tree.epoch);
            prop_assert_eq!(places.len(), wanted.len(), "each once");
            prop_assert_eq!(places.into_iter().collect::<BTreeSet<_>>(), wanted);
            prop_assert_eq!(home.replica.cursors(&tree.public(), tree.epoch, &home.replica.places(&tree.public(), tree.epoch)), []);
        }
    }

    #[test]
    fn promise_i10_part_of_a_fork_is_part_of_the_meaning(trees in trees(), route in route()) {
        let mut home = Home::new();
        route.some(&trees).chunks(3).for_each(|batch| { home.take(batch); });
        let mut naive = Naive::new(genesis());
        home.rows.iter().for_each(|row| naive.add(row));
        assert_same(&home.replica, &naive);
    }

    #[test]
    fn promise_i10_nodes_with_parts_become_equal_by_asking_once(trees in trees(), routes in vec(route(), 3)) {
        let mut homes: Vec<Home> = (0..3).map(|_| Home::new()).collect();
        let mut naive = Naive::new(genesis());
        for (home, route) in homes.iter_mut().zip(&routes) {
            route.some(&trees).iter().chain(route.all(&trees).iter().take(route.sizes[0])).for_each(|segment| { home.take(&[Arc::clone(segment)]); });
            home.rows.iter().for_each(|row| naive.add(row));
        }
        for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (1, 0)] {
            let mut other = std::mem::replace(&mut homes[to], Home::new());
            let (had, gives) = (other.replica.ops(), homes[from].replica.ops());
            let (_, duplicates) = homes[from].give(&mut other);
            prop_assert!(duplicates <= had.min(gives), "{} of {} were sent again", duplicates, had);
            prop_assert_eq!(homes[from].give(&mut other), (0, 0), "one exchange is enough");
            homes[to] = other;
        }
        for home in &homes {
            assert_same(&home.replica, &naive);
            assert_view(&home.view, &home.replica);
        }
    }
}
