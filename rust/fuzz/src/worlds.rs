//! Whole replicas from a script: logs that fork, parts of them in any order, and what must hold whatever it says.

use std::sync::Arc;

use fabrik_merge::Replica;
use fabrik_op::limits::LAMPORT_STEP_MAX;

use crate::bytes::Script;
use crate::mesh::genesis;
use crate::mesh::sketch::{AUTHORS, Pen, Sketch, assert_same, assert_view};
use crate::mesh::tree::{Home, Tree, twin_of};

const OPS_MAX: usize = 40;
const PARTS_MAX: usize = 40;

/// A write of any sort.
pub fn pen(script: &mut Script<'_>) -> Pen {
    let (item, small) = (script.byte() % 4, script.byte() % 3);
    let fence = |script: &mut Script<'_>| (script.byte() % 2 == 1).then(|| (u64::from(script.byte() % 2), u64::from(script.byte() % 3), script.byte() % 3));
    match script.below(10) {
        0 => Pen::Title(item, small),
        1 => Pen::Stage(item, u64::from(small), fence(script)),
        2 => Pen::Attempts(item, u64::from(small), fence(script)),
        3 => Pen::Claim {
            item,
            node: script.byte() % AUTHORS,
            id: small,
            receipt: u64::from(script.byte() % 2),
            epoch: u64::from(script.byte() % 3),
            state: u64::from(script.byte() % 3),
        },
        4 => Pen::Tombstone(item, small),
        5 => Pen::Member(item, u64::from(script.byte() % 5)),
        6 => Pen::NodeName(item % AUTHORS, small),
        7 => Pen::Run(item, script.byte() % AUTHORS, u64::from(small)),
        8 => Pen::Later([1, 2, 7, 300][script.below(4)], item, [0, 11, 999][script.below(3)]),
        _ => Pen::Bad(item, small),
    }
}

/// An op of any sort, void or not.
pub fn sketch(script: &mut Script<'_>) -> Sketch {
    let step = [1, 1, 1, 2, 0, LAMPORT_STEP_MAX, LAMPORT_STEP_MAX + 1][script.below(7)];
    let kind = [1, 1, 1, 2, 3, 9][script.below(6)];
    let (wall_ms, follows) = (u64::from(script.byte() % 2), script.byte() % 8 == 1);
    Sketch { step, wall_ms, kind, follows, writes: (0..script.below(4)).map(|_| pen(script)).collect() }
}

fn trees(script: &mut Script<'_>) -> Vec<Tree> {
    let mut trees: Vec<_> = [(0, 1), (1, 1), (2, 1), (0, 2)].into_iter().map(|(author, epoch)| Tree::new(author, epoch)).collect();
    for _ in 0..script.below(OPS_MAX) {
        let tree = &mut trees[script.below(4)];
        let parent = match script.below(3) {
            0 => script.below(tree.nodes.len() + 1).checked_sub(1),
            _ => tree.nodes.len().checked_sub(1),
        };
        let op = sketch(script).op(&tree.tip(parent), tree.lamport(parent));
        tree.grow(parent, &op);
    }
    trees
}

/// Parts of logs, overlapping and repeated as the script says, then everything that is left.
fn deliver(script: &mut Script<'_>, trees: &[Tree], home: &mut Home) {
    let grown: Vec<_> = trees.iter().filter(|tree| !tree.nodes.is_empty()).collect();
    if grown.is_empty() {
        return;
    }
    let mut batch = Vec::new();
    for _ in 0..script.below(PARTS_MAX) {
        let tree = grown[script.below(grown.len())];
        let end = script.below(tree.nodes.len());
        batch.push(tree.segment(end, script.below(6) + 1));
        if script.byte() % 2 == 0 {
            offer(home, &batch);
            batch.clear();
        }
    }
    offer(home, &batch);
}

/// A batch of which not everything needs to fit; what does not, changes nothing.
fn offer(home: &mut Home, batch: &[Arc<[u8]>]) {
    let before = (home.replica.ops(), home.replica.state_digest(), home.replica.frontier_digest());
    let outcome = home.take(batch);
    if outcome.chained.is_empty() {
        assert_eq!(before, (home.replica.ops(), home.replica.state_digest(), home.replica.frontier_digest()));
    }
}

/// Two nodes get parts, exchange what they lack, and mean the same as the naive twin of all ops that either holds.
pub fn chain(data: &[u8]) {
    let mut script = Script::new(data);
    let trees = trees(&mut script);
    let (mut one, mut other) = (Home::new(), Home::new());
    deliver(&mut script, &trees, &mut one);
    deliver(&mut script, &trees, &mut other);
    one.give(&mut other);
    other.give(&mut one);
    assert_eq!(one.replica.state_digest(), other.replica.state_digest());
    assert_eq!(one.replica.frontier_digest(), other.replica.frontier_digest());
    assert_eq!(one.give(&mut other).0 + other.give(&mut one).0, 0, "equal nodes ask for nothing");
    let everything: Vec<_> = trees.iter().flat_map(|tree| tree.leaves().into_iter().map(|leaf| tree.segment(leaf, usize::MAX))).collect();
    one.take_all(&everything, &[script.below(4) + 1]);
    assert_same(&one.replica, &twin_of(&trees));
    assert_view(&one.view, &one.replica);
    let fresh = one.reloaded();
    assert_eq!(
        (fresh.state_digest(), fresh.frontier_digest(), fresh.lamport()),
        (one.replica.state_digest(), one.replica.frontier_digest(), one.replica.lamport())
    );
}

/// A snapshot gives the same replica; any bytes, and a snapshot with other bytes in it, are refused.
pub fn snapshot(data: &[u8]) {
    assert!(Replica::restore(genesis(), data).is_err(), "a digest was met by chance");
    let mut script = Script::new(data);
    let trees = trees(&mut script);
    let mut home = Home::new();
    deliver(&mut script, &trees, &mut home);
    let bytes = home.replica.snapshot();
    let restored = Replica::restore(genesis(), &bytes).expect("it was written just now");
    assert_eq!((restored.state_digest(), restored.frontier_digest()), (home.replica.state_digest(), home.replica.frontier_digest()));
    assert!(restored.heads().eq(home.replica.heads()));
    let mut changed = bytes.clone();
    let place = script.below(changed.len());
    changed[place] ^= script.byte().max(1);
    assert!(Replica::restore(genesis(), &changed).is_err(), "byte {place} changed, and taken");
    let (body, _) = changed.split_at(changed.len() - 32);
    let mut sealed = body.to_vec();
    sealed.extend_from_slice(blake3::hash(body).as_bytes());
    drop(Replica::restore(genesis(), &sealed)); // may be taken, must not panic: who can write the file can write any state into it
}
