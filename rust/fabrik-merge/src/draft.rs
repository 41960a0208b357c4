//! Local ops built on the heads of the moment.

use fabrik_op::limits::{LAMPORT_MAX, LAMPORT_STEP_MAX};
use fabrik_op::{ChainedSegment, Follows, Key, OpBody, Refused, SigningKey, Tip, WriteBody, author_segment, kind};

use crate::growth::Chained;
use crate::schema;
use crate::validity::{self, Standpoint};

/// Ops of our own that are signed and not yet merged. Dropping it uses up nothing.
#[derive(Debug)]
pub struct Draft {
    key: SigningKey,
    admin: Key,
    tip: Tip,
    clock: u64,
    /// Of the last drafted op; the replica's before the first.
    lamport: u64,
    /// The highest lamport of the mesh, drafted ops included.
    mesh_lamport: u64,
}

impl Draft {
    pub(crate) fn new(key: SigningKey, admin: Key, tip: Tip, clock: u64, lamport: u64) -> Self {
        Self { key, admin, tip, clock, lamport, mesh_lamport: lamport }
    }

    /// Lamport of the last drafted op; the replica's before the first.
    #[must_use]
    pub fn lamport(&self) -> u64 {
        self.lamport
    }

    /// Signs one op of kind write, preceded by empty ops that raise the clock when the mesh is far ahead.
    ///
    /// Refuses, drafting nothing, an op that would be void or that the format has no place for.
    pub fn append(&mut self, writes: Vec<WriteBody>, wall_ms: u64) -> Result<Vec<Chained>, Refused> {
        let wanted = self.wanted()?;
        let mut end = End { tip: self.tip.clone(), clock: self.clock };
        let mut segments = Vec::new();
        while wanted - end.clock > LAMPORT_STEP_MAX {
            let step = end.clock + LAMPORT_STEP_MAX;
            segments.push(self.sign(&mut end, step, kind::WRITE, Vec::new(), None, wall_ms)?);
        }
        segments.push(self.sign(&mut end, wanted, kind::WRITE, writes, None, wall_ms)?);
        Ok(self.take(end, segments))
    }

    /// Signs the first op of the mesh, at the start of a log of the genesis admin.
    pub fn genesis(&mut self, wall_ms: u64) -> Result<Vec<Chained>, Refused> {
        self.first("a genesis op", kind::GENESIS, None, wall_ms)
    }

    /// Signs the first op of a later epoch, which follows this head of another log of the key.
    ///
    /// Its lamport is the mesh's next one, or 2^24 when that is further away; ops that are appended then climb the rest.
    pub fn open_epoch(&mut self, follows: Follows, wall_ms: u64) -> Result<Vec<Chained>, Refused> {
        if follows.epoch == self.tip.epoch {
            return Err(Refused::invalid(format!("epoch {} can not follow itself", follows.epoch)));
        }
        self.first("an epoch opening", kind::EPOCH, Some(follows), wall_ms)
    }

    fn first(&mut self, name: &str, kind: u64, follows: Option<Follows>, wall_ms: u64) -> Result<Vec<Chained>, Refused> {
        if self.tip.seq != 0 {
            return Err(Refused::invalid(format!("{name} stands only at seq 1, this log is at seq {}", self.tip.seq)));
        }
        let lamport = self.wanted()?.min(LAMPORT_STEP_MAX);
        let mut end = End { tip: self.tip.clone(), clock: self.clock };
        let segment = self.sign(&mut end, lamport, kind, Vec::new(), follows, wall_ms)?;
        Ok(self.take(end, vec![segment]))
    }

    fn wanted(&self) -> Result<u64, Refused> {
        let wanted = self.mesh_lamport.max(self.clock) + 1;
        if wanted > LAMPORT_MAX { Err(Refused::invalid("the lamport clock is at its ceiling 2^53")) } else { Ok(wanted) }
    }

    fn take(&mut self, end: End, segments: Vec<Chained>) -> Vec<Chained> {
        (self.tip, self.clock, self.lamport) = (end.tip, end.clock, end.clock);
        self.mesh_lamport = self.mesh_lamport.max(end.clock);
        segments
    }

    fn sign(&self, end: &mut End, lamport: u64, kind: u64, writes: Vec<WriteBody>, follows: Option<Follows>, wall_ms: u64) -> Result<Chained, Refused> {
        let body = OpBody { seq: end.tip.seq + 1, lamport, wall_ms, kind, writes, follows };
        let segment = author_segment(&self.key, &end.tip, &body)?;
        self.check(&segment, end.clock)?;
        *end = End { tip: segment.tip(), clock: lamport };
        Ok(Chained { segment, branch: 0, base: None })
    }

    fn check(&self, segment: &ChainedSegment, clock: u64) -> Result<(), Refused> {
        let standpoint = Standpoint { admin: &self.admin, author: segment.author() };
        for op in segment.ops() {
            if !validity::keeps_clock(clock, op.lamport()) {
                return Err(Refused::invalid(validity::Void::Clock { clock, lamport: op.lamport() }.to_string()));
            }
            validity::judge(&standpoint, &op).map_err(|void| Refused::invalid(void.to_string()))?;
            if op.writes().any(|write| schema::lookup(write.kind, write.field).is_some() && validity::target(&standpoint, &write).is_none()) {
                return Err(Refused::invalid("a write to a field of a later version than 1 breaks its rules"));
            }
        }
        Ok(())
    }
}

/// The end of the log while an op and its clock-raising ops are drafted.
struct End {
    tip: Tip,
    clock: u64,
}
