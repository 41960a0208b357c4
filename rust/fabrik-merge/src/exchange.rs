//! What two nodes ask each other about a log with more than one head, and whether what is stored is still what was merged.

use std::collections::BTreeSet;

use fabrik_op::{Digest, Key, VerifiedSegment};

use crate::branch::{Branch, Mark};
use crate::digest::CROWDED_SEQ;
use crate::log::Log;
use crate::replica::Replica;

/// Most places of one answer. A branch of which no place is among them is sent from its base: twice is harmless.
const PLACES_MAX: usize = 1_024;

impl Replica {
    /// Whether the op with this chain hash is on one of our branches, or whether this is the log's marker. For a suspended log true exactly for its marker.
    #[must_use]
    pub fn holds(&self, author: &Key, epoch: u64, seq: u64, head: &Digest) -> bool {
        let Some(log) = self.log(author, epoch) else { return false };
        if log.suspended || seq == CROWDED_SEQ { log.marker() == Some((seq, *head)) } else { log.owner(seq, head).is_some() }
    }

    /// The one head by which a log is announced in place of its own: of a suspended one `(2^53, zeros)`; of one that is not, and has more than 64 heads,
    /// `(2^53 - 1, digest of its heads)`. None for all others.
    #[must_use]
    pub fn marker(&self, author: &Key, epoch: u64) -> Option<(u64, Digest)> {
        self.log(author, epoch)?.marker()
    }

    /// `(seq, mark)` on each branch's path: at its head, at seq 1, and 1, 2, 4, 8 ... before the head. Each once; the nearest to the heads first.
    #[must_use]
    pub fn places(&self, author: &Key, epoch: u64) -> Vec<(u64, Mark)> {
        let Some(log) = self.log(author, epoch) else { return Vec::new() };
        let mut seen = BTreeSet::new();
        let mut places = Vec::new();
        let mut note = |branch: u32, seq: u64| {
            let owner = log.owner_on_path(branch, seq);
            if places.len() < PLACES_MAX && seen.insert((owner, seq)) {
                places.extend(log.branch(owner).and_then(|held| held.mark(seq)).map(|mark| (seq, *mark)));
            }
        };
        let heads = || (0..).zip(&log.branches).map(|(number, branch)| (number, branch.seq));
        heads().for_each(|(branch, seq)| note(branch, seq));
        heads().for_each(|(branch, _)| note(branch, 1));
        for distance in (0..53).map(|power| 1_u64 << power) {
            heads().filter(|(_, seq)| *seq > distance).for_each(|(branch, seq)| note(branch, seq - distance));
        }
        places
    }

    /// The mark of op `seq` on the path to a branch's head; what a record names a place by.
    #[must_use]
    pub fn mark(&self, author: &Key, epoch: u64, branch: u32, seq: u64) -> Option<Mark> {
        let log = self.log(author, epoch)?;
        log.branch(branch)?;
        log.branch(log.owner_on_path(branch, seq))?.mark(seq).copied()
    }

    /// `(branch, seq)`: what somebody who holds `places` lacks of our branches, behind `seq` of each; in order of branch.
    #[must_use]
    pub fn cursors(&self, author: &Key, epoch: u64, places: &[(u64, Mark)]) -> Vec<(u32, u64)> {
        let Some(log) = self.log(author, epoch) else { return Vec::new() };
        let mut known: Vec<Option<u64>> = log.branches.iter().map(|branch| known_of(branch, places)).collect();
        // A branch that is known at all is known with its base. Bases have lower numbers.
        for number in (0..known.len()).rev() {
            let base = log.branches.get(number).and_then(|branch| branch.base).filter(|_| known.get(number).is_some_and(Option::is_some));
            if let Some((base, slot)) = base.and_then(|base| Some((base, known.get_mut(usize::try_from(base.branch).ok()?)?))) {
                *slot = (*slot).max(Some(base.seq)).filter(|&seq| seq > 0);
            }
        }
        let cursors = (0..).zip(&log.branches).zip(known).map(|((number, branch), seq)| (number, branch, seq.unwrap_or(branch.start())));
        cursors.filter(|(_, branch, seq)| *seq < branch.seq).map(|(number, _, seq)| (number, seq)).collect()
    }

    /// Why a stored segment is not what was merged on this branch, if so. That it verifies is seen by verifying it anew, before.
    pub fn check(&self, author: &Key, epoch: u64, branch: u32, segment: &VerifiedSegment) -> Result<(), String> {
        if segment.author() != author || segment.epoch() != epoch {
            return Err("it is of another log".to_owned());
        }
        let log = self.log(author, epoch).ok_or("nothing of this log was merged")?;
        let held = log.branch(branch).ok_or("nothing of this branch was merged")?;
        let (start, before) = (held.start(), segment.first_seq() - 1);
        if before < start || segment.last_seq() > held.seq {
            return Err(format!("its ops {}..{} are not within {}..{} of the branch", segment.first_seq(), segment.last_seq(), start + 1, held.seq));
        }
        for (seq, head) in (before..).zip(segment.heads()) {
            if seq > 0 && !log.is_on_path(branch, seq, head) {
                return Err(format!("it has another chain hash at seq {seq}"));
            }
        }
        Ok(())
    }
}

/// The highest seq of a branch's own ops that is among `places`.
fn known_of(branch: &Branch, places: &[(u64, Mark)]) -> Option<u64> {
    places.iter().filter(|(seq, mark)| branch.mark(*seq) == Some(mark)).map(|(seq, _)| *seq).max()
}

impl Log {
    fn is_on_path(&self, branch: u32, seq: u64, head: &Digest) -> bool {
        self.branch(self.owner_on_path(branch, seq)).is_some_and(|held| held.is_at(seq, head) == Some(true))
    }
}
