//! The logs that we hold, each a tree of branches.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use fabrik_op::limits::HEADS_MAX;
use fabrik_op::{Digest, Key};

use crate::branch::{Base, Branch, Mark};
use crate::digest::{CROWDED_SEQ, SUSPENDED_SEQ, heads_digest};
use crate::names::Names;
use crate::powers::Standing;
use crate::sheet::At;

/// How many heads a log of this author may have before it is suspended. Of a key that names others they never are: who is a member comes out of them, so
/// what a node took of others would depend on when it met the last head; and who stole the key of an admin could undo all that the admin ever granted.
/// Nor those of a key that one of these revoked: what has effect of them is what the revocation keeps, and a thief's heads are no part of that. It is the
/// admins' logs that say so, of which every node holds all; no statement of the log itself could.
#[must_use]
pub fn heads_max(names: &Names, author: &Key) -> usize {
    if names.spares(author) { usize::MAX } else { HEADS_MAX }
}

/// One log. Its branches are numbered in the order in which we met them; each begins behind an inner op of one before it, so that its last op is a leaf.
#[derive(Debug, Clone)]
pub struct Log {
    pub author: Key,
    pub epoch: u64,
    /// It has no effect, because it has, or somebody saw that it has, more than [`HEADS_MAX`] heads. Never so for those of a key that is spared ([`heads_max`]).
    pub suspended: bool,
    pub branches: Vec<Branch>,
    /// Classes of registers that merged ops without member records wrote, and those of such ops that were void because of their author's standing.
    pub applied: u8,
    pub denied: u8,
}

impl Log {
    #[must_use]
    pub fn branch(&self, branch: u32) -> Option<&Branch> {
        self.branches.get(usize::try_from(branch).ok()?)
    }

    /// The one head by which it is announced in place of its own, if it is: suspended, or with more heads than are listed.
    #[must_use]
    pub fn marker(&self) -> Option<(u64, Digest)> {
        if self.suspended {
            return Some((SUSPENDED_SEQ, [0; 32]));
        }
        (self.branches.len() > HEADS_MAX).then(|| (CROWDED_SEQ, heads_digest(self.branches.iter().map(|branch| (branch.seq, branch.head)))))
    }

    /// The clock of the path that ends at `base`.
    #[must_use]
    pub fn clock_at(&self, base: Base) -> u64 {
        self.branch(base.branch).map_or(0, |branch| branch.clock_at(base.seq))
    }

    /// Whether a branch can begin here: behind an inner op of a branch, or at the start of the log.
    #[must_use]
    pub fn forks_at(&self, base: Base) -> bool {
        self.branch(base.branch).is_some_and(|branch| base.seq < branch.seq && (base.seq > branch.start() || base == Base { branch: 0, seq: 0 }))
    }

    /// The branch that has op `seq` with this chain hash as its own.
    #[must_use]
    pub fn owner(&self, seq: u64, head: &Digest) -> Option<u32> {
        (0..).zip(&self.branches).find(|(_, branch)| branch.is_at(seq, head) == Some(true)).map(|(number, _)| number)
    }

    /// The path to the op with this mark: up to which seq it is on which branches.
    #[must_use]
    pub fn path_to(&self, seq: u64, mark: &Mark) -> Option<Vec<(u32, u64)>> {
        let owner = (0..).zip(&self.branches).find(|(_, branch)| branch.mark(seq) == Some(mark)).map(|(number, _)| number)?;
        let base = |&(branch, _): &(u32, u64)| self.branch(branch)?.base.filter(|base| base.seq > 0).map(|base| (base.branch, base.seq));
        Some(std::iter::successors(Some((owner, seq)), base).collect())
    }

    /// Whether an op that was merged by one standing of the author would be judged otherwise by another one. True at most too often.
    #[must_use]
    pub fn would_differ(&self, old: &Standing, new: &Standing) -> bool {
        let differs = |branch: u32, seq: u64| {
            let at = At { epoch: self.epoch, branch, seq };
            let (old, new) = (old.allowed(at), new.allowed(at));
            self.applied & old & !new != 0 || (self.denied != 0 && new & !old != 0)
        };
        (0..).zip(&self.branches).any(|(number, branch)| {
            let bounds = old.bounds(self.epoch, number).chain(new.bounds(self.epoch, number)).map(|bound| bound + 1);
            bounds.chain([branch.start() + 1]).filter(|seq| (branch.start() + 1..=branch.seq).contains(seq)).any(|seq| differs(number, seq))
        })
    }

    /// The branch that has op `seq` of the path to `branch`'s head as its own.
    #[must_use]
    pub fn owner_on_path(&self, mut branch: u32, seq: u64) -> u32 {
        while let Some(base) = self.branch(branch).and_then(|held| held.base).filter(|base| seq <= base.seq) {
            branch = base.branch;
        }
        branch
    }
}

/// All logs, by index (what registers keep) and by author and epoch (the order of the frontier).
#[derive(Debug, Default)]
pub struct Logs {
    list: Vec<Log>,
    places: BTreeMap<(Key, u64), u32>,
}

impl Logs {
    #[must_use]
    pub fn find(&self, author: &Key, epoch: u64) -> Option<&Log> {
        self.places.get(&(*author, epoch)).and_then(|&place| self.at(place))
    }

    #[must_use]
    pub fn at(&self, place: u32) -> Option<&Log> {
        self.list.get(usize::try_from(place).ok()?)
    }

    pub fn at_mut(&mut self, place: u32) -> Option<&mut Log> {
        self.list.get_mut(usize::try_from(place).ok()?)
    }

    /// The index of a log, which is added without branches when we hold nothing of it. None beyond 2^32 logs.
    pub fn place(&mut self, author: &Key, epoch: u64) -> Option<u32> {
        if let Some(&place) = self.places.get(&(*author, epoch)) {
            return Some(place);
        }
        let place = u32::try_from(self.list.len()).ok()?;
        self.list.push(Log { author: *author, epoch, suspended: false, branches: Vec::new(), applied: 0, denied: 0 });
        self.places.insert((*author, epoch), place);
        Some(place)
    }

    /// Adds a log behind the others. None when it is there.
    pub fn add(&mut self, log: Log) -> Option<()> {
        let place = u32::try_from(self.list.len()).ok()?;
        if self.places.contains_key(&(log.author, log.epoch)) {
            return None;
        }
        self.places.insert((log.author, log.epoch), place);
        self.list.push(log);
        Some(())
    }

    /// All logs in order of their index.
    #[must_use]
    pub fn by_index(&self) -> &[Log] {
        &self.list
    }

    /// Compares two logs by author and epoch. Decides between identical ops of two logs, which have one digest.
    #[must_use]
    pub fn compare(&self, one: u32, other: u32) -> Ordering {
        let name = |place| self.at(place).map(|log| (&log.author, log.epoch));
        name(one).cmp(&name(other))
    }

    /// All logs of an author.
    pub fn of(&self, author: &Key) -> impl Iterator<Item = &Log> {
        self.places.range((*author, 0)..=(*author, u64::MAX)).filter_map(|(_, &place)| self.at(place))
    }

    /// Those that are suspended, to be changed.
    pub fn suspended_mut(&mut self) -> impl Iterator<Item = &mut Log> {
        self.list.iter_mut().filter(|log| log.suspended)
    }

    /// All logs in order of author and epoch.
    pub fn ordered(&self) -> impl Iterator<Item = &Log> {
        self.places.values().filter_map(|&place| self.at(place))
    }
}
