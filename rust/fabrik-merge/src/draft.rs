//! Local ops built on the heads of the moment.

use std::sync::Arc;

use fabrik_op::limits::{LAMPORT_MAX, LAMPORT_STEP_MAX};
use fabrik_op::{ChainedSegment, Digest, Follows, Genesis, Op, OpBody, Refused, SigningKey, Tip, WriteBody, author_segment, kind};

use crate::authority::Authority;
use crate::growth::Chained;
use crate::record::{Record, Rotation, Spot};
use crate::schema::{self, class};
use crate::sheet::{At, Sheet};
use crate::validity::{self, Standpoint};

/// Ops of our own that are signed and not yet merged. Dropping it uses up nothing.
#[derive(Debug)]
pub struct Draft {
    key: SigningKey,
    genesis: Genesis,
    authority: Arc<Authority>,
    tip: Tip,
    clock: u64,
    /// Of the last drafted op; the replica's before the first.
    lamport: u64,
    /// The highest lamport of the mesh, drafted ops included.
    mesh_lamport: u64,
}

impl Draft {
    pub(crate) fn new(key: SigningKey, genesis: Genesis, authority: Arc<Authority>, tip: Tip, clock: u64, lamport: u64) -> Self {
        Self { key, genesis, authority, tip, clock, lamport, mesh_lamport: lamport }
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

    /// Signs the op by which the draft's key names the key that follows it. All that the draft's key writes afterwards is void, but on what `keeps` names.
    pub fn rotate(&mut self, new: &SigningKey, next: Option<&Digest>, keeps: &[Spot], wall_ms: u64) -> Result<Vec<Chained>, Refused> {
        let mut climb = Vec::new();
        if self.wanted()? - self.clock > LAMPORT_STEP_MAX {
            climb = self.append(Vec::new(), wall_ms)?; // The new key signs the place of the op, so that it must be known.
        }
        let (author, place) = (self.key.public(), (self.tip.epoch, self.tip.seq + 1, &self.tip.head));
        let value = Rotation::sign(&self.genesis.mesh_id, &author, place, new, next, keeps);
        climb.extend(self.append(vec![WriteBody { kind: u64::from(schema::ROTATION), id: author.to_vec(), field: 1, value, fence: None }], wall_ms)?);
        Ok(climb)
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

    fn sign(&mut self, end: &mut End, lamport: u64, kind: u64, writes: Vec<WriteBody>, follows: Option<Follows>, wall_ms: u64) -> Result<Chained, Refused> {
        let body = OpBody { seq: end.tip.seq + 1, lamport, wall_ms, kind, writes, follows };
        let segment = author_segment(&self.key, &end.tip, &body)?;
        self.check(&segment, end.clock)?;
        *end = End { tip: segment.tip(), clock: lamport };
        Ok(Chained { segment, branch: 0, base: None })
    }

    fn check(&mut self, segment: &ChainedSegment, clock: u64) -> Result<(), Refused> {
        let author = *segment.author();
        for op in segment.ops() {
            let standpoint = Standpoint { admin: &self.genesis.admin, author: &author };
            if !validity::keeps_clock(clock, op.lamport()) {
                return Err(Refused::invalid(validity::Void::Clock { clock, lamport: op.lamport() }.to_string()));
            }
            let classes = validity::judge(&standpoint, &op).map_err(|void| Refused::invalid(void.to_string()))?;
            if op.writes().any(|write| schema::lookup(write.kind, write.field).is_some() && validity::target(&standpoint, &write).is_none()) {
                return Err(Refused::invalid("a write to a field of a later version than 1 breaks its rules"));
            }
            if op.writes().any(|write| write.kind == u64::from(schema::MEMBER) && Record::of(write.value).is_some_and(|record| record.odd)) {
                return Err(Refused::invalid("the keys 4 and 5 of a member record must be a list of places and a commitment of 32 bytes"));
            }
            let at = At { epoch: segment.epoch(), branch: 0, seq: op.seq };
            let later = op.writes().filter_map(|write| schema::lookup(write.kind, write.field)).filter(|known| known.field.later);
            let later = later.fold(0, |classes, known| classes | schema::class_of(known.kind_number, known.field_number));
            self.authorise(at, classes.unwrap_or_default() | later, &op, segment)?;
        }
        Ok(())
    }

    /// Rule 5, as far as it is known here and now.
    fn authorise(&mut self, at: At, classes: u8, op: &Op<'_>, segment: &ChainedSegment) -> Result<(), Refused> {
        let author = segment.author();
        if classes & class::MEMBER == 0 {
            let standing = self.authority.standing(author);
            let allowed = standing.allowed(at);
            return match () {
                () if classes & !allowed == 0 => Ok(()),
                () if allowed == 0 => {
                    Err(Refused::Authority("this node's key is revoked, rotated away or was never admitted: nothing that it writes has effect".to_owned()))
                }
                () => Err(Refused::Authority(format!("the role of this node, {}, does not allow it to write this", role_name(standing.role)))),
            };
        }
        let sheet = Sheet::of(&self.genesis, author, at, op, segment.prev());
        let after = sheet.and_then(|sheet| self.authority.with(&self.genesis, author, sheet));
        let after = after.ok_or_else(|| {
            Refused::Authority(
                "only an admin writes member records, and not about an admin of a lower level; see \"Authority\" in docs/spec/merge.md".to_owned(),
            )
        })?;
        self.authority = Arc::new(after);
        Ok(())
    }
}

fn role_name(role: u8) -> &'static str {
    ["none", "reader", "agent", "peer", "admin"].get(usize::from(role)).copied().unwrap_or("none")
}

/// The end of the log while an op and its clock-raising ops are drafted.
struct End {
    tip: Tip,
    clock: u64,
}
