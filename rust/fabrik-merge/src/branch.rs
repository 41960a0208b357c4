//! One branch of a log: its end, and what is kept of each of its own ops (16 bytes of the chain hash, and the step of the clock in mostly one byte).

use fabrik_op::Digest;
use fabrik_op::limits::{LAMPORT_MAX, LAMPORT_STEP_MAX};

use crate::validity::keeps_clock;

/// The first 16 bytes of a chain hash: what is kept of an op.
///
/// Two different ops of one log with one mark take 2^64 hashes to make, and only the log's author can make them: nodes that met them in different orders
/// would then hold different trees of *his* log. What a segment says about the ops that it carries is always decided by full hashes.
pub type Mark = [u8; 16];

#[must_use]
pub fn mark(head: &Digest) -> Mark {
    head.first_chunk().copied().unwrap_or_default()
}

/// The op behind which a branch begins: op `seq` is an own op of `branch`, or the start of the log (`branch` 0, `seq` 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    pub branch: u32,
    pub seq: u64,
}

/// A path of a log that nobody else has: the ops from `base.seq + 1` to its head.
#[derive(Debug, Clone)]
pub struct Branch {
    /// None for branch 0, which begins at seq 1.
    pub base: Option<Base>,
    /// Of its last op.
    pub seq: u64,
    /// `h_seq`.
    pub head: Digest,
    /// Lamport of the last clock-valid op on the path to its head.
    pub clock: u64,
    /// The clock at its base.
    first_clock: u64,
    marks: Vec<Mark>,
    steps: Steps,
}

impl Branch {
    /// A branch without ops behind `base`, whose clock there is `clock`.
    #[must_use]
    pub fn new(base: Option<Base>, clock: u64, head: Digest) -> Self {
        Self { base, seq: base.map_or(0, |base| base.seq), head, clock, first_clock: clock, marks: Vec::new(), steps: Steps::default() }
    }

    /// The branch of a snapshot; `marks` are its own ops' in a row. None unless every op has its step and the last one is `head`.
    #[must_use]
    pub fn restore(base: Option<Base>, clock: u64, head: Digest, marks: &[u8], steps: &[u8]) -> Option<Self> {
        let marks: Vec<Mark> = marks.chunks_exact(size_of::<Mark>()).filter_map(|mark| mark.first_chunk().copied()).collect();
        let (steps, climbed) = Steps::restore(steps, marks.len())?;
        let mut branch = Self { marks, steps, ..Self::new(base, clock, head) };
        branch.seq += branch.marks.len() as u64;
        branch.clock += climbed;
        Some(branch).filter(|branch| branch.clock <= LAMPORT_MAX && branch.marks.last() == Some(&mark(&head)))
    }

    /// The marks of its own ops.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The steps of its own ops, as bytes.
    #[must_use]
    pub fn steps(&self) -> &[u8] {
        &self.steps.0
    }

    /// The seq behind which its own ops begin.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.base.map_or(0, |base| base.seq)
    }

    /// Adds `count` ops with these chain hashes and lamports.
    pub fn extend<'a>(&mut self, count: usize, ops: impl Iterator<Item = (&'a Digest, u64)>) {
        self.marks.reserve(count);
        for (head, lamport) in ops {
            self.marks.push(mark(head));
            let step = if keeps_clock(self.clock, lamport) { lamport - self.clock } else { 0 };
            self.steps.push(step);
            self.clock += step;
            self.seq += 1;
            self.head = *head;
        }
    }

    /// The mark of its own op at `seq`.
    #[must_use]
    pub fn mark(&self, seq: u64) -> Option<&Mark> {
        self.marks.get(usize::try_from(seq.checked_sub(self.start() + 1)?).ok()?)
    }

    /// Whether its own op at `seq` has this chain hash; none when it has no own op there. The full hash decides at the head.
    #[must_use]
    #[inline]
    pub fn is_at(&self, seq: u64, head: &Digest) -> Option<bool> {
        let own = self.mark(seq)?;
        Some(if seq == self.seq { self.head == *head } else { *own == mark(head) })
    }

    /// The clock of the path after its own op at `seq`, or at its base.
    #[must_use]
    pub fn clock_at(&self, seq: u64) -> u64 {
        if seq >= self.seq {
            return self.clock;
        }
        let ops = usize::try_from(seq.saturating_sub(self.start())).unwrap_or(usize::MAX);
        self.first_clock + self.steps.iter().take(ops).sum::<u64>()
    }
}

/// By how much each op raised the clock (0: it broke the clock rule), 7 bits to a byte, the lowest first; all but the last byte of a step have the top bit.
///
/// Steps are at most 2^24, so at most 4 bytes, and mostly one. They are read only where a branch begins at an inner op, from the start.
#[derive(Debug, Clone, Default)]
struct Steps(Vec<u8>);

impl Steps {
    fn push(&mut self, mut step: u64) {
        while step >= 0x80 {
            self.0.push((step & 0x7f) as u8 | 0x80);
            step >>= 7;
        }
        self.0.push((step & 0x7f) as u8);
    }

    /// These bytes and the sum of their steps; none unless they are `count` steps, written as we do.
    fn restore(bytes: &[u8], count: usize) -> Option<(Self, u64)> {
        let mut steps = Self(Vec::with_capacity(bytes.len()));
        let (mut read, mut sum) = (0, 0);
        for step in Self(bytes.to_vec()).iter().take_while(|step| *step <= LAMPORT_STEP_MAX) {
            steps.push(step);
            read += 1;
            sum += step;
        }
        (read == count && steps.0 == bytes).then_some((steps, sum))
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        let mut bytes = self.0.iter();
        std::iter::from_fn(move || {
            let mut step = 0;
            for shift in (0..64).step_by(7) {
                let byte = *bytes.next()?;
                step |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            Some(step)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Branch;

    /// No test can find two chain hashes with one mark, so this one makes them up.
    #[test]
    fn the_full_hash_decides_at_the_head_and_the_mark_before_it() {
        let (one, same_mark, other_mark) = ([1; 32], [[1; 16], [2; 16]].concat(), [3; 32]);
        let same_mark: [u8; 32] = same_mark.try_into().unwrap_or_default();
        let mut branch = Branch::new(None, 0, [0; 32]);
        branch.extend(1, [(&one, 1)].into_iter());
        assert_eq!([one, same_mark, other_mark].map(|head| branch.is_at(1, &head)), [Some(true), Some(false), Some(false)]);
        branch.extend(1, [(&other_mark, 2)].into_iter());
        assert_eq!([one, same_mark, other_mark].map(|head| branch.is_at(1, &head)), [Some(true), Some(true), Some(false)]);
        assert_eq!([0, 3].map(|seq| branch.is_at(seq, &one)), [None, None]);
    }
}
