//! Fitting verified segments onto what we hold, and onto each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::hash::short;
use fabrik_op::{ChainedSegment, Key, Refused, Tip, VerifiedSegment};

use crate::branch::Base;
use crate::growth::{Chained, Growth, Place};
use crate::log::heads_max;
use crate::names::Names;
use crate::replica::Replica;
use crate::sheet::{Sheet, says_anything, sheets};
use crate::validity;

/// What became of the segments, in the order of the input within each list.
#[derive(Debug, Default)]
pub struct ChainOutcome {
    pub chained: Vec<Chained>,
    /// Ops that we hold already.
    pub duplicates: u64,
    pub gaps: Vec<Gap>,
    /// The branches that are opened.
    pub forks: Vec<Fork>,
    /// Authors whom no record names, each once; their segments were left out.
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
    let mut fitting = Fitting {
        replica,
        logs: BTreeMap::new(),
        clocks: BTreeMap::new(),
        sheets: BTreeMap::new(),
        names: None,
        ignore_names: admit_all,
        outcome: ChainOutcome::default(),
    };
    for Offer { index, segment, branch } in offers {
        if *segment.mesh_id() != replica.genesis().mesh_id {
            return Err(Refused::invalid(format!("segment of {}.. epoch {} was verified for another mesh", short(segment.author()), segment.epoch())));
        }
        if admit_all || fitting.is_named(segment.author()) {
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
    /// Clocks of branches that grew by sheets, by log and branch, and the seq that they are of.
    clocks: BTreeMap<(Key, u64, u32), (u64, u64)>,
    /// What the segments say about who is who, by author, and who is named then; none when they say nothing.
    sheets: BTreeMap<Key, Vec<Sheet>>,
    names: Option<Names>,
    /// Everybody's logs are taken.
    ignore_names: bool,
    outcome: ChainOutcome,
}

impl Fitting<'_> {
    fn is_named(&self, author: &Key) -> bool {
        self.names.as_ref().unwrap_or_else(|| self.replica.authority.names()).has(author)
    }

    /// Takes into account whom a segment names, which is the last of those that fitted. `at`: the op before it.
    fn note(&mut self, chained: &Chained, at: Base) {
        let (author, epoch) = (*chained.author(), chained.epoch());
        let Some(growth) = self.logs.get(&(author, epoch)) else { return };
        if !says_anything(chained) {
            return;
        }
        let known = self.clocks.get(&(author, epoch, at.branch)).filter(|(seq, _)| *seq == at.seq).map(|(_, clock)| *clock);
        let clock = known.unwrap_or_else(|| growth.clock_at(at, &self.outcome.chained));
        let after = chained.ops().fold(clock, |clock, op| if validity::keeps_clock(clock, op.lamport()) { op.lamport() } else { clock });
        self.clocks.insert((author, epoch, chained.branch), (chained.last_seq(), after));
        self.sheets.entry(author).or_default().extend(sheets(self.replica.genesis(), chained, chained.branch, clock));
        let authority = &self.replica.authority;
        let names = self.names.get_or_insert_with(|| authority.names().clone());
        names.spread(&author, |key| authority.sheets_of(key).chain(self.sheets.get(key).into_iter().flatten()));
    }

    fn fit(&mut self, index: usize, segment: &VerifiedSegment, stored_on: Option<u32>) {
        let (author, epoch) = (*segment.author(), segment.epoch());
        let held = self.replica.log(&author, epoch);
        let growth = self.logs.entry((author, epoch)).or_insert_with(|| Growth::new(held, heads_max(self.replica.authority.names(), &author)));
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
        let before = chained.base.unwrap_or(Base { branch, seq: chained.first_seq() - 1 });
        if !self.ignore_names {
            self.note(&chained, before);
        }
        let Some(growth) = self.logs.get_mut(&(author, epoch)) else { return };
        growth.add(&chained, self.outcome.chained.len());
        if growth.is_full() && !held.is_some_and(|log| log.suspended) {
            self.outcome.suspended.push((author, epoch));
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
