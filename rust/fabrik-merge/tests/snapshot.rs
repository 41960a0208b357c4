//! A replica comes back from its snapshot and goes on as if nothing had happened; anything else is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::schema::{self, Field, FieldType, KINDS, Kind, MERGE_RULES, fingerprint};
use fabrik_merge::{Chained, Replica};
use fabrik_op::limits::HEADS_MAX;
use fabrik_op::{Genesis, encode_genesis};
use mesh::sketch::{Sketch, sketch};
use mesh::tree::{Home, Tree};
use mesh::{genesis, key, verify};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Where the parts of the header lie, and the digest at the end.
const RULES: std::ops::Range<usize> = 20..52;
const BODY: usize = 84;
const DIGEST: usize = 32;

/// Logs of three authors that fork, the admin's in two epochs: each op behind the newest, any other or none.
fn trees(ops: usize) -> impl Strategy<Value = Vec<Tree>> {
    vec(vec((prop::bool::weighted(0.7), any::<Index>(), sketch()), 0..ops), 4).prop_map(|all| {
        let names = [(0, 1), (1, 1), (2, 1), (0, 2)];
        names.into_iter().zip(&all).map(|((author, epoch), twigs)| plant(Tree::new(author, epoch), twigs)).collect()
    })
}

fn plant(mut tree: Tree, twigs: &[(bool, Index, Sketch)]) -> Tree {
    let mut newest = None;
    for (goes_on, anywhere, sketch) in twigs {
        let parent = if *goes_on { newest } else { anywhere.index(tree.nodes.len() + 1).checked_sub(1) };
        let op = sketch.op(&tree.tip(parent), tree.lamport(parent));
        newest = Some(tree.grow(parent, &op));
    }
    tree
}

/// Every branch of every log, as whole paths.
fn paths(trees: &[Tree]) -> Vec<Arc<[u8]>> {
    trees.iter().flat_map(|tree| tree.leaves().into_iter().map(|leaf| tree.segment(leaf, usize::MAX))).collect()
}

fn back(replica: &Replica) -> Replica {
    Replica::restore(genesis(), &replica.snapshot()).unwrap()
}

/// Every question that a replica answers has the same answer.
fn assert_equal(one: &Replica, other: &Replica, trees: &[Tree]) {
    assert_eq!(one.state_digest(), other.state_digest());
    assert_eq!(one.frontier_digest(), other.frontier_digest());
    assert!(one.heads().eq(other.heads()) && one.suspended().eq(other.suspended()));
    let numbers = |replica: &Replica| (replica.ops(), replica.voided(), replica.lamport(), replica.registers(), replica.stale());
    assert_eq!(numbers(one), numbers(other));
    for (kind, entry) in (1..).zip(KINDS) {
        assert_eq!(one.rows(kind), other.rows(kind));
        for (id, field) in one.rows(kind).iter().flat_map(|(id, row)| row.iter().map(move |(field, _)| (id, *field))) {
            assert_eq!(one.get(kind, id, field), other.get(kind, id, field), "{}", entry.name);
            assert_eq!((one.tombstoned(id), one.winning_fence(id)), (other.tombstoned(id), other.winning_fence(id)));
        }
    }
    for tree in trees {
        let (author, epoch) = (tree.public(), tree.epoch);
        let places = one.places(&author, epoch);
        assert_eq!(places, other.places(&author, epoch));
        for known in [&places[..], &places[..places.len() / 2], &[]] {
            assert_eq!(one.cursors(&author, epoch, known), other.cursors(&author, epoch, known));
        }
        for (node, path) in (0..tree.nodes.len()).map(|node| (&tree.nodes[node].segment, tree.path(node))) {
            let holds = |replica: &Replica| replica.holds(&author, epoch, path.len() as u64, node.head());
            assert_eq!(holds(one), holds(other));
        }
    }
}

/// Both take the same, and say the same about it.
fn take_both(one: &mut Replica, other: &mut Replica, segments: &[Arc<[u8]>]) {
    let verified: Vec<_> = segments.iter().map(verify).collect();
    let [first, second] = [&*one, &*other].map(|replica| replica.chain(&verified, false).unwrap());
    let shown = |chained: &Chained| (Arc::clone(chained.data()), chained.branch, chained.base);
    assert!(first.chained.iter().map(shown).eq(second.chained.iter().map(shown)));
    assert_eq!(
        (first.duplicates, first.gaps, first.forks, first.unknown, first.suspended, first.refused),
        (second.duplicates, second.gaps, second.forks, second.unknown, second.suspended, second.refused)
    );
    assert!(one.merge(&first.chained).unwrap().iter().eq(other.merge(&second.chained).unwrap().iter()));
}

/// The bytes with the digest that they should have.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len().saturating_sub(DIGEST);
    let digest = blake3::derive_key("fabrik 2026 v1 snapshot", &bytes[..body]);
    bytes[body..].copy_from_slice(&digest);
    bytes
}

fn why(bytes: &[u8]) -> String {
    Replica::restore(genesis(), bytes).expect_err("it was taken").to_string()
}

proptest! {
    #![proptest_config(mesh::proptest_config(200))]

    #[test]
    fn it_comes_back_and_goes_on_the_same(trees in trees(14), cut in any::<Index>(), size in 1..6_usize) {
        let segments = paths(&trees);
        let (before, after) = segments.split_at(if segments.is_empty() { 0 } else { cut.index(segments.len()) });
        let mut home = Home::new();
        before.chunks(size).for_each(|batch| { home.take(batch); });
        let mut again = back(&home.replica);
        assert_equal(&again, &home.replica, &trees);
        prop_assert_eq!(again.snapshot(), home.replica.snapshot());
        for row in &home.rows {
            prop_assert_eq!(again.check(row.author(), row.epoch(), row.branch, &verify(row.data())), Ok(()));
        }
        for batch in after.chunks(size) {
            take_both(&mut home.replica, &mut again, batch);
            assert_equal(&again, &home.replica, &trees);
            again = back(&again);
        }
    }

    #[test]
    fn damage_is_refused(trees in trees(8), places in vec((any::<Index>(), 0..8_u8), 1..4), cut in any::<Index>(), more in vec(any::<u8>(), 1..40)) {
        let mut home = Home::new();
        home.take(&paths(&trees));
        let sound = home.replica.snapshot();
        let mut flipped = sound.clone();
        for (place, bit) in places {
            flipped[place.index(sound.len())] ^= 1 << bit;
        }
        if flipped != sound {
            why(&flipped);
        }
        why(&sound[..cut.index(sound.len())]);
        why(&[&sound[..], &more[..]].concat());
        why(&[&more[..], &sound[..]].concat());
        why(&more);
    }

    /// Somebody who repairs the digest gets nothing that breaks the replica: it ends in a refusal, or in a replica with just these bytes.
    #[test]
    fn what_is_made_by_hand_is_refused_or_means_what_it_says(
        trees in trees(8), places in vec((any::<Index>(), any::<u8>(), prop::bool::weighted(0.3)), 1..4), cut in prop::option::of(any::<Index>()),
    ) {
        let mut home = Home::new();
        home.take(&paths(&trees));
        let mut bytes = home.replica.snapshot();
        for (place, byte, wide) in places {
            let place = BODY + place.index(bytes.len() - DIGEST - BODY);
            let end = (place + if wide { 8 } else { 1 }).min(bytes.len());
            bytes[place..end].fill(if wide { 0xff } else { byte });
        }
        if let Some(cut) = cut {
            bytes.truncate(BODY + DIGEST + cut.index(bytes.len() - DIGEST - BODY));
        }
        let bytes = sealed(bytes);
        if let Ok(mut replica) = Replica::restore(genesis(), &bytes) {
            prop_assert_eq!(replica.snapshot(), bytes);
            // It can be asked and told anything.
            let _ = (replica.state_digest(), replica.frontier_digest());
            for segment in paths(&trees) {
                let chained = replica.chain(&[verify(&segment)], true).unwrap().chained;
                replica.merge(&chained).unwrap();
            }
            for tree in &trees {
                let places = replica.places(&tree.public(), tree.epoch);
                let _ = replica.cursors(&tree.public(), tree.epoch, &places);
            }
        }
    }

    #[test]
    fn no_bytes_break_it(bytes in vec(any::<u8>(), 0..400), body in vec(any::<u8>(), 0..400)) {
        why(&bytes);
        let sound = Replica::new(genesis()).snapshot();
        let made = sealed([&sound[..BODY], &body[..], &[0; DIGEST]].concat());
        if let Ok(replica) = Replica::restore(genesis(), &made) {
            prop_assert_eq!(replica.snapshot(), made);
        }
    }
}

/// A log with too many heads: before it is suspended, while its effect is still there, and when it is gone.
#[test]
fn a_suspended_log_comes_back_suspended() {
    let mut runner = TestRunner::deterministic();
    let sketches = vec(sketch(), HEADS_MAX + 3).new_tree(&mut runner).unwrap().current();
    let mut tree = Tree::new(1, 1);
    let trunk = (0..3).fold(None, |parent, turn| {
        let op = fabrik_op::OpBody { seq: turn + 1, lamport: turn + 1, wall_ms: 0, kind: 1, writes: vec![mesh::title(&[9; 16], "trunk")], follows: None };
        Some(tree.grow(parent, &op))
    });
    for (turn, sketch) in (0..).zip(&sketches) {
        let parent = [trunk, Some(1), Some(0), None][turn % 4];
        let mut op = sketch.op(&tree.tip(parent), tree.lamport(parent));
        op.wall_ms = 1_000 + turn as u64; // Each its own.
        tree.grow(parent, &op);
    }
    let trees = [tree];
    let segments = paths(&trees);
    assert!(segments.len() > HEADS_MAX);
    let mut replica = Replica::new(genesis());
    let mut fresh = Replica::with_suspended(genesis(), [(key(1).public(), 1)]);
    assert_equal(&back(&fresh), &fresh, &trees);
    for segment in &segments {
        let verified = [verify(segment)];
        let chained = replica.chain(&verified, true).unwrap().chained;
        replica.merge(&chained).unwrap();
        fresh.load(verified.map(Ok).into(), &[]).unwrap();
        assert_equal(&back(&replica), &replica, &trees);
        assert_equal(&back(&fresh), &fresh, &trees);
    }
    assert!(replica.stale() && replica.registers() > 0);
    let mut again = back(&replica);
    again.adopt(&mut back(&fresh)).unwrap();
    assert!(!again.stale() && again.registers() == 0);
    assert_equal(&back(&again), &fresh, &trees);
}

/// The admin's log is never suspended, and no other one has more heads than a log may have: such bytes were not made by us.
#[test]
fn only_what_may_be_suspended_comes_back_suspended() {
    const FLAG: usize = BODY + 8 + 8 + 1 + 8 + 32 + 8;
    for (number, refused) in [(0, true), (1, false)] {
        let mut tree = Tree::new(number, 1);
        tree.grow(None, &fabrik_op::OpBody { seq: 1, lamport: 1, wall_ms: 0, kind: 1, writes: Vec::new(), follows: None });
        let mut replica = Replica::new(genesis());
        replica.load(vec![Ok(verify(&tree.segment(0, 1)))], &[]).unwrap();
        let mut bytes = replica.snapshot();
        assert_eq!(std::mem::replace(&mut bytes[FLAG], 1), 0);
        bytes.truncate(bytes.len() - DIGEST);
        assert_eq!(Replica::restore(genesis(), &fabrik_merge::seal(bytes)).is_err(), refused);
    }
}

/// What a build with other rules made of the ops says nothing about what they mean to this one.
#[test]
fn promise_i23_a_build_that_knows_more_refuses_the_snapshot_of_one_that_knew_less() {
    let ours = fingerprint(KINDS, MERGE_RULES);
    let mut sound = Replica::new(genesis()).snapshot();
    assert_eq!(sound[RULES], ours);
    let with = |change: fn(&mut Vec<Kind>)| {
        let mut kinds = KINDS.to_vec();
        change(&mut kinds);
        fingerprint(&kinds, MERGE_RULES)
    };
    let others = [
        fingerprint(KINDS, MERGE_RULES + 1),
        with(|kinds| kinds.push(Kind { name: "later", id_bytes: 16, fields: &[] })),
        with(|kinds| {
            kinds[5].fields = &[
                Field { name: "summary", value: FieldType::Summary, fenced: false, later: false },
                Field { name: "more", value: FieldType::Uint, fenced: false, later: false },
            ];
        }),
        with(|kinds| kinds[5].fields = &[Field { name: "summary", value: FieldType::Map, fenced: false, later: false }]),
        with(|kinds| kinds[5].fields = &[Field { name: "summary", value: FieldType::Summary, fenced: true, later: false }]),
        with(|kinds| kinds[5].id_bytes = 32),
        with(|kinds| kinds.truncate(5)),
    ];
    for other in others {
        assert_ne!(other, ours);
        sound[RULES].copy_from_slice(&other);
        assert!(why(&sealed(sound.clone())).contains("other kinds, fields or rules"));
    }
    assert!(schema::lookup(6, 2).is_none(), "the field of the later version is not ours yet");
}

#[test]
fn it_is_of_one_mesh_and_one_format() {
    let sound = Replica::new(genesis()).snapshot();
    let other = Genesis::decode(&encode_genesis(&key(0).public(), "test", &[8; 16], 1).unwrap()).unwrap();
    assert!(Replica::restore(other, &sound).unwrap_err().to_string().contains("another mesh"));
    let mut newer = sound.clone();
    newer[19] = 3;
    assert!(why(&sealed(newer)).contains("unknown version"));
    assert!(why(&sound[..sound.len() - 1]).contains("damaged or cut short"));
    assert!(why(&sound[..60]).contains("cut short"));
    assert!(why(b"").contains("these bytes are none"));
    assert!(Replica::restore(genesis(), &sound).is_ok());
}

type Edit = fn(&mut Vec<u8>);

/// One op with one title, so that the place of each part is known: each thing that a replica never says is refused, also with a digest that fits.
#[test]
fn nothing_that_a_replica_never_says_is_taken() {
    const ITEM: [u8; 16] = [0x42; 16];
    const MARK: usize = BODY + 17 + 8 + 51 + 8 + 32;
    const STEPS: usize = MARK + 16;
    const SHEETS: usize = STEPS + 9;
    const COUNT: usize = SHEETS + 8 + 0x42 * 8;
    const REGISTER: usize = COUNT + 8 + 25;
    const VALUE: usize = REGISTER + 1 + 4 + 8 * 3 + 4 + 32 + 1 + 8;
    let mut tree = Tree::new(0, 1);
    let op = fabrik_op::OpBody { seq: 1, lamport: 1, wall_ms: 0, kind: 1, writes: vec![mesh::title(&ITEM, "title")], follows: None };
    tree.grow(None, &op);
    let mut home = Home::new();
    home.take(&paths(&[tree]));
    let sound = home.replica.snapshot();
    assert_eq!((&sound[STEPS..STEPS + 9], sound[COUNT + 7], &sound[COUNT + 9..COUNT + 25]), (&[0, 0, 0, 0, 0, 0, 0, 1, 1][..], 1, &ITEM[..]));
    assert_eq!(sound[VALUE..VALUE + 6], *b"\x65title");
    let cases: [(&str, Edit); 20] = [
        ("more that says who may do what than there is", |bytes| bytes[SHEETS + 7] = 1),
        ("a lamport above the ceiling", |bytes| bytes[BODY] = 1),
        ("more void ops than ops", |bytes| bytes[BODY + 15] = 2),
        ("a flag of two", |bytes| bytes[BODY + 16] = 2),
        ("a log twice", |bytes| {
            let log = bytes[BODY + 25..STEPS + 9].to_vec();
            bytes[BODY + 24] = 2;
            bytes.splice(STEPS + 9..STEPS + 9, log);
        }),
        ("more logs than there are", |bytes| bytes[BODY + 17..BODY + 25].fill(0xff)),
        ("an epoch of zero", |bytes| bytes[BODY + 25 + 39] = 0),
        ("a log without branches", |bytes| {
            bytes[BODY + 25 + 50] = 0;
            bytes.drain(BODY + 25 + 51..STEPS + 9);
        }),
        ("a mark that is not the head's", |bytes| bytes[MARK] ^= 1),
        ("two bytes for a step that needs one", |bytes| {
            bytes[STEPS + 7] = 2;
            bytes.splice(STEPS + 8..STEPS + 9, [0x81, 0]);
        }),
        ("a step without its end", |bytes| bytes[STEPS + 8] = 0x81),
        ("more steps than ops", |bytes| {
            bytes[STEPS + 7] = 2;
            bytes.insert(STEPS + 8, 1);
        }),
        ("a row in another bucket", |bytes| {
            bytes.splice(VALUE + 6..VALUE + 6, [0; 8]);
            bytes.drain(COUNT - 8..COUNT);
        }),
        ("a kind of a later version", |bytes| bytes[COUNT + 8] = 8),
        ("a row without registers", |bytes| {
            bytes[REGISTER - 1] = 0;
            bytes.drain(REGISTER..VALUE + 6);
        }),
        ("a field of a later version", |bytes| bytes[REGISTER] = 11),
        ("a log that is not there", |bytes| bytes[REGISTER + 4] = 1),
        ("an op that is not there", |bytes| bytes[REGISTER + 12] = 2),
        ("a fence on a field without one", |bytes| {
            bytes[VALUE - 9] = 1;
            bytes.splice(VALUE - 8..VALUE - 8, [1; 32]);
        }),
        ("a value of another type", |bytes| bytes[VALUE] = 0x45),
    ];
    for (name, edit) in cases {
        let mut bytes = sound.clone();
        edit(&mut bytes);
        let sealed = sealed(bytes);
        assert!(Replica::restore(genesis(), &sealed).is_err(), "{name} was taken");
    }
    assert!(Replica::restore(genesis(), &sealed(sound)).is_ok());
}

/// A row more than once, and a deleted item that is still there.
#[test]
fn rows_are_in_order_and_the_dead_are_gone() {
    let mut one = Home::new();
    let mut tree = Tree::new(0, 1);
    let writes = vec![mesh::title(&[1; 16], "a"), mesh::tombstone(&[2; 16], "gone")];
    let op = fabrik_op::OpBody { seq: 1, lamport: 1, wall_ms: 0, kind: 1, writes, follows: None };
    tree.grow(None, &op);
    one.take(&paths(&[tree]));
    let sound = one.replica.snapshot();
    let rows = BODY + 17 + 8 + 51 + 8 + 32 + 16 + 9 + 8;
    let title = rows + 2 * 8;
    let tombstone = sound.windows(17).position(|bytes| bytes[0] == 5 && bytes[1..] == [2; 16]).unwrap();
    assert_eq!((&sound[title..title + 17], sound[title - 1], sound[tombstone - 1]), (&[1; 17][..], 1, 1));
    let row = sound[title..tombstone - 8].to_vec();
    let mut twice = sound.clone();
    twice[title - 1] = 2;
    twice.splice(title..title, row.clone());
    why(&sealed(twice));
    let mut undead = sound.clone();
    undead[tombstone - 1] = 2;
    let mut of_the_dead = row;
    of_the_dead[1..17].fill(2);
    undead.splice(tombstone..tombstone, of_the_dead);
    why(&sealed(undead));
}
