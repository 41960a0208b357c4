//! All small worlds: every forest of a few ops in one or two logs, in every order, in single ops, batches and whole branches, against the naive twin;
//! every pair of nodes with parts of a forked log; every way in which a 65th head can arrive.
//!
//! `SMALL_WORLDS=4` takes worlds of one op more than the default: minutes in place of seconds. A failure prints its world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use fabrik_merge::{Chained, Replica};
use fabrik_op::OpBody;
use fabrik_op::limits::HEADS_MAX;
use mesh::sketch::{View, assert_same, assert_view, follow};
use mesh::small::Letter::{Admit, Borrowed, Claim, Expel, Far, Fenced, Genesis, Late, Later, Leap, Malformed, Opening, Release, Title, Tombstone, Torn};
use mesh::small::{ITEM, Letter, Script, Sight, World, orders, over_all, shapes};
use mesh::tree::{Home, Tree, twin_of};
use mesh::{genesis, title, tombstone};

const SIZE: usize = 3;

/// Ops of the largest worlds.
#[allow(clippy::disallowed_methods)] // How long a test may take is for who starts it.
fn size() -> usize {
    std::env::var("SMALL_WORLDS").map_or(SIZE, |size| size.parse().expect("SMALL_WORLDS is a number of ops"))
}

/// Says how many there were (`--nocapture` shows it), and that at the default size no fewer than always.
#[allow(clippy::disallowed_macros)] // To the test's own output.
fn count(what: &str, found: usize, at_default: usize) {
    println!("small worlds: {found} {what}");
    if size() == SIZE {
        assert_eq!(found, at_default, "{what}");
    }
}

/// Two logs of `size` ops together. `lone`: one of them may be empty.
fn pairs(size: usize, (one, other): ((u8, u64), (u8, u64)), lone: bool, letters: &[Letter]) -> Vec<Vec<Script>> {
    let script = |(author, epoch): (u8, u64), shape: &_| Script::new(author, epoch, shape, letters);
    let sizes = usize::from(!lone)..size + usize::from(lone);
    let pairs = sizes.flat_map(|first| {
        let seconds = shapes(size - first, letters.len());
        shapes(first, letters.len()).into_iter().flat_map(move |shape| seconds.clone().into_iter().map(move |second| (shape.clone(), second)))
    });
    pairs.map(|(first, second)| vec![script(one, &first), script(other, &second)]).collect()
}

/// A node without disk and wire: a replica, what it stored, what its readers hold, which ops it has.
struct Node {
    replica: Replica,
    rows: Vec<(usize, Chained)>,
    view: View,
    held: usize,
}

impl Node {
    fn new() -> Self {
        Self { replica: Replica::new(genesis()), rows: Vec::new(), view: View::new(), held: 0 }
    }

    /// Takes one op, which must fit if the one before it is held, and must change nothing if not.
    fn take(&mut self, world: &mut World, op: usize) -> bool {
        let outcome = self.replica.chain(std::slice::from_ref(&world.ops[op].verified), true).unwrap();
        let fits = world.fits(self.held, op);
        assert_eq!((outcome.chained.len(), outcome.gaps.len(), outcome.duplicates, outcome.refused), (usize::from(fits), usize::from(!fits), 0, 0));
        let changes = self.replica.merge(&outcome.chained).unwrap();
        follow(&mut self.view, &self.replica, changes.iter());
        self.rows.extend(outcome.chained.into_iter().map(|chained| (op, chained)));
        self.held |= usize::from(fits) << op;
        world.check(self.held, &self.replica);
        fits
    }

    /// Takes single ops in this order; one that found a gap waits. `restored`: goes on from a snapshot after each.
    fn take_all(&mut self, world: &mut World, order: &[usize], restored: bool) {
        let mut waiting: Vec<usize> = Vec::new();
        for &op in order {
            waiting.push(op);
            loop {
                let before = waiting.len();
                waiting.retain(|&op| !self.take(world, op));
                if waiting.len() == before || waiting.is_empty() {
                    break;
                }
            }
            if restored {
                self.replica = Replica::restore(genesis(), &self.replica.snapshot()).unwrap();
                world.check(self.held, &self.replica);
            }
        }
        assert_view(&self.view, &self.replica);
    }

    /// A restart: the same branches with the same numbers, the same meaning.
    fn restarted(&self, world: &mut World) {
        let mut fresh = Replica::new(genesis());
        let branches: Vec<u32> = self.rows.iter().map(|(_, row)| row.branch).collect();
        let loaded = fresh.load(self.rows.iter().map(|(op, _)| Ok(world.ops[*op].verified.clone())).collect(), &branches).unwrap();
        assert_eq!((loaded.damaged.len(), loaded.stranded.len()), (0, 0));
        assert!(fresh.heads().eq(self.replica.heads()));
        world.check(self.held, &fresh);
    }

    /// Sends what the other's places lack, for the first log of the world, as one exchange of sync does. False if it lacked nothing.
    fn give(&self, world: &mut World, other: &mut Self) -> bool {
        let (author, epoch) = world.log(0);
        if self.replica.heads().all(|head| other.replica.holds(&author, epoch, head.seq, &head.head)) {
            return false;
        }
        let places = other.replica.places(&author, epoch);
        for (branch, seq) in self.replica.cursors(&author, epoch, &places) {
            for (op, _) in self.rows.iter().filter(|(_, row)| row.branch == branch && row.first_seq() > seq) {
                if other.held >> op & 1 == 0 {
                    assert!(other.take(world, *op), "what cursors name fits in their order");
                } else {
                    assert!(world.ops.len() > 4, "so few ops are all among the places: nothing is sent twice");
                }
            }
        }
        true
    }
}

/// One batch in this order, then what was left of it, until nothing is.
fn in_batches(world: &mut World, order: &[usize]) {
    let (mut replica, mut held, mut left) = (Replica::new(genesis()), 0, order.to_vec());
    while !left.is_empty() {
        let batch: Vec<_> = left.iter().map(|&op| world.ops[op].verified.clone()).collect();
        let outcome = replica.chain(&batch, true).unwrap();
        let count = left.len();
        left.retain(|&op| {
            let fits = world.fits(held, op);
            held |= usize::from(fits) << op;
            !fits
        });
        assert_eq!((outcome.chained.len(), outcome.gaps.len(), outcome.duplicates), (count - left.len(), left.len(), 0));
        replica.merge(&outcome.chained).unwrap();
        world.check(held, &replica);
    }
}

/// Whole branches, which overlap.
fn in_paths(world: &mut World) {
    let leaves: Vec<usize> = (0..world.ops.len()).filter(|&op| world.ops.iter().all(|other| other.parent != Some(op))).collect();
    let path = |leaf| std::iter::successors(Some(leaf), |&op: &usize| world.ops[op].parent).collect::<Vec<_>>();
    let paths: Vec<Vec<usize>> = leaves.into_iter().map(path).collect();
    let joined = paths.iter().map(|path| {
        let parts: Vec<_> = path.iter().rev().map(|&op| world.ops[op].segment.data().clone()).collect();
        mesh::verify(&fabrik_op::coalesce(&parts, usize::MAX).unwrap()[0])
    });
    let segments: Vec<_> = joined.collect();
    for order in orders(paths.len()) {
        let (mut replica, mut held) = (Replica::new(genesis()), 0);
        for place in order {
            let before = u64::from(usize::count_ones(held));
            held = paths[place].iter().fold(held, |held, op| held | 1 << op);
            let outcome = replica.chain(&[segments[place].clone()], true).unwrap();
            replica.merge(&outcome.chained).unwrap();
            assert_eq!(outcome.duplicates + u64::from(held.count_ones()) - before, paths[place].len() as u64);
            world.check(held, &replica);
        }
    }
}

#[test]
fn promise_i1_every_small_world_means_one_thing_in_every_order() {
    let all = [Title(0), Late, Far, Malformed, Tombstone, Claim, Release, Fenced, Borrowed, Admit, Leap, Opening, Genesis, Later];
    let (who_wins, clocks) = ([Title(0), Far, Malformed, Tombstone, Claim, Fenced, Borrowed], [Title(0), Late, Far, Leap, Opening]);
    let mut worlds = pairs(size(), ((0, 1), (1, 1)), true, &who_wins);
    worlds.extend(pairs(size() - 1, ((0, 1), (1, 1)), true, &all));
    worlds.extend(pairs(size() - 1, ((1, 1), (1, 2)), false, &all));
    worlds.extend(shapes(size(), clocks.len()).iter().map(|shape| vec![Script::new(0, 2, shape, &clocks)]));
    let orders = [orders(size() - 1), orders(size())];
    over_all(&worlds, |library, script| {
        let mut world = World::new(script, library);
        for (place, order) in orders[world.ops.len() + 1 - size()].iter().enumerate() {
            let mut node = Node::new();
            node.take_all(&mut world, order, place % 2 == 1);
            assert_eq!(node.held, world.all());
            node.restarted(&mut world);
            in_batches(&mut world, order);
        }
        in_paths(&mut world);
    });
    count("worlds in every order", worlds.len(), 3_869);
}

/// Who may write is decided at each segment: one call decides as many calls do.
#[test]
fn promise_i1_a_batch_admits_as_single_segments_do() {
    let admin = [Title(0), Far, Late, Admit, Expel, Torn, Later];
    let mut worlds = Vec::new();
    for own in 1..=size() {
        let logs = shapes(own, admin.len());
        worlds.extend(logs.iter().map(|shape| vec![Script::new(0, 1, shape, &admin), Script::new(1, 1, &vec![(None, 0)], &admin)]));
    }
    for (first, second) in
        shapes(1, admin.len()).iter().flat_map(|first| shapes(size() - 1, admin.len()).into_iter().map(move |second| (first.clone(), second)))
    {
        let scripts = [Script::new(0, 1, &first, &admin), Script::new(0, 2, &second, &admin), Script::new(1, 1, &vec![(None, 0)], &admin)];
        worlds.push(scripts.to_vec());
    }
    over_all(&worlds, |library, script| {
        let world = World::new(script, library);
        for order in orders(world.ops.len()) {
            let (mut one, mut many) = (Replica::new(genesis()), Replica::new(genesis()));
            let batch: Vec<_> = order.iter().map(|&op| world.ops[op].verified.clone()).collect();
            let together = one.chain(&batch, false).unwrap();
            one.merge(&together.chained).unwrap();
            let (mut gaps, mut unknown) = (0, false);
            for segment in &batch {
                let outcome = many.chain(std::slice::from_ref(segment), false).unwrap();
                many.merge(&outcome.chained).unwrap();
                gaps += outcome.gaps.len();
                unknown |= !outcome.unknown.is_empty();
            }
            assert_eq!((together.gaps.len(), !together.unknown.is_empty()), (gaps, unknown), "{order:?}");
            assert_eq!(Sight::of(&one), Sight::of(&many), "{order:?}");
            assert!(one.heads().eq(many.heads()));
        }
    });
    count("worlds with an author who is taken in or put out", worlds.len(), 1_386);
}

/// Every way to come to hold a part of a tree: `(ops in the order in which they were met)`.
fn ways(world: &World, held: usize, way: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    found.push(way.clone());
    for op in (0..world.ops.len()).filter(|&op| held >> op & 1 == 0 && world.fits(held, op)) {
        way.push(op);
        ways(world, held | 1 << op, way, found);
        way.pop();
    }
}

/// Equal ops stand on several branches: siblings differ, cousins need not.
#[test]
fn promise_i10_any_two_nodes_with_parts_of_a_small_fork_are_equal_after_one_exchange() {
    let ops = size() + 1;
    let letters: Vec<Letter> = (0..8).map(Title).collect();
    let mut trees = shapes(ops, ops);
    trees.retain(|shape| shape.iter().all(|&(parent, letter)| letter == 0 || shape.contains(&(parent, letter - 1))));
    let pairs = std::sync::atomic::AtomicUsize::new(0);
    over_all(&trees, |library, shape| {
        let mut world = World::new(&[Script::new(1, 1, shape, &letters)], library);
        let mut found = Vec::new();
        ways(&world, 0, &mut Vec::new(), &mut found);
        for (one_way, other_way) in found.iter().flat_map(|one| found.iter().map(move |other| (one, other))) {
            let (mut one, mut other) = (Node::new(), Node::new());
            assert!(one_way.iter().all(|&op| one.take(&mut world, op)) && other_way.iter().all(|&op| other.take(&mut world, op)));
            one.give(&mut world, &mut other);
            other.give(&mut world, &mut one);
            assert_eq!(one.held, other.held);
            assert!(!one.give(&mut world, &mut other) && !other.give(&mut world, &mut one), "one exchange is enough");
            world.check(one.held, &one.replica);
        }
        pairs.fetch_add(found.len() * found.len(), std::sync::atomic::Ordering::Relaxed);
    });
    count("pairs of nodes with parts of a tree", pairs.into_inner(), 10_274);
}

/// Of 65 heads each comes last once, to a node that goes on from a snapshot in between; and each split of them over two nodes is healed.
#[test]
fn promise_i10_whichever_head_is_the_last_one_the_log_is_suspended() {
    let (mut bush, mut plain) = (Tree::new(1, 1), Tree::new(2, 1));
    let op = |wall_ms, writes| OpBody { seq: 1, lamport: 1, wall_ms, kind: 1, writes, follows: None };
    for place in 0..=HEADS_MAX {
        let write = if place % 8 == 0 { tombstone(&ITEM, "gone") } else { title(&ITEM, "twig") };
        bush.grow(None, &op(place as u64, vec![write]));
    }
    plain.grow(None, &op(0, vec![title(&ITEM, "plain")]));
    let segments: Vec<_> = (0..=HEADS_MAX).map(|node| bush.segment(node, 1)).collect();
    let naive = twin_of(&[bush.clone(), plain.clone()]);
    for first in 0..=HEADS_MAX {
        let mut home = Home::new();
        home.take(&[plain.segment(0, 1)]);
        for place in 0..=HEADS_MAX {
            if place == first {
                home.replica = Replica::restore(genesis(), &home.replica.snapshot()).unwrap();
            }
            let outcome = home.take(&[segments[(first + place) % segments.len()].clone()]);
            assert_eq!((outcome.chained.len(), outcome.suspended.len()), (1, usize::from(place == HEADS_MAX)));
        }
        assert_same(&home.replica, &naive);
        let (mut one, mut other) = (Home::new(), Home::new());
        one.take_all(&segments[..first], &[10]);
        other.take_all(&segments[first..], &[10]);
        one.take(&[plain.segment(0, 1)]);
        one.give(&mut other);
        other.give(&mut one);
        for home in [one, other] {
            assert_same(&home.replica, &naive);
            assert_view(&home.view, &home.replica);
        }
    }
}
