//! What fits on our heads: gaps, forks, repeats, admission, and merging all or nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::{Base, ChainOutcome, Replica};
use fabrik_op::Refused;
use mesh::{Log, admitting, deliver, genesis, key, member, title, verify};

const ITEM: [u8; 16] = [0x42; 16];

fn log(number: u8, ops: usize) -> Log {
    let mut log = Log::new(number, 1);
    for place in 0..ops {
        log.write(vec![title(&ITEM, &format!("{number} {place}"))]);
    }
    log
}

fn chain(replica: &Replica, segments: &[Arc<[u8]>], admit_all: bool) -> ChainOutcome {
    let verified: Vec<_> = segments.iter().map(verify).collect();
    replica.chain(&verified, admit_all).unwrap()
}

fn holding(segments: &[Arc<[u8]>]) -> Replica {
    let mut replica = Replica::new(genesis());
    deliver(&mut replica, segments);
    replica
}

#[test]
fn gaps_repeats_and_overlaps() {
    let log = log(1, 10);
    let replica = holding(&[log.cut(0, 4)]);
    let outcome = chain(&replica, &[log.cut(6, 10), log.cut(1, 3), log.cut(2, 6), log.cut(4, 6), log.cut(6, 8)], true);
    let gap = outcome.gaps[0];
    assert_eq!((outcome.gaps.len(), gap.author, gap.have_seq, gap.first_seq), (1, log.public(), 4, 7));
    assert_eq!(outcome.chained.iter().map(|one| (one.first_seq(), one.last_seq())).collect::<Vec<_>>(), [(5, 6), (7, 8)]);
    assert_eq!(outcome.duplicates, 2 + 2 + 2);
    assert!(outcome.forks.is_empty());
}

/// Two branches of one log that part after `common` ops.
fn branches(common: usize, ours: usize, theirs: usize) -> (Log, Log) {
    let mut one = log(1, common);
    let mut other = one.clone();
    for place in 0..ours {
        one.write(vec![title(&ITEM, &format!("ours {place}"))]);
    }
    for place in 0..theirs {
        other.write(vec![title(&ITEM, &format!("theirs {place}"))]);
    }
    (one, other)
}

#[test]
fn promise_i10_a_fork_is_found_where_it_is_whatever_the_cuts() {
    for (common, ours, theirs) in [(0, 3, 3), (3, 3, 3), (3, 3, 1), (3, 1, 5), (5, 1, 1)] {
        let (one, other) = branches(common, ours, theirs);
        let (fork_seq, other_end) = (common as u64 + 1, (common + theirs) as u64);
        for held in [vec![one.whole()], (0..common + ours).map(|place| one.cut(place, place + 1)).collect()] {
            let replica = holding(&held);
            for first in 0..=common {
                let outcome = chain(&replica, &[other.cut(first, common + theirs)], true);
                let (fork, chained) = (&outcome.forks[0], &outcome.chained[0]);
                assert_eq!((outcome.forks.len(), fork.author, fork.epoch, fork.seq, fork.branch, fork.base_branch), (1, one.public(), 1, fork_seq, 1, 0));
                assert_eq!((outcome.chained.len(), chained.branch, chained.base), (1, 1, Some(Base { branch: 0, seq: fork_seq - 1 })));
                assert_eq!((chained.first_seq(), chained.last_seq(), outcome.duplicates), (fork_seq, other_end, (common - first) as u64));
                assert_eq!((&fork.segment, chained.data()), (&other.cut(common, common + theirs), &other.cut(common, common + theirs)));
            }
            if theirs > 1 {
                let late = chain(&replica, &[other.cut(common + 1, common + theirs)], true);
                assert!(late.chained.is_empty() && late.forks.is_empty());
                assert_eq!((late.gaps[0].unrooted, late.gaps[0].index), (common < common + ours, 0), "behind an op that we do not hold");
            }
        }
        let at_once = chain(&Replica::new(genesis()), &[one.whole(), other.whole()], true);
        assert_eq!((at_once.chained.len(), at_once.forks.len()), (2, 1));
        assert_eq!(at_once.forks[0].seq, fork_seq);
    }
}

#[test]
fn promise_i10_a_fork_across_what_is_held_and_what_came_in_this_call() {
    let (one, other) = branches(6, 2, 2);
    let replica = holding(&[one.cut(0, 3)]);
    let outcome = chain(&replica, &[one.cut(3, 8), other.cut(1, 8), one.cut(2, 7), other.cut(7, 8)], true);
    assert_eq!((outcome.chained.len(), outcome.forks.len(), outcome.duplicates), (2, 1, 5 + 5 + 1));
    assert_eq!((outcome.forks[0].seq, outcome.chained[1].first_seq()), (7, 7));
}

#[test]
fn only_members_are_taken() {
    let mut admin = admitting(&[1]);
    let (friend, stranger) = (log(1, 2), log(2, 2));
    let replica = Replica::new(genesis());
    let early = chain(&replica, &[friend.whole(), friend.whole(), stranger.whole()], false);
    assert_eq!(early.unknown, [friend.public(), stranger.public()]);
    assert!(early.chained.is_empty() && !replica.is_admitted(&friend.public()) && replica.is_admitted(&admin.public()));
    let together = chain(&replica, &[admin.whole(), friend.whole(), stranger.whole()], false);
    assert_eq!((together.chained.len(), together.unknown), (2, vec![stranger.public()]));
    let mut replica = holding(&[admin.whole()]);
    assert!(replica.is_admitted(&friend.public()));
    admin.write(vec![member(&friend.public(), 0), member(&stranger.public(), 2)]);
    let swap = chain(&replica, &[admin.whole(), friend.whole(), stranger.whole()], false);
    assert_eq!((swap.chained.len(), swap.unknown), (3, vec![]), "who was a member stays named: another node may have taken his ops before");
    deliver(&mut replica, &[admin.whole()]);
    assert!(!replica.is_admitted(&friend.public()) && replica.is_named(&friend.public()) && replica.is_admitted(&stranger.public()));
    assert_eq!(chain(&replica, &[friend.whole()], false).chained.len(), 1);
}

#[test]
fn a_void_record_admits_nobody() {
    let mut admin = Log::new(0, 1);
    let mut bad = member(&key(1).public(), 2);
    bad.id.pop();
    admin.write(vec![member(&key(1).public(), 2), bad]);
    admin.op(1, 0, 1, vec![member(&key(1).public(), 2)], None);
    let outcome = chain(&Replica::new(genesis()), &[admin.whole(), log(1, 1).whole()], false);
    assert_eq!((outcome.chained.len(), outcome.unknown), (1, vec![key(1).public()]));
}

#[test]
fn a_record_on_a_branch_is_judged_by_the_clock_of_its_path() {
    let mut trunk = Log::new(0, 1);
    trunk.write(Vec::new());
    let mut twig = trunk.clone();
    trunk.op(500, 0, 1, Vec::new(), None);
    trunk.op(501, 0, 1, vec![member(&key(2).public(), 2)], None);
    twig.op(7, 0, 1, vec![member(&key(1).public(), 2)], None);
    let segments = [twig.cut(1, 2), log(1, 1).whole(), log(2, 1).whole()];
    for held in [vec![trunk.whole()], vec![trunk.cut(0, 1), trunk.cut(1, 3)]] {
        assert_eq!(chain(&holding(&held), &segments, false).unknown, Vec::<fabrik_op::Key>::new());
        let at_once: Vec<_> = held.iter().chain(&segments).cloned().collect();
        assert_eq!(chain(&Replica::new(genesis()), &at_once, false).unknown, Vec::<fabrik_op::Key>::new());
        let half: Vec<_> = held[1..].iter().chain(&segments).cloned().collect();
        assert_eq!(chain(&holding(&held[..1]), &half, false).unknown, Vec::<fabrik_op::Key>::new());
    }
    trunk.op(300, 0, 1, vec![member(&key(1).public(), 2)], None);
    assert_eq!(chain(&Replica::new(genesis()), &[trunk.whole(), log(1, 1).whole()], false).unknown, [key(1).public()], "below the clock of its path");
}

#[test]
fn who_is_out_is_named_whatever_came_first_and_let_in_by_the_latest_record() {
    let me = key(1).public();
    let mut first = Log::new(0, 1);
    first.op(5, 0, 1, vec![member(&me, 0)], None);
    let mut second = Log::new(0, 2);
    second.op(3, 0, 1, vec![member(&me, 2)], None);
    let segments = [first.whole(), second.whole(), log(1, 1).whole()];
    assert_eq!(chain(&Replica::new(genesis()), &segments, false).unknown, Vec::<fabrik_op::Key>::new());
    assert_eq!(chain(&holding(&segments[..1]), &segments[1..], false).unknown, Vec::<fabrik_op::Key>::new());
    assert_eq!(chain(&holding(&segments[..1]), &segments[2..], false).unknown, [me], "a record with role none names nobody");
    assert!(
        !holding(&segments[..2]).is_admitted(&me) && !holding(&[second.whole(), first.whole()]).is_admitted(&me) && holding(&segments[1..2]).is_admitted(&me)
    );
}

#[test]
fn merging_is_all_or_nothing() {
    let (log, other) = (log(1, 4), log(2, 2));
    let mut replica = holding(&[log.cut(0, 1)]);
    let next = chain(&replica, &[log.cut(1, 4), other.whole()], true).chained;
    let before = (replica.state_digest(), replica.frontier_digest(), replica.ops(), replica.lamport());
    let refused = replica.merge(&[next[1].clone(), next[0].clone(), next[0].clone()]).unwrap_err();
    let author = fabrik_op::hash::short(&log.public());
    assert_eq!(refused, Refused::invalid(format!("segment of {author}.. epoch 1 starts at seq 2, expected 5")));
    assert_eq!((replica.state_digest(), replica.frontier_digest(), replica.ops(), replica.lamport()), before);
    replica.merge(&next).unwrap();
    assert!(replica.merge(&next).is_err());
    assert_eq!(replica.ops(), 6);
}

#[test]
fn loading_names_what_is_damaged_and_what_it_strands() {
    let (one, other) = branches(2, 2, 2);
    let load = |segments: &[Arc<[u8]>]| {
        let mut replica = holding(&[one.cut(0, 1)]);
        let outcome = mesh::load(&mut replica, segments);
        assert_eq!(replica.ops(), 1 + outcome.ops);
        (outcome.ops, outcome.damaged.into_iter().map(|(place, _)| place).collect::<Vec<_>>(), outcome.stranded)
    };
    assert_eq!(load(&[one.cut(0, 2), one.cut(2, 4)]), (3, vec![], vec![]));
    assert_eq!(load(&[one.cut(0, 2), one.cut(3, 4)]), (1, vec![], vec![1]));
    assert_eq!(load(&[one.whole(), other.whole()]), (5, vec![], vec![]));
    assert_eq!(load(&[one.whole(), other.cut(3, 4), other.cut(2, 4)]), (5, vec![], vec![1]));
    let damaged = |segment: Arc<[u8]>| -> Arc<[u8]> {
        let mut bytes = segment.to_vec();
        bytes[100] ^= 1;
        bytes.into()
    };
    assert_eq!(load(&[one.cut(0, 2), damaged(one.cut(2, 3)), one.cut(3, 4), other.cut(2, 3)]), (2, vec![1], vec![2]));
}

#[test]
fn nothing_of_another_mesh() {
    let admin = key(0).public();
    let elsewhere = fabrik_op::Genesis::decode(&fabrik_op::encode_genesis(&admin, "elsewhere", &[0; 16], 1).unwrap()).unwrap();
    let verified = verify(&log(1, 1).whole());
    let chained = Replica::new(genesis()).chain(std::slice::from_ref(&verified), true).unwrap().chained;
    let mut replica = Replica::new(elsewhere);
    assert!(replica.chain(&[verified], true).is_err());
    assert!(replica.merge(&chained).is_err());
}
