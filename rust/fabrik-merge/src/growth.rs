//! A log as it will be after segments that were found to fit, and where a further one belongs in it.

use std::ops::Deref;

use fabrik_op::{ChainedSegment, Digest, VerifiedSegment};

use crate::branch::Base;
use crate::log::Log;
use crate::validity::keeps_clock;

/// A chained segment and its branch.
#[derive(Debug, Clone)]
pub struct Chained {
    pub segment: ChainedSegment,
    /// Our number of the branch that it continues or opens.
    pub branch: u32,
    /// Where it opens its branch; none when it continues one, and for branch 0.
    pub base: Option<Base>,
}

impl Deref for Chained {
    type Target = ChainedSegment;

    fn deref(&self) -> &ChainedSegment {
        &self.segment
    }
}

/// Where a segment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All of its ops are held.
    Held,
    /// Its ops from index `skip` on continue this branch.
    Continues { branch: u32, skip: usize },
    /// Its ops from index `skip` on are a branch of their own behind `base`.
    Opens { base: Base, skip: usize },
    /// The op before it is not held. Unrooted: other ops are, at that seq.
    Nowhere { have_seq: u64, unrooted: bool },
}

/// A held log and its growth by segments that are kept elsewhere, in a list that every question is asked with.
#[derive(Debug)]
pub struct Growth<'a> {
    held: Option<&'a Log>,
    heads_max: usize,
    ends: Vec<End>,
}

/// The end of a branch.
#[derive(Debug)]
struct End {
    base: Option<Base>,
    /// Up to where the log itself holds it.
    held_seq: u64,
    seq: u64,
    head: Digest,
    /// First seq and place in the list of each segment that continued it.
    pieces: Vec<(u64, usize)>,
}

impl End {
    fn start(&self) -> u64 {
        self.base.map_or(0, |base| base.seq)
    }
}

impl<'a> Growth<'a> {
    /// `heads_max`: with more heads the log is suspended.
    #[must_use]
    pub fn new(held: Option<&'a Log>, heads_max: usize) -> Self {
        let branches = held.map_or(&[][..], |log| &log.branches);
        let ends = branches.iter().map(|branch| End { base: branch.base, held_seq: branch.seq, seq: branch.seq, head: branch.head, pieces: Vec::new() });
        Self { held, heads_max, ends: ends.collect() }
    }

    /// Nothing more of the log is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ends.len() > self.heads_max
    }

    /// Number of the next new branch.
    #[must_use]
    pub fn branches(&self) -> u32 {
        u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    /// Seq and chain hash of a branch's end.
    #[must_use]
    pub fn end(&self, branch: u32) -> Option<(u64, &Digest)> {
        self.at(branch).map(|end| (end.seq, &end.head))
    }

    /// Follows a verified segment along the branches.
    #[must_use]
    pub fn place(&self, segment: &VerifiedSegment, list: &[Chained]) -> Place {
        let before = segment.first_seq() - 1;
        let mut heads = segment.heads();
        let found = heads.next().and_then(|prev| if before == 0 { Some(0) } else { self.owner(before, prev, list) });
        let Some(mut branch) = found else {
            let have_seq = self.ends.iter().map(|end| end.seq).max().unwrap_or(0);
            return Place::Nowhere { have_seq, unrooted: before <= have_seq };
        };
        for (seq, (skip, head)) in (before..).zip(heads.enumerate()) {
            match self.is_at(branch, seq + 1, head, list) {
                None => return Place::Continues { branch, skip },
                Some(true) => {}
                Some(false) => match self.child(Base { branch, seq }, head, list) {
                    Some(child) => branch = child,
                    None => return Place::Opens { base: Base { branch, seq }, skip },
                },
            }
        }
        Place::Held
    }

    /// Notes that the segment at `place` of the list continues or opens its branch.
    pub fn add(&mut self, chained: &Chained, place: usize) {
        if chained.branch == self.branches() {
            let held_seq = chained.base.map_or(0, |base| base.seq);
            self.ends.push(End { base: chained.base, held_seq, seq: held_seq, head: *chained.prev(), pieces: Vec::new() });
        }
        if let Some(end) = usize::try_from(chained.branch).ok().and_then(|branch| self.ends.get_mut(branch)) {
            end.pieces.push((chained.first_seq(), place));
            end.seq = chained.last_seq();
            end.head = *chained.head();
        }
    }

    /// Why a chained segment does not fit here, if so. `start` is the log's `h_0`.
    pub fn check(&self, chained: &Chained, list: &[Chained], start: impl FnOnce() -> Digest) -> Result<(), String> {
        if self.is_full() {
            return Err("belongs to a suspended log".to_owned());
        }
        let Some(base) = chained.base else {
            let (seq, head) = match self.end(chained.branch) {
                Some((seq, head)) => (seq, *head),
                None if chained.branch == 0 => (0, start()),
                None => return Err(format!("continues branch {}, which is not there", chained.branch)),
            };
            return match () {
                () if chained.first_seq() != seq + 1 => Err(format!("starts at seq {}, expected {}", chained.first_seq(), seq + 1)),
                () if *chained.prev() != head => Err(format!("does not chain to the head at seq {seq}")),
                () => Ok(()),
            };
        };
        if chained.branch != self.branches() {
            return Err(format!("opens branch {}, expected {}", chained.branch, self.branches()));
        }
        if chained.first_seq() != base.seq + 1 {
            return Err(format!("starts at seq {}, expected {}", chained.first_seq(), base.seq + 1));
        }
        let rooted = if base == (Base { branch: 0, seq: 0 }) {
            *chained.prev() == start()
        } else {
            self.is_at(base.branch, base.seq, chained.prev(), list) == Some(true)
        };
        if !rooted {
            return Err(format!("does not chain to seq {} of branch {}", base.seq, base.branch));
        }
        let first = chained.head_at(chained.first_seq()).unwrap_or(chained.head());
        match self.is_at(base.branch, base.seq + 1, first, list) {
            Some(false) if self.child(base, first, list).is_none() => Ok(()),
            _ => Err(format!("is no branch of its own behind seq {} of branch {}", base.seq, base.branch)),
        }
    }

    /// The clock of the path that ends at `base`.
    #[must_use]
    pub fn clock_at(&self, base: Base, list: &[Chained]) -> u64 {
        let Some(end) = self.at(base.branch) else { return 0 };
        let held = self.held.filter(|log| log.branch(base.branch).is_some());
        let before = match (held, end.base) {
            (Some(log), _) => log.clock_at(Base { branch: base.branch, seq: base.seq.min(end.held_seq) }),
            (None, Some(before)) => self.clock_at(before, list),
            (None, None) => 0,
        };
        let grown = end.pieces.iter().filter_map(|&(_, place)| list.get(place)).flat_map(|piece| piece.ops());
        grown.take_while(|op| op.seq <= base.seq).fold(before, |clock, op| if keeps_clock(clock, op.lamport()) { op.lamport() } else { clock })
    }

    fn at(&self, branch: u32) -> Option<&End> {
        self.ends.get(usize::try_from(branch).ok()?)
    }

    /// The branch that has op `seq` with this chain hash as its own.
    fn owner(&self, seq: u64, head: &Digest, list: &[Chained]) -> Option<u32> {
        (0..self.branches()).find(|&branch| self.is_at(branch, seq, head, list) == Some(true))
    }

    /// The branch behind `base` whose first op has this chain hash.
    fn child(&self, base: Base, head: &Digest, list: &[Chained]) -> Option<u32> {
        let children = (0..).zip(&self.ends).filter(|(_, end)| end.base == Some(base));
        children.map(|(number, _)| number).find(|&child| self.is_at(child, base.seq + 1, head, list) == Some(true))
    }

    /// Whether the branch's own op at `seq` has this chain hash; none when it has no own op there.
    fn is_at(&self, branch: u32, seq: u64, head: &Digest, list: &[Chained]) -> Option<bool> {
        let end = self.at(branch)?;
        if seq <= end.start() || seq > end.seq {
            return None;
        }
        if seq <= end.held_seq {
            return self.held?.branch(branch)?.is_at(seq, head);
        }
        let piece = end.pieces.partition_point(|&(first_seq, _)| first_seq <= seq).checked_sub(1)?;
        Some(list.get(end.pieces.get(piece)?.1)?.head_at(seq)? == head)
    }
}
