//! Who may write what, against the naive twin: any records, cuts, rotations and forks, in any order, in any parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

mod mesh;

use std::sync::Arc;

use fabrik_merge::{Replica, Spot};
use fabrik_op::{OpBody, WriteBody};
use mesh::sketch::{assert_effects, assert_same, assert_view, item};
use mesh::tree::{Home, Tree, twin_of};
use mesh::{NEXT, RECOVERY, answer, binding, genesis, key, member, node_name, question, rotation, stage, step, title, tombstone};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Who writes: the genesis admin, three others, the recovery key, and the next keys of the admin and of one of the others.
const AUTHORS: [u8; 7] = [0, 1, 2, 3, RECOVERY, NEXT, 92];

#[derive(Debug, Clone)]
enum Pen {
    Title(u8),
    Stage(u8),
    Name(u8),
    Tombstone,
    /// A step of the first item, in this state.
    Step(u8),
    /// An answer, or a question.
    Request(bool),
    /// A record of an author, which does not bind.
    Plain(u8, u64),
    /// One that binds but for what is within these of the author's ops, and its commitment.
    Binding(u8, u64, Vec<Index>, Option<u8>),
    /// To this author, with what is kept.
    Rotation(u8, Option<u8>, Vec<Index>),
}

#[derive(Debug, Clone)]
struct Sketch {
    author: usize,
    epoch: u64,
    /// Behind which of the author's ops of that epoch; mostly the last one.
    parent: Option<Index>,
    step: u64,
    pens: Vec<Pen>,
}

fn pen() -> impl Strategy<Value = Pen> {
    let who = || select(AUTHORS.to_vec());
    let next = || prop::option::of(select(vec![NEXT, 92, 3]));
    prop_oneof![
        2 => (0..3_u8).prop_map(Pen::Title),
        2 => (0..3_u8).prop_map(Pen::Stage),
        1 => (0..3_u8).prop_map(Pen::Name),
        1 => Just(Pen::Tombstone),
        1 => (0..2_u8).prop_map(Pen::Step),
        1 => any::<bool>().prop_map(Pen::Request),
        1 => (who(), 0..5_u64).prop_map(|(who, role)| Pen::Plain(who, role)),
        6 => (who(), select(vec![0, 0, 0, 1, 2, 3, 4, 4, 4]), vec(any::<Index>(), 0..3), next()).prop_map(|(who, role, places, next)| Pen::Binding(who, role, places, next)),
        2 => (select(vec![NEXT, 92, 3, 2]), next(), vec(any::<Index>(), 0..2)).prop_map(|(new, next, keeps)| Pen::Rotation(new, next, keeps)),
    ]
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let author = prop_oneof![5 => Just(0_usize), 5 => Just(1), 4 => Just(2), 2 => Just(3), 2 => Just(4), 2 => Just(5), 2 => Just(6)];
    let epoch = prop_oneof![5 => Just(1_u64), 1 => Just(2)];
    (author, epoch, prop::option::weighted(0.25, any::<Index>()), 1..4_u64, vec(pen(), 1..3)).prop_map(|(author, epoch, parent, step, pens)| Sketch {
        author,
        epoch,
        parent,
        step,
        pens,
    })
}

/// The trees of all authors and epochs, in the order in which their ops were written; records name ops that were there.
fn grow(sketches: &[Sketch]) -> Vec<Tree> {
    let mut trees: Vec<Tree> = AUTHORS.iter().flat_map(|&number| [Tree::new(number, 1), Tree::new(number, 2)]).collect();
    for sketch in sketches {
        let at = sketch.author * 2 + usize::try_from(sketch.epoch - 1).unwrap();
        let count = trees[at].nodes.len();
        let parent = sketch.parent.map_or(count.checked_sub(1), |parent| parent.index(count + 1).checked_sub(1));
        let tip = trees[at].tip(parent);
        let spots = |who: u8, places: &[Index]| -> Vec<Spot> {
            let ops: Vec<Spot> = trees
                .iter()
                .filter(|tree| tree.public() == key(who).public())
                .flat_map(|tree| tree.nodes.iter().map(|node| Spot { epoch: tree.epoch, seq: node.segment.last_seq(), head: *node.segment.head() }))
                .collect();
            places.iter().filter(|_| !ops.is_empty()).map(|place| ops[place.index(ops.len())]).collect()
        };
        let author = AUTHORS[sketch.author];
        let write = |pen: &Pen| -> WriteBody {
            match pen {
                Pen::Title(text) => title(&item(0), &format!("title {text}")),
                Pen::Stage(id) => stage(&item(*id), 1),
                Pen::Name(name) => node_name(&key(author).public(), &name.to_string()),
                Pen::Tombstone => tombstone(&item(1), "gone"),
                Pen::Step(state) => step(&item(0), "build", u64::from(*state)),
                Pen::Request(true) => answer(&item(0), "yes"),
                Pen::Request(false) => question(&item(0), "may I?"),
                Pen::Plain(who, role) => member(&key(*who).public(), *role),
                Pen::Binding(who, role, places, next) => binding(&key(*who).public(), *role, &spots(*who, places), *next),
                Pen::Rotation(new, next, keeps) => rotation(&tip, *new, *next, &spots(author, keeps)),
            }
        };
        let writes = sketch.pens.iter().map(write).collect();
        let lamport = trees[at].lamport(parent) + sketch.step;
        trees[at].grow(parent, &OpBody { seq: tip.seq + 1, lamport, wall_ms: 0, kind: 1, writes, follows: None });
    }
    trees.retain(|tree| !tree.nodes.is_empty());
    trees
}

fn shuffled<T>(mut list: Vec<T>, picks: &[Index]) -> Vec<T> {
    for (place, pick) in (1..list.len()).rev().zip(picks.iter().cycle()) {
        list.swap(place, pick.index(place + 1));
    }
    list
}

/// Every op once, in segments of one op; and some paths whole.
fn segments(trees: &[Tree]) -> Vec<Arc<[u8]>> {
    let singles = trees.iter().flat_map(|tree| (0..tree.nodes.len()).map(|node| tree.segment(node, 1)));
    let paths = trees.iter().flat_map(|tree| tree.leaves().into_iter().step_by(2).map(|leaf| tree.segment(leaf, usize::MAX)));
    singles.chain(paths).collect()
}

proptest! {
    #![proptest_config(mesh::proptest_config(400))]

    #[test]
    fn promise_i14_authority_is_one_whatever_the_route(
        sketches in vec(sketch(), 1..24), routes in vec((vec(any::<Index>(), 32), vec(1..6_usize, 1..4)), 2),
    ) {
        let trees = grow(&sketches);
        let naive = twin_of(&trees);
        let mut states = Vec::new();
        for (picks, sizes) in routes {
            let mut home = Home::new();
            home.take_all(&shuffled(segments(&trees), &picks), &sizes);
            assert_same(&home.replica, &naive);
            assert_view(&home.view, &home.replica);
            assert_effects(&home.replica, &naive, &home.rows);
            assert_same(&home.reloaded(), &naive);
            assert_same(&Replica::restore(genesis(), &home.replica.snapshot()).unwrap(), &naive);
            states.push((home.replica.state_digest(), home.replica.frontier_digest()));
        }
        prop_assert_eq!(&states[0], &states[1]);
    }

    /// A node that admits by the rules reaches, from any order with what it refused offered again, the same as one that holds all of the named.
    #[test]
    fn promise_i14_who_is_named_does_not_depend_on_the_order(
        sketches in vec(sketch(), 1..20), one in vec(any::<Index>(), 32), other in vec(any::<Index>(), 32), size in 1..5_usize,
    ) {
        let trees = grow(&sketches);
        let [first, second] = [one, other].map(|picks| {
            let mut home = Home::new();
            let mut waiting = shuffled(segments(&trees), &picks);
            loop {
                let before = (home.replica.ops(), waiting.len());
                let mut left = Vec::new();
                for batch in waiting.chunks(size) {
                    let verified: Vec<_> = batch.iter().map(mesh::verify).collect();
                    let outcome = home.replica.chain(&verified, false).unwrap();
                    left.extend(batch.iter().zip(&verified).filter(|(_, segment)| outcome.unknown.contains(segment.author())).map(|(data, _)| Arc::clone(data)));
                    left.extend(outcome.gaps.iter().map(|gap| Arc::clone(&batch[gap.index])));
                    let chained: Vec<_> = outcome.chained.iter().map(|one| Arc::clone(one.data())).collect();
                    home.take(&chained);
                }
                waiting = left;
                if (home.replica.ops(), waiting.len()) == before {
                    return home;
                }
            }
        });
        prop_assert_eq!(first.replica.frontier_digest(), second.replica.frontier_digest());
        prop_assert_eq!(first.replica.state_digest(), second.replica.state_digest());
    }
}
