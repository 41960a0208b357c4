//! The logs that we hold: one head each, and enough of the chain behind it to recognise a fork.

use std::collections::BTreeMap;

use fabrik_op::{Digest, Key, Tip};

/// Chain hashes kept per log. Bounds memory at 80 KiB per log; beyond it the older half is thinned.
const MARKS_MAX: usize = 2_048;

/// Chain hashes at some places of a log, ascending by seq, the newest densest.
#[derive(Debug, Clone, Default)]
pub struct Marks(Vec<(u64, Digest)>);

impl Marks {
    pub fn push(&mut self, seq: u64, head: Digest) {
        if self.0.len() >= MARKS_MAX {
            let older = MARKS_MAX / 2;
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place > older || place % 2 == 0
            });
        }
        self.0.push((seq, head));
    }

    /// The marks from `first` to `last`, both included.
    pub fn between(&self, first: u64, last: u64) -> &[(u64, Digest)] {
        let start = self.0.partition_point(|&(seq, _)| seq < first);
        let end = self.0.partition_point(|&(seq, _)| seq <= last);
        self.0.get(start..end).unwrap_or_default()
    }
}

/// One log.
#[derive(Debug, Clone)]
pub struct Log {
    pub tip: Tip,
    /// Lamport of the last clock-valid op.
    pub clock: u64,
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
        self.list.push(Log { tip: Tip::start(mesh_id, author, epoch), clock: 0, marks: Marks::default() });
        self.places.insert((*author, epoch), place);
        Some(place)
    }

    /// All logs in order of author and epoch.
    pub fn ordered(&self) -> impl Iterator<Item = &Log> {
        self.places.values().filter_map(|&place| self.at(place))
    }
}
