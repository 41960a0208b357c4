//! Fitting verified segments onto what we hold, and onto each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::hash::short;
use fabrik_op::{ChainedSegment, Digest, Key, Refused, Tip, VerifiedSegment};

use crate::branch::Base;
use crate::growth::{Chained, Growth, Place};
use crate::log::heads_max;
use crate::order::Standing;
use crate::replica::{Replica, member_role};
use crate::schema;
use crate::validity::{self, Standpoint};

/// What became of the segments, in the order of the input within each list.
#[derive(Debug, Default)]
pub struct ChainOutcome {
    pub chained: Vec<Chained>,
    /// Ops that we hold already.
    pub duplicates: u64,
    pub gaps: Vec<Gap>,
    /// The branches that are opened.
    pub forks: Vec<Fork>,
    /// Authors without a member record, each once; their segments were left out.
    pub unknown: Vec<Key>,
    /// Logs that get one head too many.
    pub suspended: Vec<(Key, u64)>,
    /// Segments that were left out because their log has one head too many already.
    pub refused: u64,
}

/// A segment whose op before the first is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub author: Key,
    pub epoch: u64,
    /// The highest seq of the log that we hold.
    pub have_seq: u64,
    pub first_seq: u64,
    /// We hold other ops at `first_seq - 1`: it is on a branch that we do not know.
    pub unrooted: bool,
    /// Place of the segment in the input.
    pub index: usize,
}

/// A branch that is opened: two different ops behind one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    pub author: Key,
    pub epoch: u64,
    /// The first place where they differ.
    pub seq: u64,
    /// The new branch, and the one that it leaves, on which our op `seq` is.
    pub branch: u32,
    pub base_branch: u32,
    /// The new branch's first segment.
    pub segment: Arc<[u8]>,
}

/// A segment to be fitted.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its place in the input.
    pub index: usize,
    pub segment: &'a VerifiedSegment,
    /// The branch that it was stored on. On another one it would be a gap: our numbers must stay those of the store.
    pub branch: Option<u32>,
}

pub fn chain<'a>(replica: &Replica, offers: impl Iterator<Item = Offer<'a>>, admit_all: bool) -> Result<ChainOutcome, Refused> {
    let mut fitting = Fitting { replica, logs: BTreeMap::new(), clocks: BTreeMap::new(), members: BTreeMap::new(), outcome: ChainOutcome::default() };
    for Offer { index, segment, branch } in offers {
        if *segment.mesh_id() != replica.genesis().mesh_id {
            return Err(Refused::invalid(format!("segment of {}.. epoch {} was verified for another mesh", short(segment.author()), segment.epoch())));
        }
        if admit_all || fitting.is_admitted(segment.author()) {
            fitting.fit(index, segment, branch);
        } else if !fitting.outcome.unknown.contains(segment.author()) {
            fitting.outcome.unknown.push(*segment.author());
        }
    }
    Ok(fitting.outcome)
}

/// The replica as it would be after the segments that fitted so far, as much of it as chaining asks for.
struct Fitting<'a> {
    replica: &'a Replica,
    logs: BTreeMap<(Key, u64), Growth<'a>>,
    /// Clocks of the genesis admin's branches that grew, by epoch and branch.
    clocks: BTreeMap<(u64, u32), u64>,
    members: BTreeMap<Key, NewMember>,
    outcome: ChainOutcome,
}

/// The winning member record among those of this call.
struct NewMember {
    lamport: u64,
    digest: Digest,
    write_index: u32,
    role: u64,
}

impl NewMember {
    fn standing(&self) -> Standing<'_> {
        Standing { fence: None, state: 0, lamport: self.lamport, digest: &self.digest, write_index: self.write_index }
    }
}

impl Fitting<'_> {
    fn is_admitted(&self, author: &Key) -> bool {
        match self.members.get(author) {
            Some(member) => *author == self.replica.genesis().admin || member.role != 0,
            None => self.replica.is_admitted(author),
        }
    }

    fn fit(&mut self, index: usize, segment: &VerifiedSegment, stored_on: Option<u32>) {
        let (author, epoch) = (*segment.author(), segment.epoch());
        let held = self.replica.log(&author, epoch);
        let growth = self.logs.entry((author, epoch)).or_insert_with(|| Growth::new(held, heads_max(self.replica.genesis(), &author)));
        if growth.is_full() {
            self.outcome.refused += 1;
            return;
        }
        let (branch, base, skip) = match growth.place(segment, &self.outcome.chained) {
            Place::Held => {
                self.outcome.duplicates += segment.len() as u64;
                return;
            }
            Place::Nowhere { have_seq, unrooted } => {
                self.outcome.gaps.push(Gap { author, epoch, have_seq, first_seq: segment.first_seq(), unrooted, index });
                return;
            }
            Place::Continues { branch, skip } => (branch, None, skip),
            Place::Opens { base, skip } => (growth.branches(), Some(base), skip),
        };
        if stored_on.is_some_and(|stored_on| stored_on != branch) {
            self.outcome.gaps.push(Gap { author, epoch, have_seq: segment.first_seq() - 1, first_seq: segment.first_seq(), unrooted: true, index });
            return;
        }
        let Some(segment) = cut(segment, skip) else { return };
        self.outcome.duplicates += skip as u64;
        let chained = Chained { segment, branch, base };
        if let Some(base) = base {
            let (seq, segment) = (base.seq + 1, Arc::clone(chained.data()));
            self.outcome.forks.push(Fork { author, epoch, seq, branch, base_branch: base.branch, segment });
        }
        let is_admin = author == self.replica.genesis().admin;
        let clock = is_admin.then(|| {
            let before = chained.base.unwrap_or(Base { branch, seq: chained.first_seq() - 1 });
            self.clocks.get(&(epoch, branch)).copied().unwrap_or_else(|| growth.clock_at(before, &self.outcome.chained))
        });
        growth.add(&chained, self.outcome.chained.len());
        let suspended = held.is_some_and(|log| log.suspended);
        if growth.is_full() && !suspended {
            self.outcome.suspended.push((author, epoch));
        } else if let Some(clock) = clock.filter(|_| !suspended) {
            let clock = note_members(self.replica, &chained, clock, &mut self.members);
            self.clocks.insert((epoch, branch), clock);
        }
        self.outcome.chained.push(chained);
    }
}

/// The segment without its first `skip` ops, which we hold.
fn cut(segment: &VerifiedSegment, skip: usize) -> Option<ChainedSegment> {
    let seq = segment.first_seq() - 1 + skip as u64;
    let head = *segment.heads().nth(skip)?;
    segment.chain_onto(&Tip { mesh_id: *segment.mesh_id(), author: *segment.author(), epoch: segment.epoch(), seq, head }).ok()
}

/// Takes the effective member records of a segment of the genesis admin into account; `clock` is its branch's before it. Returns the one after it.
fn note_members(replica: &Replica, segment: &ChainedSegment, mut clock: u64, members: &mut BTreeMap<Key, NewMember>) -> u64 {
    for op in segment.ops() {
        if !validity::keeps_clock(clock, op.lamport()) {
            continue;
        }
        let standpoint = Standpoint { admin: &replica.genesis().admin, author: segment.author() };
        clock = op.lamport();
        if !op.writes().any(|write| write.kind == u64::from(schema::MEMBER)) || validity::judge(&standpoint, &op) != Ok(true) {
            continue;
        }
        for (write, write_index) in op.writes().zip(0..) {
            let is_record = schema::lookup(write.kind, write.field).is_some_and(|known| known.kind_number == schema::MEMBER);
            let Some(member) = Key::try_from(write.id).ok().filter(|_| is_record) else { continue };
            let new = NewMember { lamport: op.lamport(), digest: *op.digest, write_index, role: member_role(write.value) };
            let held = members.get(&member).map(NewMember::standing).or_else(|| replica.member(&member).map(|register| register.standing()));
            if held.is_none_or(|held| held.compare(&new.standing(), &member).is_lt()) {
                members.insert(member, new);
            }
        }
    }
    clock
}
