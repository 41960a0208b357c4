//! Local ops built on the heads of the moment.

use fabrik_op::limits::{LAMPORT_MAX, LAMPORT_STEP_MAX};
use fabrik_op::{ChainedSegment, Key, OpBody, Refused, SigningKey, Tip, WriteBody, author_segment, kind};

use crate::validity::{self, Standpoint};

/// Ops of our own that are signed and not yet merged. Dropping it uses up nothing.
#[derive(Debug)]
pub struct Draft {
    key: SigningKey,
    admin: Key,
    tip: Tip,
    clock: u64,
    lamport: u64,
}

impl Draft {
    pub(crate) fn new(key: SigningKey, admin: Key, tip: Tip, clock: u64, lamport: u64) -> Self {
        Self { key, admin, tip, clock, lamport }
    }

    /// Lamport of the last drafted op; the replica's before the first.
    #[must_use]
    pub fn lamport(&self) -> u64 {
        self.lamport
    }

    /// Signs one op of kind write, preceded by empty ops that raise the clock when the mesh is far ahead.
    ///
    /// Refuses, drafting nothing, an op that would be void or that the format has no place for.
    pub fn append(&mut self, writes: Vec<WriteBody>, wall_ms: u64) -> Result<Vec<ChainedSegment>, Refused> {
        self.add(kind::WRITE, writes, wall_ms)
    }

    /// Signs the first op of the mesh, at the start of a log of the genesis admin.
    pub fn genesis(&mut self, wall_ms: u64) -> Result<Vec<ChainedSegment>, Refused> {
        if self.tip.seq != 0 {
            return Err(Refused::invalid(format!("a genesis op stands only at seq 1, this log is at seq {}", self.tip.seq)));
        }
        self.add(kind::GENESIS, Vec::new(), wall_ms)
    }

    fn add(&mut self, kind: u64, writes: Vec<WriteBody>, wall_ms: u64) -> Result<Vec<ChainedSegment>, Refused> {
        let wanted = self.lamport.max(self.clock) + 1;
        if wanted > LAMPORT_MAX {
            return Err(Refused::invalid("the lamport clock is at its ceiling 2^53"));
        }
        let mut end = End { tip: self.tip.clone(), clock: self.clock };
        let mut segments = Vec::new();
        while kind == kind::WRITE && wanted - end.clock > LAMPORT_STEP_MAX {
            let step = end.clock + LAMPORT_STEP_MAX;
            segments.push(self.sign(&mut end, step, kind::WRITE, Vec::new(), wall_ms)?);
        }
        segments.push(self.sign(&mut end, wanted, kind, writes, wall_ms)?);
        (self.tip, self.clock, self.lamport) = (end.tip, end.clock, wanted);
        Ok(segments)
    }

    fn sign(&self, end: &mut End, lamport: u64, kind: u64, writes: Vec<WriteBody>, wall_ms: u64) -> Result<ChainedSegment, Refused> {
        let body = OpBody { seq: end.tip.seq + 1, lamport, wall_ms, kind, writes, follows: None };
        let segment = author_segment(&self.key, &end.tip, &body)?;
        for op in segment.ops() {
            if !validity::keeps_clock(end.clock, op.lamport()) {
                return Err(Refused::invalid(validity::Void::Clock { clock: end.clock, lamport }.to_string()));
            }
            let standpoint = Standpoint { admin: &self.admin, author: segment.author() };
            validity::judge(&standpoint, &op).map_err(|void| Refused::invalid(void.to_string()))?;
        }
        *end = End { tip: segment.tip(), clock: lamport };
        Ok(segment)
    }
}

/// The end of the log while an op and its clock-raising ops are drafted.
struct End {
    tip: Tip,
    clock: u64,
}
