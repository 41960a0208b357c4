//! A log with too many heads has no effect, whichever of them a node met first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::{Replica, SUSPENDED_SEQ};
use fabrik_op::OpBody;
use fabrik_op::limits::HEADS_MAX;
use mesh::sketch::{assert_same, assert_view};
use mesh::tree::{Home, Tree, announced, twin_of};
use mesh::{genesis, key, stage, title, tombstone, verify};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;

const ITEM: [u8; 16] = [0x42; 16];
const OTHER: [u8; 16] = [0x43; 16];

fn op(tree: &Tree, parent: Option<usize>, writes: Vec<fabrik_op::WriteBody>) -> OpBody {
    OpBody { seq: tree.tip(parent).seq + 1, lamport: tree.lamport(parent) + 1, wall_ms: 0, kind: 1, writes, follows: None }
}

fn add(tree: &mut Tree, parent: Option<usize>, writes: Vec<fabrik_op::WriteBody>) -> usize {
    let op = op(tree, parent, writes);
    tree.grow(parent, &op)
}

/// A log with a trunk and so many heads that leave it anywhere; some go on for an op.
fn bush(number: u8, heads: usize, places: &[Index]) -> Tree {
    let mut tree = Tree::new(number, 1);
    let mut trunk = None;
    for turn in 0..8 {
        trunk = Some(add(&mut tree, trunk, vec![title(&ITEM, &format!("trunk {turn}")), stage(&OTHER, turn % 3)]));
    }
    for (turn, place) in (1..heads).zip(places.iter().cycle()) {
        let parent = place.index(8).checked_sub(1); // Never the last: the trunk stays a branch.
        let twig = add(&mut tree, parent, vec![title(&ITEM, &format!("twig {turn}"))]);
        if turn % 5 == 0 {
            add(&mut tree, Some(twig), vec![stage(&ITEM, 1)]);
        }
    }
    assert_eq!(tree.leaves().len(), heads);
    tree
}

/// Another author's plain log, which writes to the same items.
fn plain() -> Tree {
    let mut tree = Tree::new(2, 1);
    let first = add(&mut tree, None, vec![title(&ITEM, "plain"), title(&OTHER, "other")]);
    add(&mut tree, Some(first), vec![stage(&ITEM, 2)]);
    tree
}

fn shuffled(mut leaves: Vec<usize>, picks: &[Index]) -> Vec<usize> {
    for (place, pick) in (1..leaves.len()).rev().zip(picks.iter().cycle()) {
        leaves.swap(place, pick.index(place + 1));
    }
    leaves
}

fn paths(tree: &Tree, leaves: &[usize]) -> Vec<Arc<[u8]>> {
    leaves.iter().map(|&leaf| tree.segment(leaf, usize::MAX)).collect()
}

proptest! {
    #![proptest_config(mesh::proptest_config(24))]

    #[test]
    fn promise_i10_any_sixty_five_heads_suspend_a_log_and_undo_it(
        places in vec(any::<Index>(), 16), more in 1..9_usize, orders in vec((vec(any::<Index>(), 32), 1..20_usize), 3),
    ) {
        let trees = [bush(1, HEADS_MAX + more, &places), plain()];
        let naive = twin_of(&trees);
        let mut seen = Vec::new();
        for (picks, size) in orders {
            let mut home = Home::new();
            let mut segments = paths(&trees[0], &shuffled(trees[0].leaves(), &picks));
            segments.insert(size - 1, trees[1].segment(1, usize::MAX));
            home.take_all(&segments, &[size]);
            assert_same(&home.replica, &naive);
            assert_view(&home.view, &home.replica);
            prop_assert_eq!(home.adopted, 1);
            prop_assert_eq!(home.replica.suspended().collect::<Vec<_>>(), [(trees[0].public(), 1)]);
            prop_assert_eq!(home.replica.heads().filter(|head| head.author == trees[0].public()).count(), HEADS_MAX + 1);
            let late = home.take(&segments);
            prop_assert_eq!((late.chained.len(), late.refused, late.duplicates), (0, segments.len() as u64 - 1, 2));
            seen.push(home);
        }
        prop_assert_eq!(seen[0].replica.frontier_digest(), seen[1].replica.frontier_digest());
        prop_assert_eq!(seen[0].replica.state_digest(), seen[2].replica.state_digest());
    }

    #[test]
    fn promise_i10_halves_of_a_bush_suspend_each_other(places in vec(any::<Index>(), 16), picks in vec(any::<Index>(), 32), common in 1..30_usize) {
        let trees = [bush(1, HEADS_MAX + 1, &places), plain()];
        let leaves = shuffled(trees[0].leaves(), &picks);
        let half = leaves.len() / 2 + common.min(20);
        let (mut one, mut other) = (Home::new(), Home::new());
        one.take_all(&paths(&trees[0], &leaves[..half]), &[7]);
        other.take_all(&paths(&trees[0], &leaves[leaves.len() - half..]), &[5]);
        other.take(&[trees[1].segment(1, usize::MAX)]);
        prop_assert!(!one.replica.suspended().any(|_| true) && !other.replica.suspended().any(|_| true));
        one.give(&mut other);
        prop_assert_eq!(other.replica.suspended().count(), 1);
        other.give(&mut one);
        let naive = twin_of(&trees);
        prop_assert_eq!(one.give(&mut other), (0, 0), "the marker is held");
        prop_assert_eq!(other.give(&mut one), (0, 0));
        assert_same(&one.replica, &naive);
        assert_same(&other.replica, &naive);
        assert_view(&one.view, &one.replica);
        assert_view(&other.view, &other.replica);
    }
}

fn indices() -> Vec<Index> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    (0..16).map(|_| any::<Index>().new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn promise_i10_sixty_four_heads_have_effect() {
    let tree = bush(1, HEADS_MAX, &indices());
    let mut home = Home::new();
    home.take_all(&paths(&tree, &tree.leaves()), &[9]);
    assert_same(&home.replica, &twin_of(&[tree]));
    assert!(home.replica.suspended().next().is_none() && home.replica.registers() > 0);
}

/// A home with a suspended log, and that log.
fn suspended(number: u8) -> (Home, Tree) {
    let tree = bush(number, HEADS_MAX + 1, &indices());
    let mut home = Home::new();
    home.take_all(&paths(&tree, &tree.leaves()), &[100]);
    (home, tree)
}

#[test]
fn nothing_more_of_a_suspended_log_is_taken_or_written() {
    let (mut home, mut tree) = suspended(1);
    let head = home.replica.heads().next().unwrap();
    let leaf = tree.leaves()[0];
    let next = add(&mut tree, Some(leaf), vec![title(&ITEM, "late")]);
    let outcome = home.take(&[tree.segment(next, 1), tree.segment(0, 1)]);
    assert_eq!((outcome.chained.len(), outcome.refused, outcome.duplicates, outcome.gaps.len()), (0, 2, 0, 0));
    assert!(home.replica.draft(key(1), 1).unwrap_err().to_string().contains("suspended"));
    assert!(home.replica.draft(key(1), 2).is_ok());
    let mut elsewhere = Replica::new(genesis());
    elsewhere.merge(&elsewhere.chain(&[verify(&tree.segment(leaf, usize::MAX))], true).unwrap().chained).unwrap();
    let chained = elsewhere.chain(&[verify(&tree.segment(next, 1))], true).unwrap().chained;
    assert!(home.replica.merge(&chained).unwrap_err().to_string().contains("suspended log"));
    assert!(!home.replica.holds(&head.author, 1, head.seq, &head.head));
    assert!(home.replica.holds(&head.author, 1, SUSPENDED_SEQ, &[0; 32]));
    assert_eq!(announced(&home.replica, &head.author, 1), [(SUSPENDED_SEQ, [0; 32])]);
}

#[test]
fn a_restart_knows_or_finds_what_is_suspended() {
    let (home, tree) = suspended(1);
    let mut forgetful = Replica::new(genesis());
    for part in home.rows.chunks(40) {
        forgetful.load(part.iter().map(|row| Ok(verify(row.data()))).collect(), &[]).unwrap();
    }
    assert!(forgetful.stale(), "a crash between storing and noting it");
    assert_ne!(forgetful.state_digest(), home.replica.state_digest());
    assert_eq!(forgetful.frontier_digest(), home.replica.frontier_digest());
    let mut fresh = home.reloaded();
    assert!(!fresh.stale());
    forgetful.adopt(&mut fresh).unwrap();
    assert_eq!(forgetful.state_digest(), home.replica.state_digest());
    let noted = Replica::with_suspended(genesis(), [(tree.public(), 1)]);
    assert_eq!(noted.frontier_digest(), home.replica.frontier_digest(), "it counts although nothing of it is held");
    assert_eq!((noted.heads().count(), noted.suspended().count()), (0, 1));
}

#[test]
fn adopting_refuses_what_is_not_the_same() {
    let (home, tree) = suspended(1);
    let mut stale = Replica::new(genesis());
    stale.load(home.rows.iter().map(|row| Ok(verify(row.data()))).collect(), &[]).unwrap();
    let before = (stale.state_digest(), stale.ops());
    let mut part = Replica::with_suspended(genesis(), [(tree.public(), 1)]);
    part.load(home.rows[1..].iter().map(|row| Ok(verify(row.data()))).collect(), &[]).unwrap();
    let mut also_stale = Replica::new(genesis());
    also_stale.load(home.rows.iter().map(|row| Ok(verify(row.data()))).collect(), &[]).unwrap();
    let mut more = Replica::with_suspended(genesis(), [(tree.public(), 1), (tree.public(), 2)]);
    more.load(home.rows.iter().map(|row| Ok(verify(row.data()))).collect(), &[]).unwrap();
    for (fresh, reason) in [(&mut part, "other heads"), (&mut also_stale, "stale itself"), (&mut more, "other heads")] {
        let ops = fresh.ops();
        assert!(stale.adopt(fresh).unwrap_err().to_string().contains(reason));
        assert_eq!((stale.state_digest(), stale.ops(), stale.stale(), fresh.ops()), (before.0, before.1, true, ops));
    }
}

#[test]
fn what_a_suspended_log_deleted_comes_back() {
    let mut tree = bush(1, HEADS_MAX, &indices());
    let plain = plain();
    let mut home = Home::new();
    home.take(&[plain.segment(1, usize::MAX)]);
    home.take_all(&paths(&tree, &tree.leaves()), &[100]);
    let last = tree.leaves()[0];
    let grave = add(&mut tree, Some(last), vec![tombstone(&ITEM, "gone")]);
    home.take(&[tree.segment(grave, 1)]);
    assert!(home.replica.tombstoned(&ITEM));
    let one_more = add(&mut tree, None, vec![title(&OTHER, "one head too many")]);
    let outcome = home.take(&[tree.segment(one_more, 1)]);
    assert_eq!((outcome.suspended, outcome.forks.len(), outcome.chained.len()), (vec![(tree.public(), 1)], 1, 1));
    assert!(!home.replica.tombstoned(&ITEM));
    assert_view(&home.view, &home.replica);
    assert_same(&home.replica, &twin_of(&[tree, plain]));
}
