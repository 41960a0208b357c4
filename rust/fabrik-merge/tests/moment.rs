//! What is worked out of a moment, later and without the lock, is what the replica was at that moment, whatever was merged since.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use fabrik_merge::schema::TOMBSTONE;
use fabrik_merge::{HeldBucket, Replica};
use fabrik_op::Digest;
use mesh::sketch::sketch;
use mesh::tree::Tree;
use mesh::{deliver, genesis, verify};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

proptest! {
    #![proptest_config(mesh::proptest_config(128))]

    #[test]
    fn promise_i20_what_is_finished_later_is_of_the_moment_that_was_taken(twigs in vec((any::<Index>(), sketch()), 1..40), batches in vec(1_usize..4, 1..12)) {
        let mut tree = Tree::new(0, 1);
        let mut ops = Vec::new();
        let mut last = None; // two that say the same at one place are one op
        for (place, (anywhere, sketch)) in twigs.iter().enumerate() {
            let parent = if place % 5 == 4 { anywhere.index(tree.nodes.len() + 1).checked_sub(1) } else { last };
            let op = sketch.op(&tree.tip(parent), tree.lamport(parent));
            let leaf = tree.grow(parent, &op);
            ops.push(tree.segment(leaf, 1));
            last = Some(leaf);
        }
        let (mut replica, mut twin) = (Replica::new(genesis()), Replica::new(genesis()));
        let mut taken = Vec::new();
        let mut rest = ops.as_slice();
        for size in batches.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (batch, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            deliver(&mut replica, batch);
            deliver(&mut twin, batch);
            // The twin works everything out at once, and nothing that it holds is shared.
            taken.push((replica.moment(), replica.begin_snapshot(), twin.snapshot(), twin.digests(), twin.tally(3, 1), twin.audit(&[]).buckets));
        }
        let mut learned: Vec<(u8, HeldBucket, Digest)> = Vec::new();
        for (moment, begun, snapshot, digests, tally, buckets) in taken {
            prop_assert_eq!(moment.bucket_digests(|bucket, held, digest| learned.push((bucket, held.clone(), digest))), buckets.clone());
            prop_assert_eq!((moment.frontier, moment.state_digest(&buckets)), digests);
            prop_assert_eq!(moment.tally(3, 1), tally);
            prop_assert_eq!(begun.finish(), snapshot);
        }
        for (bucket, held, digest) in learned {
            replica.learn(bucket, &held, digest); // most of them come too late
        }
        prop_assert_eq!(replica.digests(), twin.digests());
        prop_assert_eq!(replica.snapshot(), twin.snapshot());
        prop_assert_eq!(replica.rows(TOMBSTONE), twin.rows(TOMBSTONE));
    }
}

/// A digest that was worked out of a bucket that has changed since is not the bucket's.
#[test]
fn a_digest_that_comes_late_is_not_believed() {
    let mut tree = Tree::new(0, 1);
    let mut replica = Replica::new(genesis());
    let id = [7; 16];
    let (mut parent, mut late) = (None, Vec::new());
    for (number, text) in (1..).zip(["one", "two", "three"]) {
        let body = fabrik_op::OpBody { seq: number, lamport: number, wall_ms: 0, kind: 1, writes: vec![mesh::title(&id, text)], follows: None };
        parent = Some(tree.grow(parent, &body));
        let chained = replica.chain(&[verify(&tree.segment(parent.unwrap(), 1))], true).unwrap().chained;
        replica.merge(&chained).unwrap();
        let held = replica.held(7);
        late.push((held.digest(), held));
    }
    let now = late.pop().unwrap().0;
    for (digest, held) in late {
        assert_ne!(digest, now);
        replica.learn(7, &held, digest);
        assert_eq!(replica.audit(&[]).buckets[7], now);
    }
}
