//! The logs that we hold: one head each, and enough of the chain behind it to recognise a fork (8 bytes per op).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use fabrik_op::{Digest, Key, Tip};

/// The chain hashes of a run of ops from some seq onwards, 8 bytes of each: what a foreign chain is compared with.
///
/// 8 bytes find every accident. A collision that is made on purpose only hides its maker's own fork, which is not stored anyway.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<[u8; 8]>);

impl Marks {
    pub fn push(&mut self, head: &Digest) {
        self.0.push(mark(head));
    }

    /// The first place of `heads` that differs from this run at and after `skip`, as an index into `heads`.
    pub fn differ<'a>(&self, skip: usize, heads: impl Iterator<Item = &'a Digest>) -> Option<usize> {
        let held = self.0.get(skip..).unwrap_or_default();
        held.iter().zip(heads).position(|(held, head)| *held != mark(head))
    }
}

fn mark(head: &Digest) -> [u8; 8] {
    head.first_chunk().copied().unwrap_or_default()
}

/// One log.
#[derive(Debug, Clone)]
pub struct Log {
    pub tip: Tip,
    /// Lamport of the last clock-valid op.
    pub clock: u64,
    /// From `h_0` onwards.
    pub marks: Marks,
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

    /// The index of a log, which is added at its start when we hold nothing of it. None beyond 2^32 logs.
    pub fn place(&mut self, mesh_id: &Digest, author: &Key, epoch: u64) -> Option<u32> {
        if let Some(&place) = self.places.get(&(*author, epoch)) {
            return Some(place);
        }
        let place = u32::try_from(self.list.len()).ok()?;
        let tip = Tip::start(mesh_id, author, epoch);
        let mut marks = Marks::default();
        marks.push(&tip.head);
        self.list.push(Log { tip, clock: 0, marks });
        self.places.insert((*author, epoch), place);
        Some(place)
    }

    /// Compares two logs by author and epoch. Decides between identical ops of two logs, which have one digest.
    #[must_use]
    pub fn compare(&self, one: u32, other: u32) -> Ordering {
        let name = |place| self.at(place).map(|log| (&log.tip.author, log.tip.epoch));
        name(one).cmp(&name(other))
    }

    /// All logs in order of author and epoch.
    pub fn ordered(&self) -> impl Iterator<Item = &Log> {
        self.places.values().filter_map(|&place| self.at(place))
    }
}
