//! Fitting verified segments onto what we hold, and onto each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::hash::short;
use fabrik_op::{ChainedSegment, Digest, Key, Misfit, Refused, Tip, VerifiedSegment};

use crate::log::Marks;
use crate::order::Standing;
use crate::replica::{Replica, member_role};
use crate::schema;
use crate::validity::{self, Standpoint};

/// What became of the segments, in the order of the input within each list.
#[derive(Debug, Default)]
pub struct ChainOutcome {
    pub chained: Vec<ChainedSegment>,
    /// Ops that we hold already.
    pub duplicates: u64,
    pub gaps: Vec<Gap>,
    pub forks: Vec<Fork>,
    /// Authors without a member record, each once; their segments were left out.
    pub unknown: Vec<Key>,
}

/// A segment that starts beyond what we hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub author: Key,
    pub epoch: u64,
    pub have_seq: u64,
    pub first_seq: u64,
}

/// Two different ops at one place of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    pub author: Key,
    pub epoch: u64,
    /// The first place where they differ, as far as we can tell.
    pub seq: u64,
    /// The other branch's segment.
    pub segment: Arc<[u8]>,
}

pub fn chain(replica: &Replica, verified: &[VerifiedSegment], admit_all: bool) -> Result<ChainOutcome, Refused> {
    let mut fitting = Fitting { replica, logs: BTreeMap::new(), members: BTreeMap::new(), outcome: ChainOutcome::default() };
    for segment in verified {
        if *segment.mesh_id() != replica.genesis().mesh_id {
            return Err(Refused::invalid(format!("segment of {}.. epoch {} was verified for another mesh", short(segment.author()), segment.epoch())));
        }
        if admit_all || fitting.is_admitted(segment.author()) {
            fitting.fit(segment);
        } else if !fitting.outcome.unknown.contains(segment.author()) {
            fitting.outcome.unknown.push(*segment.author());
        }
    }
    Ok(fitting.outcome)
}

/// The replica as it would be after the segments that fitted so far, as much of it as chaining asks for.
struct Fitting<'a> {
    replica: &'a Replica,
    logs: BTreeMap<(Key, u64), NewLog>,
    members: BTreeMap<Key, NewMember>,
    outcome: ChainOutcome,
}

/// A log's end in this call.
struct NewLog {
    tip: Tip,
    clock: u64,
    /// The chain hashes that came in this call, from `start + 1` onwards.
    marks: Marks,
    /// Where the replica's own log ends.
    start: u64,
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

    fn fit(&mut self, segment: &VerifiedSegment) {
        let replica = self.replica;
        let (author, epoch) = (*segment.author(), segment.epoch());
        let log = self.logs.entry((author, epoch)).or_insert_with(|| {
            let held = replica.log(&author, epoch);
            let tip = held.map_or_else(|| Tip::start(&replica.genesis().mesh_id, &author, epoch), |log| log.tip.clone());
            NewLog { start: tip.seq, tip, clock: held.map_or(0, |log| log.clock), marks: Marks::default() }
        });
        let held = segment.last_seq().min(log.tip.seq).saturating_sub(segment.first_seq() - 1);
        match segment.chain_onto(&log.tip) {
            Ok(chained) => {
                self.outcome.duplicates += held;
                log.tip = chained.tip();
                chained.ops().for_each(|op| log.marks.push(op.head()));
                if author == replica.genesis().admin {
                    log.clock = note_members(replica, &chained, log.clock, &mut self.members);
                }
                self.outcome.chained.push(chained);
            }
            Err(Misfit::Gap | Misfit::OtherLog) => {
                self.outcome.gaps.push(Gap { author, epoch, have_seq: log.tip.seq, first_seq: segment.first_seq() });
            }
            Err(Misfit::Held | Misfit::Fork) => match find_fork(replica, log, segment) {
                Some(seq) => self.outcome.forks.push(Fork { author, epoch, seq, segment: Arc::clone(segment.data()) }),
                None => self.outcome.duplicates += held,
            },
        }
    }
}

/// The seq of the first op of a segment that differs from ours; none when all that we hold of it is equal.
fn find_fork(replica: &Replica, log: &NewLog, segment: &VerifiedSegment) -> Option<u64> {
    let before = segment.first_seq() - 1;
    let places = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let old = replica.log(&log.tip.author, log.tip.epoch).and_then(|held| held.marks.differ(places(before), segment.heads()));
    let ahead = places((log.start + 1).saturating_sub(before));
    let new = log.marks.differ(places(before.saturating_sub(log.start + 1)), segment.heads().skip(ahead)).map(|place| place + ahead);
    old.or(new).map(|place| (before + place as u64).max(1))
}

/// Takes the effective member records of a segment of the genesis admin into account; returns the log's clock after it.
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
