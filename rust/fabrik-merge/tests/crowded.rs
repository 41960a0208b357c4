//! The genesis admin's log has any number of heads and keeps its effect: who is a member comes out of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::{CROWDED_SEQ, Replica, SUSPENDED_SEQ};
use fabrik_op::limits::HEADS_MAX;
use fabrik_op::{OpBody, VerifiedSegment};
use mesh::sketch::{assert_same, assert_view};
use mesh::tree::{Home, Tree, announced, twin_of};
use mesh::{genesis, key, member, title, tombstone, verify};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const ITEM: [u8; 16] = [0x42; 16];
const TRUNK: usize = 6;

fn add(tree: &mut Tree, parent: Option<usize>, writes: Vec<fabrik_op::WriteBody>) -> usize {
    let op = OpBody { seq: tree.tip(parent).seq + 1, lamport: tree.lamport(parent) + 1, wall_ms: 0, kind: 1, writes, follows: None };
    tree.grow(parent, &op)
}

/// A log of the admin with so many heads, in an epoch of its own; members come and go on its twigs, and some twigs go on.
fn crowd(epoch: u64, heads: usize, places: &[Index]) -> Tree {
    let mut tree = Tree::new(0, epoch);
    let mut trunk = None;
    for turn in 0..TRUNK {
        trunk = Some(add(&mut tree, trunk, vec![title(&ITEM, &format!("trunk {turn}"))]));
    }
    for (turn, place) in (1..heads).zip(places.iter().cycle()) {
        let parent = place.index(TRUNK).checked_sub(1); // Never the last: the trunk stays a branch.
        let subject = key([1, 2, 3][turn % 3]).public();
        let role = if turn % 2 == 0 { 2 } else { 0 };
        let twig = add(&mut tree, parent, vec![member(&subject, role), title(&ITEM, &format!("twig {turn}"))]);
        if turn % 5 == 0 {
            add(&mut tree, Some(twig), vec![member(&key(4).public(), 2), title(&ITEM, "and a leaf")]);
        }
    }
    assert_eq!(tree.leaves().len(), heads);
    tree
}

fn shuffled<T>(mut list: Vec<T>, picks: &[Index]) -> Vec<T> {
    for (place, pick) in (1..list.len()).rev().zip(picks.iter().cycle()) {
        list.swap(place, pick.index(place + 1));
    }
    list
}

fn paths(tree: &Tree, leaves: &[usize]) -> Vec<Arc<[u8]>> {
    leaves.iter().map(|&leaf| tree.segment(leaf, usize::MAX)).collect()
}

/// Logs of members 1 to 4, with an op or two each.
fn members() -> Vec<Tree> {
    let grown = |number| {
        let mut tree = Tree::new(number, 1);
        let first = add(&mut tree, None, vec![title(&ITEM, &format!("of member {number}"))]);
        add(&mut tree, Some(first), vec![tombstone(&[number; 16], "gone")]);
        tree
    };
    (1..=4).map(grown).collect()
}

/// Takes segments as a node does that admits members only, and offers again those of authors that it did not know.
fn take_admitted(replica: &mut Replica, mut waiting: Vec<VerifiedSegment>) {
    loop {
        let before = (replica.ops(), waiting.len());
        waiting.retain(|segment| {
            let outcome = replica.chain(std::slice::from_ref(segment), false).unwrap();
            assert_eq!((outcome.refused, outcome.suspended.len(), outcome.gaps.len()), (0, 0, 0));
            replica.merge(&outcome.chained).unwrap();
            !outcome.unknown.is_empty()
        });
        if (replica.ops(), waiting.len()) == before {
            return;
        }
    }
}

proptest! {
    #![proptest_config(mesh::proptest_config(16))]

    #[test]
    fn promise_i10_any_number_of_heads_of_the_admins_log_have_effect_in_any_order(
        places in vec(any::<Index>(), 16), more in 1..20_usize, orders in vec((vec(any::<Index>(), 32), 1..20_usize), 3),
    ) {
        let trees = [vec![crowd(1, HEADS_MAX + more, &places), crowd(7, HEADS_MAX + 1, &places)], members()].concat();
        let naive = twin_of(&trees);
        for (picks, size) in orders {
            let mut home = Home::new();
            home.take_all(&shuffled(trees.iter().flat_map(|tree| paths(tree, &tree.leaves())).collect(), &picks), &[size]);
            assert_same(&home.replica, &naive);
            assert_view(&home.view, &home.replica);
            prop_assert_eq!((home.adopted, home.replica.suspended().count(), home.replica.stale()), (0, 0, false));
            for (tree, heads) in [(&trees[0], HEADS_MAX + more), (&trees[1], HEADS_MAX + 1)] {
                prop_assert_eq!(home.replica.heads().filter(|head| (head.author, head.epoch) == (tree.public(), tree.epoch)).count(), heads);
            }
            let restored = Replica::restore(genesis(), &home.replica.snapshot()).unwrap();
            for again in [&restored, &home.reloaded(), &Replica::restore(genesis(), &restored.snapshot()).unwrap()] {
                assert_same(again, &naive);
                prop_assert_eq!(announced(again, &trees[0].public(), 1), announced(&home.replica, &trees[0].public(), 1));
            }
        }
    }

    #[test]
    fn promise_i10_whom_a_crowded_log_admits_does_not_depend_on_the_order(
        places in vec(any::<Index>(), 16), more in 1..9_usize, one in vec(any::<Index>(), 32), other in vec(any::<Index>(), 32),
    ) {
        let admins = crowd(1, HEADS_MAX + more, &places);
        let segments: Vec<_> = members().iter().chain([&admins]).flat_map(|tree| paths(tree, &tree.leaves())).map(|path| verify(&path)).collect();
        let [first, second] = [one, other].map(|picks| {
            let mut replica = Replica::new(genesis());
            // What a member wrote before he was sent away is a matter of revocation: all of the admin's log first, as sync sends it.
            let (admins, others) = shuffled(segments.clone(), &picks).into_iter().partition(|segment| *segment.author() == key(0).public());
            take_admitted(&mut replica, admins);
            take_admitted(&mut replica, others);
            replica
        });
        prop_assert!(first.is_admitted(&key(4).public()), "a record of one of so many twigs");
        prop_assert_eq!(first.state_digest(), second.state_digest());
        prop_assert_eq!(first.frontier_digest(), second.frontier_digest());
    }

    #[test]
    fn promise_i10_parts_of_a_crowded_log_become_the_whole_in_one_exchange_each_way(
        places in vec(any::<Index>(), 16), picks in vec(any::<Index>(), 32), common in 1..70_usize,
    ) {
        let trees = [crowd(1, 140 - common, &places)];
        let leaves = shuffled(trees[0].leaves(), &picks);
        let (mut one, mut other) = (Home::new(), Home::new());
        one.take_all(&paths(&trees[0], &leaves[..70]), &[7]);
        other.take_all(&paths(&trees[0], &leaves[leaves.len() - 70..]), &[5]);
        prop_assert_eq!((one.give(&mut other).0, other.give(&mut one).0), (1, 1));
        prop_assert_eq!((one.give(&mut other), other.give(&mut one)), ((0, 0), (0, 0)), "each holds the marker of the other");
        let naive = twin_of(&trees);
        assert_same(&one.replica, &naive);
        assert_same(&other.replica, &naive);
    }
}

/// More branches than a question has places: those that it does not name are sent from their base, and that is all.
#[test]
fn promise_i10_more_heads_than_places_cost_duplicates_and_become_equal() {
    let mut tree = Tree::new(0, 1);
    let root = add(&mut tree, None, vec![title(&ITEM, "root")]);
    for turn in 0..1_300 {
        add(&mut tree, Some(root), vec![title(&ITEM, &format!("twig {turn}"))]);
    }
    let leaves = tree.leaves();
    let (mut one, mut other) = (Home::new(), Home::new());
    one.take(&paths(&tree, &leaves[..1_200]));
    other.take(&paths(&tree, &leaves[100..]));
    assert_eq!(one.replica.places(&tree.public(), 1).len(), 1_024);
    let (asked, duplicates) = one.give(&mut other);
    assert!(asked == 1 && (1..=176 + 1).contains(&duplicates), "{duplicates} ops twice");
    other.give(&mut one);
    assert_eq!((one.give(&mut other), other.give(&mut one)), ((0, 0), (0, 0)));
    assert_eq!(one.replica.frontier_digest(), other.replica.frontier_digest());
    assert_eq!(one.replica.state_digest(), other.replica.state_digest());
    assert_eq!(one.replica.heads().count(), 1_300);
}

#[test]
fn the_marker_is_held_by_those_who_have_exactly_these_heads() {
    let mut tree = Tree::new(0, 1);
    let root = add(&mut tree, None, vec![title(&ITEM, "root")]);
    let mut home = Home::new();
    for turn in 0..HEADS_MAX {
        let twig = add(&mut tree, Some(root), vec![title(&ITEM, &format!("twig {turn}"))]);
        home.take(&[tree.segment(twig, usize::MAX)]);
    }
    let author = tree.public();
    assert_eq!((home.replica.marker(&author, 1), announced(&home.replica, &author, 1).len()), (None, HEADS_MAX));
    let mut seen = vec![(CROWDED_SEQ, [0; 32]), (SUSPENDED_SEQ, [0; 32])];
    for turn in 0..3 {
        let twig = add(&mut tree, Some(root), vec![title(&ITEM, &format!("one more {turn}"))]);
        home.take(&[tree.segment(twig, usize::MAX)]);
        let marker = home.replica.marker(&author, 1).unwrap();
        assert_eq!((marker.0, &announced(&home.replica, &author, 1)[..]), (CROWDED_SEQ, &[marker][..]));
        assert!(home.replica.holds(&author, 1, marker.0, &marker.1) && !seen.contains(&marker));
        assert!(seen.iter().all(|(seq, head)| !home.replica.holds(&author, 1, *seq, head)));
        assert!(home.replica.heads().all(|head| home.replica.holds(&author, 1, head.seq, &head.head)), "its heads are held too");
        seen.push(marker);
    }
    assert!(home.replica.draft(key(0), 1).is_ok());
}

#[test]
fn what_an_older_version_noted_of_the_admins_log_is_left_out() {
    let replica = Replica::with_suspended(genesis(), [(key(0).public(), 1), (key(1).public(), 1)]);
    assert_eq!(replica.suspended().collect::<Vec<_>>(), [(key(1).public(), 1)]);
}
