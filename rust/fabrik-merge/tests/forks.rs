//! Single cases of logs that fork: clocks at the fork, equal ops on two branches, what is refused, what is asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::naive::Naive;
use fabrik_merge::{Base, Chained, Replica};
use fabrik_op::OpBody;
use fabrik_op::limits::{HEADS_MAX, LAMPORT_STEP_MAX};
use mesh::sketch::assert_same;
use mesh::tree::{Home, Tree, twin_of};
use mesh::{Log, deliver, genesis, title, verify};

const ITEM: [u8; 16] = [0x42; 16];

/// Adds an op with this lamport and title.
fn add(tree: &mut Tree, parent: Option<usize>, lamport: u64, text: &str) -> usize {
    let seq = tree.tip(parent).seq + 1;
    tree.grow(parent, &OpBody { seq, lamport, wall_ms: 0, kind: 1, writes: vec![title(&ITEM, text)], follows: None })
}

fn line(lamports: &[u64]) -> Tree {
    let mut tree = Tree::new(1, 1);
    let mut last = None;
    for (turn, &lamport) in lamports.iter().enumerate() {
        last = Some(add(&mut tree, last, lamport, &format!("line {turn}")));
    }
    tree
}

fn clocks(replica: &Replica) -> Vec<u64> {
    replica.heads().map(|head| head.clock).collect()
}

#[test]
fn promise_i12_the_clock_of_a_branch_is_that_of_its_path() {
    const FAR: u64 = 10 * LAMPORT_STEP_MAX;
    let mut tree = line(&[5, 3, 200, FAR, 200 + LAMPORT_STEP_MAX, 200 + LAMPORT_STEP_MAX]);
    let behind_void = add(&mut tree, Some(1), 6, "behind an op that broke the clock rule");
    let too_far = add(&mut tree, Some(3), 201 + LAMPORT_STEP_MAX, "one above the step from 200");
    let low = add(&mut tree, Some(4), 300, "below the raised clock");
    let first = add(&mut tree, None, LAMPORT_STEP_MAX, "at the start");
    for order in [[5, behind_void, too_far, low, first], [first, low, too_far, behind_void, 5]] {
        let mut home = Home::new();
        for leaf in order {
            home.take(&[tree.segment(leaf, usize::MAX)]);
        }
        assert_same(&home.replica, &twin_of(std::slice::from_ref(&tree)));
        let clock = |leaf: usize| home.replica.heads().find(|head| head.head == *tree.nodes[leaf].segment.head()).unwrap().clock;
        assert_eq!([5, behind_void, too_far, low, first].map(clock), [200 + LAMPORT_STEP_MAX, 6, 200, 200 + LAMPORT_STEP_MAX, LAMPORT_STEP_MAX]);
        assert_eq!(home.replica.voided(), 2 + 1 + 1 + 1);
        assert_eq!(clocks(&home.reloaded()), clocks(&home.replica));
    }
}

#[test]
fn promise_i12_equal_ops_on_two_branches_may_be_void_on_one() {
    let mut tree = line(&[1]);
    let (low, high) = (add(&mut tree, Some(0), 2, "low"), add(&mut tree, Some(0), 9, "high"));
    let (on_low, on_high) = (add(&mut tree, Some(low), 5, "same"), add(&mut tree, Some(high), 5, "same"));
    let ops = [on_low, on_high].map(|node| tree.nodes[node].segment.ops().next().unwrap().digest.to_owned());
    assert_eq!(ops[0], ops[1], "one op body, two ops");
    for order in [[on_low, on_high], [on_high, on_low]] {
        let mut replica = Replica::new(genesis());
        for leaf in order {
            deliver(&mut replica, &[tree.segment(leaf, usize::MAX)]);
        }
        assert_same(&replica, &twin_of(std::slice::from_ref(&tree)));
        assert_eq!((replica.ops(), replica.voided()), (5, 1));
    }
}

#[test]
fn promise_i10_equal_ops_on_two_branches_are_one_winner_in_any_order() {
    let mut tree = line(&[1]);
    let (one, other) = (add(&mut tree, Some(0), 2, "one"), add(&mut tree, Some(0), 3, "other"));
    let leaves = [add(&mut tree, Some(one), 7, "same"), add(&mut tree, Some(other), 7, "same")];
    let mut seen = Vec::new();
    for order in [[0, 1], [1, 0]] {
        let mut replica = Replica::new(genesis());
        let changes: Vec<usize> = order.iter().map(|&turn| deliver(&mut replica, &[tree.segment(leaves[turn], usize::MAX)]).len()).collect();
        assert_eq!(changes[1], 0, "the second is the same write");
        assert_same(&replica, &twin_of(std::slice::from_ref(&tree)));
        seen.push(replica.get(1, &ITEM, 1).unwrap());
    }
    assert_eq!(seen[0], seen[1]);
}

/// A log of two branches behind op 3, both held; and its replica.
fn forked() -> (Tree, Replica, Vec<usize>) {
    let mut tree = line(&[1, 2, 3, 4, 5]);
    let first = add(&mut tree, Some(2), 4, "twig");
    let second = add(&mut tree, Some(first), 5, "twig goes on");
    let mut replica = Replica::new(genesis());
    deliver(&mut replica, &[tree.segment(4, usize::MAX), tree.segment(second, usize::MAX)]);
    (tree, replica, vec![4, second])
}

fn chain(replica: &Replica, segments: &[Arc<[u8]>]) -> Vec<Chained> {
    replica.chain(&segments.iter().map(verify).collect::<Vec<_>>(), true).unwrap().chained
}

#[test]
fn one_segment_runs_along_one_branch_into_another_and_goes_on() {
    let (mut tree, replica, ends) = forked();
    let (a, b) = (add(&mut tree, Some(ends[1]), 6, "a"), add(&mut tree, Some(ends[1]), 7, "b"));
    let more = add(&mut tree, Some(a), 8, "more");
    let chained = chain(&replica, &[tree.segment(more, usize::MAX), tree.segment(b, 4), tree.segment(b, 1)]);
    let shown: Vec<_> = chained.iter().map(|one| (one.branch, one.base, one.first_seq(), one.last_seq())).collect();
    assert_eq!(shown, [(1, None, 6, 7), (2, Some(Base { branch: 1, seq: 5 }), 6, 6)]);
    let own = fabrik_op::SegmentSpan::read(chained[0].data()).unwrap();
    assert_eq!((own.first_seq, own.last_seq), (6, 7), "cut to what is new");
}

#[test]
fn merging_refuses_branches_that_do_not_fit_and_changes_nothing() {
    let (mut tree, mut replica, ends) = forked();
    let twig = add(&mut tree, Some(1), 9, "third");
    let next = add(&mut tree, Some(ends[0]), 9, "next");
    let opening = chain(&replica, &[tree.segment(twig, 1)]).remove(0);
    let going_on = chain(&replica, &[tree.segment(next, 1)]).remove(0);
    let held = chain(&Replica::new(genesis()), &[tree.segment(4, usize::MAX)]).remove(0);
    let again = chain(&Replica::new(genesis()), &[tree.segment(4, usize::MAX), tree.segment(ends[1], 2)]).remove(1);
    let elsewhere = chain(&replica, &[Log::new(2, 1).write(vec![title(&ITEM, "fits")]).whole()]).remove(0);
    let base = |branch, seq| Some(Base { branch, seq });
    assert_eq!((opening.branch, opening.base), (2, base(0, 2)));
    let before = (replica.state_digest(), replica.frontier_digest(), replica.ops());
    for (chained, reason) in [
        (Chained { branch: 3, ..opening.clone() }, "opens branch 3, expected 2"),
        (Chained { branch: 1, ..opening.clone() }, "opens branch 1, expected 2"),
        (Chained { base: base(0, 3), ..opening.clone() }, "starts at seq 3, expected 4"),
        (Chained { base: base(1, 2), ..opening.clone() }, "does not chain to seq 2 of branch 1"),
        (Chained { base: base(9, 2), ..opening.clone() }, "does not chain to seq 2 of branch 9"),
        (Chained { base: None, branch: 0, ..opening.clone() }, "starts at seq 3, expected 6"),
        (Chained { base: None, branch: 7, ..going_on.clone() }, "continues branch 7, which is not there"),
        (Chained { branch: 1, ..going_on.clone() }, "does not chain to the head at seq 5"),
        (Chained { branch: 2, base: base(0, 5), ..going_on.clone() }, "is no branch of its own behind seq 5 of branch 0"),
        (Chained { branch: 2, ..again }, "is no branch of its own behind seq 3 of branch 0"),
        (Chained { branch: 2, base: base(0, 0), ..held }, "is no branch of its own behind seq 0 of branch 0"),
    ] {
        let refused = replica.merge(&[elsewhere.clone(), chained]).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused} is not {reason}");
        assert_eq!((replica.state_digest(), replica.frontier_digest(), replica.ops()), before);
    }
    assert!(replica.merge(&[opening.clone(), opening.clone()]).is_err());
    replica.merge(&[opening, going_on]).unwrap();
    assert_eq!(replica.heads().map(|head| (head.branch, head.base, head.seq)).collect::<Vec<_>>(), [(0, None, 6), (1, base(0, 3), 5), (2, base(0, 2), 3)]);
}

#[test]
fn a_branch_that_would_get_another_number_is_stranded() {
    let (mut tree, _, ends) = forked();
    let third = add(&mut tree, Some(0), 9, "third");
    let mut home = Home::new();
    home.take_all(&[tree.segment(ends[0], usize::MAX), tree.segment(ends[1], 2), tree.segment(third, 1)], &[1]);
    let mut damaged: Vec<_> = home.rows.iter().map(|row| Ok(verify(row.data()))).collect();
    damaged[1] = Err(fabrik_op::Refused::invalid("damaged"));
    let branches: Vec<_> = home.rows.iter().map(|row| row.branch).collect();
    let mut fresh = Replica::new(genesis());
    let outcome = fresh.load(damaged, &branches).unwrap();
    assert_eq!((outcome.ops, outcome.damaged.len(), outcome.damaged[0].0, outcome.stranded), (5, 1, 1, vec![2]));
}

#[test]
fn places_are_dense_at_the_heads_and_reach_the_start() {
    let (tree, replica, _) = forked();
    let (author, epoch) = (tree.public(), 1);
    let mut long = Replica::new(genesis());
    let straight = line(&(1..=100).collect::<Vec<_>>());
    deliver(&mut long, &[straight.segment(99, usize::MAX)]);
    let seqs: Vec<u64> = long.places(&author, epoch).iter().map(|place| place.0).collect();
    assert_eq!(seqs, [100, 1, 99, 98, 96, 92, 84, 68, 36]);
    let mut of_fork: Vec<u64> = replica.places(&author, epoch).iter().map(|place| place.0).collect();
    of_fork.sort_unstable();
    assert_eq!(of_fork, [1, 3, 4, 4, 5, 5], "what both paths share is said once");
    assert!(replica.places(&author, 2).is_empty() && replica.cursors(&author, 2, &[]).is_empty());
    for (seq, mark) in replica.places(&author, epoch) {
        assert!(tree.nodes.iter().any(|node| node.segment.tip().seq == seq && node.segment.head()[..16] == mark));
    }
}

#[test]
fn places_of_a_fork_of_a_fork_reach_below_both() {
    let mut tree = line(&(1..=10).collect::<Vec<_>>());
    let first = add(&mut tree, Some(7), 20, "first fork");
    let mut last = add(&mut tree, Some(first), 21, "second fork");
    for lamport in 22..=30 {
        last = add(&mut tree, Some(last), lamport, "goes on");
    }
    let other = add(&mut tree, Some(first), 50, "first goes on");
    let mut replica = Replica::new(genesis());
    deliver(&mut replica, &[9, other, last].map(|leaf| tree.segment(leaf, usize::MAX)));
    assert_eq!(replica.heads().map(|head| (head.base, head.seq)).collect::<Vec<_>>()[2], (Some(Base { branch: 1, seq: 9 }), 19));
    let third = (3, *tree.nodes[2].segment.head().first_chunk().unwrap());
    assert!(replica.places(&tree.public(), 1).contains(&third), "16 before the last head, on the trunk");
}

#[test]
fn cursors_say_what_somebody_lacks() {
    let (tree, replica, _) = forked();
    let author = tree.public();
    let place = |node: usize| (tree.nodes[node].segment.tip().seq, *tree.nodes[node].segment.head().first_chunk().unwrap());
    let cursors = |nodes: &[usize]| replica.cursors(&author, 1, &nodes.iter().map(|&node| place(node)).collect::<Vec<_>>());
    assert_eq!(cursors(&[]), [(0, 0), (1, 3)], "all of it, the base first");
    assert_eq!(cursors(&[0, 2]), [(0, 3), (1, 3)]);
    assert_eq!(cursors(&[4]), [(1, 3)]);
    assert_eq!(cursors(&[5]), [(0, 3), (1, 4)], "who holds a twig holds what is before it");
    assert_eq!(cursors(&[4, 6]), []);
    let unknown = [(4, [9; 16]), (2, [9; 16]), (99, place(4).1), (0, [0; 16])];
    assert_eq!(replica.cursors(&author, 1, &unknown), [(0, 0), (1, 3)], "places of branches that we do not know");
    let head = replica.head(&author, 1, 1).unwrap();
    assert!(
        replica.holds(&author, 1, head.seq, &head.head)
            && !replica.holds(&author, 1, head.seq - 1, &head.head)
            && !replica.holds(&author, 2, head.seq, &head.head)
    );
}

#[test]
fn checking_finds_what_is_not_what_was_merged() {
    let (mut tree, replica, ends) = forked();
    let author = tree.public();
    let other = add(&mut tree, Some(2), 77, "never merged");
    let check = |branch, segment: &Arc<[u8]>| replica.check(&author, 1, branch, &verify(segment)).err().unwrap_or_default();
    assert_eq!(check(0, &tree.segment(ends[0], 2)), "");
    assert_eq!(check(1, &tree.segment(ends[1], 2)), "");
    assert!(check(1, &tree.segment(ends[1], 3)).contains("not within 4..5"));
    assert!(check(0, &tree.segment(ends[1], 2)).contains("another chain hash at seq 4"));
    assert!(check(0, &tree.segment(other, 1)).contains("another chain hash at seq 4"));
    assert!(check(2, &tree.segment(other, 1)).contains("nothing of this branch"));
    assert!(replica.check(&author, 2, 0, &verify(&tree.segment(0, 1))).is_err());
}

#[test]
fn promise_i10_many_long_branches_are_asked_for_once_within_the_bound_of_places() {
    let mut tree = line(&(1..=200).collect::<Vec<_>>());
    for place in 0..HEADS_MAX - 1 {
        let mut last = Some(place * 3);
        for turn in 0..40 {
            let lamport = tree.lamport(last) + 1;
            last = Some(add(&mut tree, last, lamport, &format!("branch {place} op {turn}")));
        }
    }
    let leaves = tree.leaves();
    let (mut one, mut other) = (Home::new(), Home::new());
    for (turn, &leaf) in leaves.iter().enumerate() {
        let cut = |count: usize| tree.segment(tree.path(leaf)[tree.path(leaf).len() - 1 - count], usize::MAX);
        one.take(&[cut(turn % 7)]);
        other.take(&[cut(turn % 5)]);
    }
    assert!(one.replica.places(&tree.public(), 1).len() > 500);
    for home in [&one, &other] {
        assert!(home.replica.places(&tree.public(), 1).len() <= 1_024);
    }
    one.give(&mut other);
    assert_eq!((one.give(&mut other), other.give(&mut one).0, one.give(&mut other)), ((0, 0), 1, (0, 0)));
    assert_eq!(one.replica.state_digest(), other.replica.state_digest());
    assert_eq!(one.replica.frontier_digest(), other.replica.frontier_digest());
    let mut naive = Naive::new(genesis());
    one.rows.iter().for_each(|row| naive.add(row));
    assert_same(&one.replica, &naive);
}
