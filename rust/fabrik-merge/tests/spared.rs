//! A revocation ends the suspension of a log: what it keeps has effect, whichever heads a node met, and in whatever order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::{Replica, Spot};
use fabrik_op::OpBody;
use fabrik_op::limits::HEADS_MAX;
use mesh::sketch::{assert_same, assert_view};
use mesh::tree::{Home, Tree, twin_of};
use mesh::{RECOVERY, binding, genesis, key, title};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const ITEM: [u8; 16] = [0x42; 16];
const TRUNK: usize = 8;

fn add(tree: &mut Tree, parent: Option<usize>, writes: Vec<fabrik_op::WriteBody>) -> usize {
    let op = OpBody { seq: tree.tip(parent).seq + 1, lamport: tree.lamport(parent) + 1, wall_ms: 0, kind: 1, writes, follows: None };
    tree.grow(parent, &op)
}

/// The log of member 1: a trunk of its own, and as many heads of whoever stole its key.
fn bush(heads: usize, places: &[Index]) -> Tree {
    let mut tree = Tree::new(1, 1);
    let mut trunk = None;
    for turn in 0..TRUNK {
        trunk = Some(add(&mut tree, trunk, vec![title(&ITEM, &format!("trunk {turn}"))]));
    }
    for (turn, place) in (1..heads).zip(places.iter().cycle()) {
        let parent = place.index(TRUNK).checked_sub(1); // Never the last: the trunk stays a branch.
        let twig = add(&mut tree, parent, vec![title(&ITEM, &format!("of the thief {turn}"))]);
        if turn % 5 == 0 {
            add(&mut tree, Some(twig), vec![title(&ITEM, "and more")]);
        }
    }
    assert_eq!(tree.leaves().len(), heads);
    tree
}

fn spot(tree: &Tree, node: usize) -> Spot {
    let segment = &tree.nodes[node].segment;
    Spot { epoch: tree.epoch, seq: segment.last_seq(), head: *segment.head() }
}

/// The admin's log: member 1 is a peer, then out, but for the first `kept` ops of the trunk.
fn admins(bush: &Tree, kept: usize) -> Tree {
    let mut tree = Tree::new(0, 1);
    let grant = add(&mut tree, None, vec![binding(&bush.public(), 3, &[], None)]);
    let keeps: Vec<Spot> = kept.checked_sub(1).map(|last| spot(bush, last)).into_iter().collect();
    add(&mut tree, Some(grant), vec![binding(&bush.public(), 0, &keeps, None)]);
    tree
}

fn shuffled<T>(mut list: Vec<T>, picks: &[Index]) -> Vec<T> {
    for (place, pick) in (1..list.len()).rev().zip(picks.iter().cycle()) {
        list.swap(place, pick.index(place + 1));
    }
    list
}

fn paths(tree: &Tree) -> Vec<Arc<[u8]>> {
    tree.leaves().into_iter().map(|leaf| tree.segment(leaf, usize::MAX)).collect()
}

/// Offers everything again and again, as peers do, until a round brings nothing.
fn take_whole(home: &mut Home, segments: &[Arc<[u8]>], size: usize) {
    loop {
        let before = home.replica.ops();
        segments.chunks(size).for_each(|batch| drop(home.take(batch)));
        if home.replica.ops() == before {
            return;
        }
    }
}

proptest! {
    #![proptest_config(mesh::proptest_config(24))]

    #[test]
    fn promise_i14_a_revocation_gives_a_suspended_log_its_kept_part_back_in_any_order(
        places in vec(any::<Index>(), 16), more in 1..9_usize, kept in 0..=TRUNK, orders in vec((vec(any::<Index>(), 32), 1..20_usize), 3),
    ) {
        let bush = bush(HEADS_MAX + more, &places);
        let trees = [admins(&bush, kept), bush];
        let naive = twin_of(&trees);
        let all: Vec<_> = trees.iter().flat_map(paths).collect();
        for (picks, size) in orders {
            let mut home = Home::new();
            take_whole(&mut home, &shuffled(all.clone(), &picks), size);
            assert_same(&home.replica, &naive);
            assert_view(&home.view, &home.replica);
            prop_assert_eq!((home.replica.suspended().count(), home.replica.stale()), (0, false));
            prop_assert_eq!(home.replica.get(1, &ITEM, 1).is_some(), kept > 0);
            assert_same(&home.reloaded(), &naive);
            assert_same(&Replica::restore(genesis(), &home.replica.snapshot()).unwrap(), &naive);
        }
    }

    #[test]
    fn promise_i14_nodes_with_other_heads_give_each_other_what_they_let_go(
        places in vec(any::<Index>(), 16), one in vec(any::<Index>(), 32), other in vec(any::<Index>(), 32), late in any::<bool>(),
    ) {
        let bush = bush(HEADS_MAX + 30, &places);
        let trees = [admins(&bush, TRUNK), bush];
        let verdict = trees[0].segment(1, usize::MAX);
        let [mut one, mut other] = [one, other].map(|picks| {
            let mut home = Home::new();
            home.take_all(&shuffled(paths(&trees[1]), &picks), &[3]);
            home
        });
        prop_assert_eq!((one.replica.suspended().count(), other.replica.suspended().count()), (1, 1));
        prop_assert_eq!(one.replica.frontier_digest(), other.replica.frontier_digest());
        one.take(std::slice::from_ref(&verdict));
        if !late {
            other.take(&[verdict]);
        }
        for _ in 0..2 {
            one.give(&mut other);
            other.give(&mut one);
        }
        let held: std::collections::BTreeSet<_> = [&one, &other].iter().flat_map(|home| home.replica.heads()).map(|head| head.head).collect();
        for home in [&one, &other] {
            prop_assert_eq!((home.replica.suspended().count(), home.replica.heads().count()), (0, held.len()), "neither holds a head that the other lacks");
            assert_view(&home.view, &home.replica);
            let title = home.replica.get(1, &ITEM, 1).map(|register| register.value);
            let trunk = trees[1].nodes[TRUNK - 1].segment.head();
            prop_assert_eq!(title.is_some(), held.contains(trunk) , "of the trunk if anybody held it to its end");
        }
        prop_assert_eq!(one.replica.state_digest(), other.replica.state_digest());
        prop_assert_eq!(one.replica.frontier_digest(), other.replica.frontier_digest());
    }
}

fn indices() -> Vec<Index> {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    (0..16).map(|_| any::<Index>().new_tree(&mut runner).unwrap().current()).collect()
}

/// Who names is the only one who can spare: not the key itself, not another member, and not by a record that puts nobody out for good.
#[test]
fn promise_i14_nobody_but_an_admin_ends_a_suspension() {
    let bush = bush(HEADS_MAX + 1, &indices());
    let victim = bush.public();
    let keeps = [spot(&bush, TRUNK - 1)];
    for (number, role, frees) in [(2_u8, 0, false), (1, 0, false), (0, 3, false), (0, 0, true), (RECOVERY, 0, true)] {
        let mut grants = Tree::new(0, 1);
        add(&mut grants, None, vec![binding(&victim, 3, &[], None), binding(&key(2).public(), 3, &[], None)]);
        let mut records = Tree::new(number, 2);
        add(&mut records, None, vec![binding(&victim, role, &keeps, None)]);
        let trees = [grants, records, bush.clone()];
        let mut home = Home::new();
        take_whole(&mut home, &trees.iter().flat_map(paths).collect::<Vec<_>>(), 10);
        assert_eq!(home.replica.suspended().count(), usize::from(!frees), "a record of role {role} by {number}");
        assert_same(&home.replica, &twin_of(&trees));
    }
}

/// The set only grows: a revocation that lost its effect (its author was put out before it) spares the log still, and then every head has effect again.
#[test]
fn a_revocation_without_effect_spares_too() {
    let bush = bush(HEADS_MAX + 1, &indices());
    let deputy = key(2).public();
    let (mut admin, mut deputies) = (Tree::new(0, 1), Tree::new(2, 1));
    let grant = add(&mut admin, None, vec![binding(&bush.public(), 3, &[], None), binding(&deputy, 4, &[], None)]);
    add(&mut deputies, None, vec![binding(&bush.public(), 0, &[], None)]);
    add(&mut admin, Some(grant), vec![binding(&deputy, 0, &[], None)]);
    let trees = [admin, deputies, bush];
    let mut home = Home::new();
    take_whole(&mut home, &trees.iter().flat_map(paths).collect::<Vec<_>>(), 7);
    assert_eq!((home.replica.suspended().count(), home.replica.heads().count()), (0, HEADS_MAX + 3));
    assert!(home.replica.get(1, &ITEM, 1).is_some());
    assert_same(&home.replica, &twin_of(&trees));
}
