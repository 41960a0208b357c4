//! Every small world: ops are letters, a log is a forest of them, a world is one or two logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use std::collections::BTreeMap;

use fabrik_merge::Replica;
use fabrik_merge::naive::Naive;
use fabrik_op::limits::LAMPORT_STEP_MAX;
use fabrik_op::{ChainedSegment, Digest, Follows, Key, OpBody, Tip, VerifiedSegment, WriteBody, author_segment};

use super::sketch::assert_same;
use super::{claim, fenced, genesis, key, member, stage, title, tombstone, verify, write};

/// The item that all of them write to.
pub const ITEM: [u8; 16] = [0x42; 16];

/// What an op says. Those of one log and one place differ in their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Letter {
    Title(u8),
    /// Its lamport is not above its log's clock (but for the first op of a log).
    Late,
    /// Its lamport is too far above its log's clock.
    Far,
    /// As far as it may be.
    Leap,
    /// One good write and a malformed one.
    Malformed,
    Tombstone,
    /// A claim of the author's own; all have one receipt and epoch.
    Claim,
    Release,
    /// A stage under the author's own claim, and one under the other author's.
    Fenced,
    Borrowed,
    /// A member record of author 1: taken in, put out. Void but from the admin.
    Admit,
    Expel,
    /// A member record that one malformed write voids.
    Torn,
    Opening,
    Genesis,
    /// An op kind of a later version.
    Later,
}

impl Letter {
    /// How far it is above its log's clock, its kind, and its writes.
    fn content(self, author: u8) -> (u64, u64, Vec<WriteBody>) {
        let (own, other) = (author + 1, 2 - author);
        let claimed = |state| claim(&ITEM, &key(author).public(), own, 0, 1, state);
        let record = |role| member(&key(1).public(), role);
        let malformed = write(1, &ITEM, 1, vec![0x01]);
        match self {
            Self::Title(text) => (1, 1, vec![title(&ITEM, &format!("title {text}"))]),
            Self::Late => (0, 1, vec![title(&ITEM, "late")]),
            Self::Far => (LAMPORT_STEP_MAX + 1, 1, vec![title(&ITEM, "far")]),
            Self::Leap => (LAMPORT_STEP_MAX, 1, vec![title(&ITEM, "leap")]),
            Self::Malformed => (1, 1, vec![stage(&ITEM, 2), malformed]),
            Self::Tombstone => (1, 1, vec![tombstone(&ITEM, "gone")]),
            Self::Claim => (1, 1, vec![claimed(0)]),
            Self::Release => (1, 1, vec![claimed(2)]),
            Self::Fenced => (1, 1, vec![fenced(stage(&ITEM, 1), 0, 1, own)]),
            Self::Borrowed => (1, 1, vec![fenced(stage(&ITEM, 2), 0, 1, other)]),
            Self::Admit => (1, 1, vec![record(2)]),
            Self::Expel => (1, 1, vec![record(0)]),
            Self::Torn => (1, 1, vec![record(2), malformed]),
            Self::Opening => (1, 3, vec![stage(&ITEM, 0)]),
            Self::Genesis => (1, 2, vec![stage(&ITEM, 1)]),
            Self::Later => (1, 9, vec![title(&ITEM, "later")]),
        }
    }
}

/// The ops of a log, parents first: index of the parent, index of the letter.
pub type Shape = Vec<(Option<usize>, usize)>;

/// Every forest of so many ops whose siblings have different letters, once: every log of that size.
pub fn shapes(size: usize, letters: usize) -> Vec<Shape> {
    let mut found = Vec::new();
    extend(&mut Vec::new(), size, letters, &mut found);
    found
}

/// In the order of a walk: the next op is behind the last one, or behind an op on its path, with a letter above the one that the path goes on with.
fn extend(shape: &mut Shape, size: usize, letters: usize, found: &mut Vec<Shape>) {
    if shape.len() == size {
        found.push(shape.clone());
        return;
    }
    let (mut parent, mut least) = (shape.len().checked_sub(1), 0);
    loop {
        for letter in least..letters {
            shape.push((parent, letter));
            extend(shape, size, letters, found);
            shape.pop();
        }
        let Some(at) = parent else { return };
        (parent, least) = (shape[at].0, shape[at].1 + 1);
    }
}

/// All orders of so many things.
pub fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let inserted = |order: Vec<usize>| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, last);
            order
        })
    };
    orders(last).into_iter().flat_map(inserted).collect()
}

/// A log's author and epoch, and its ops.
#[derive(Debug, Clone)]
pub struct Script {
    pub author: u8,
    pub epoch: u64,
    pub ops: Vec<(Option<usize>, Letter)>,
}

impl Script {
    pub fn new(author: u8, epoch: u64, shape: &Shape, letters: &[Letter]) -> Self {
        Self { author, epoch, ops: shape.iter().map(|&(parent, letter)| (parent, letters[letter])).collect() }
    }
}

/// An op of a world; `parent` is the index of the one before it.
#[derive(Debug, Clone)]
pub struct Op {
    pub parent: Option<usize>,
    pub segment: ChainedSegment,
    pub verified: VerifiedSegment,
    /// Of its path.
    clock: u64,
}

/// Ops that were signed before: by the chain hash before them, and letter.
pub type Library = BTreeMap<(Digest, Letter), Op>;

/// What a set of ops means to the naive twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub state: Digest,
    pub frontier: Digest,
    pub lamport: u64,
    pub voided: u64,
    pub heads: usize,
}

impl Sight {
    pub fn of(replica: &Replica) -> Self {
        let (state, frontier) = (replica.state_digest(), replica.frontier_digest());
        Self { state, frontier, lamport: replica.lamport(), voided: replica.voided(), heads: replica.heads().count() }
    }
}

/// Ops and, by the set of those that are held (bit by bit), what they mean.
#[derive(Debug)]
pub struct World {
    script: Vec<Script>,
    pub ops: Vec<Op>,
    sights: BTreeMap<usize, Sight>,
}

impl World {
    pub fn new(script: &[Script], library: &mut Library) -> Self {
        let mut ops: Vec<Op> = Vec::new();
        for log in script {
            let start = ops.len();
            for &(parent, letter) in &log.ops {
                let parent = parent.map(|parent| start + parent);
                let before = parent.map(|parent| &ops[parent]);
                let key = key(log.author);
                let tip = before.map_or_else(|| Tip::start(&genesis().mesh_id, &key.public(), log.epoch), |op| op.segment.tip());
                let clock = before.map_or(0, |op| op.clock);
                let entry = library.entry((tip.head, letter)).or_insert_with(|| {
                    let (step, kind, writes) = letter.content(log.author);
                    let follows = (letter == Letter::Opening).then_some(Follows { epoch: 1, seq: 1, head: [0; 32] });
                    let body = OpBody { seq: tip.seq + 1, lamport: (clock + step).max(1), wall_ms: 0, kind, writes, follows };
                    let segment = author_segment(&key, &tip, &body).unwrap();
                    let clock = if (1..=LAMPORT_STEP_MAX).contains(&(body.lamport - clock)) { body.lamport } else { clock };
                    Op { parent: None, verified: verify(segment.data()), segment, clock }
                });
                ops.push(Op { parent, ..entry.clone() });
            }
        }
        Self { script: script.to_vec(), ops, sights: BTreeMap::new() }
    }

    pub fn all(&self) -> usize {
        (1 << self.ops.len()) - 1
    }

    pub fn log(&self, op: usize) -> (Key, u64) {
        (*self.ops[op].segment.author(), self.ops[op].segment.epoch())
    }

    /// Whether a node that holds these ops can take this one.
    pub fn fits(&self, held: usize, op: usize) -> bool {
        self.ops[op].parent.is_none_or(|parent| held >> parent & 1 == 1)
    }

    fn twin(&self, held: usize) -> Naive {
        let mut naive = Naive::new(genesis());
        self.ops.iter().enumerate().filter(|(op, _)| held >> op & 1 == 1).for_each(|(_, op)| naive.add(&op.segment));
        naive
    }

    /// The replica means what the twin says that these ops mean. All registers are compared when these are all.
    pub fn check(&mut self, held: usize, replica: &Replica) {
        let known = self.sights.get(&held).cloned();
        let sight = known.unwrap_or_else(|| {
            let naive = self.twin(held);
            let meaning = naive.meaning();
            if held == self.all() {
                assert_same(replica, &naive);
            }
            let (state, frontier) = (meaning.state_digest(), naive.frontier_digest());
            let sight = Sight { state, frontier, lamport: meaning.lamport, voided: meaning.voided, heads: naive.leaves().len() };
            self.sights.insert(held, sight.clone());
            sight
        });
        assert_eq!(Sight::of(replica), sight, "held: {held:b}");
        assert_eq!(replica.ops(), u64::from(held.count_ones()), "void or not, each op is held once, and nothing stands behind it in vain");
    }
}

impl Drop for World {
    /// A failure names its world: as it stands it is the script of a test.
    #[allow(clippy::disallowed_macros)] // To the test's own output.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of this failure: {:?}", self.script);
        }
    }
}

/// Does `each` for every world, on all cores.
pub fn over_all<T: Sync>(worlds: &[T], each: impl Fn(&mut Library, &T) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let each = &each;
            scope.spawn(move || {
                let mut library = Library::new();
                worlds.iter().skip(thread).step_by(threads).for_each(|world| each(&mut library, world));
            });
        }
    });
}
