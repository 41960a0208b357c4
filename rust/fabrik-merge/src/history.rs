//! Every write to one id, whether it won or not, and those among them that have effect.

use fabrik_op::{DecodedSegment, Digest, Fence, Key, Op, RawSegment, Refused, Write};

use crate::branch::Base;
use crate::log::Log;
use crate::replica::Replica;
use crate::schema::class;
use crate::sheet::At;
use crate::validity::{self, Standpoint};

/// One write of one op to an id. `value` is CBOR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    pub author: Key,
    pub epoch: u64,
    pub seq: u64,
    pub lamport: u64,
    pub wall_ms: u64,
    pub digest: Digest,
    pub kind: u64,
    pub field: u64,
    pub value: Box<[u8]>,
    pub fence: Option<Fence>,
}

impl Touch {
    fn of(segment: &DecodedSegment, op: &Op<'_>, write: &Write<'_>) -> Self {
        Self {
            author: *segment.author(),
            epoch: segment.epoch(),
            seq: op.seq,
            lamport: op.lamport(),
            wall_ms: op.wall_ms(),
            digest: *op.digest,
            kind: write.kind,
            field: write.field,
            value: write.value.into(),
            fence: write.fence.copied(),
        }
    }
}

/// The writes to `id` in these stored segments, in their order, also those of void ops. Signatures are not checked again.
pub fn history(segments: impl Iterator<Item = RawSegment>, id: &[u8]) -> Result<Vec<Touch>, Refused> {
    let mut touches = Vec::new();
    for segment in segments {
        let decoded = segment.decode()?;
        for op in decoded.ops() {
            touches.extend(op.writes().filter(|write| write.id == id).map(|write| Touch::of(&decoded, &op, &write)));
        }
    }
    Ok(touches)
}

impl Replica {
    /// Those of the writes to `id` in these stored segments that have effect by all that is held now, whether they won or not, in their order.
    ///
    /// An op that is not held (any more) as it is stored has none. That the id is deleted is not looked at.
    pub fn effects(&self, segments: impl Iterator<Item = RawSegment>, id: &[u8]) -> Result<Vec<Touch>, Refused> {
        let mut touches = Vec::new();
        for segment in segments {
            let decoded = segment.decode()?;
            let Some(log) = self.logs.find(decoded.author(), decoded.epoch()).filter(|log| !log.suspended) else { continue };
            let standpoint = Standpoint { admin: &self.genesis.admin, author: decoded.author() };
            for (op, head) in decoded.ops().zip(decoded.heads()) {
                if !op.writes().any(|write| write.id == id) {
                    continue;
                }
                let Some((at, classes)) = self.permitted(log, &standpoint, &op, &head) else { continue };
                let allowed = (classes & class::MEMBER == 0).then(|| self.authority.standing(standpoint.author).allowed(at));
                let has_effect = |write: &Write<'_>| validity::target(&standpoint, write).is_some_and(|known| validity::permits(&known, allowed));
                touches.extend(op.writes().filter(|write| write.id == id && has_effect(write)).map(|write| Touch::of(&decoded, &op, &write)));
            }
        }
        Ok(touches)
    }

    /// The place of an op of this log, with this chain hash, and the classes of registers that it writes; none when it has no effect.
    fn permitted(&self, log: &Log, standpoint: &Standpoint<'_>, op: &Op<'_>, head: &Digest) -> Option<(At, u8)> {
        let branch = log.owner(op.seq, head)?;
        let before = log.clock_at(Base { branch, seq: op.seq - 1 });
        let classes = validity::judge(standpoint, op).ok().flatten().filter(|_| validity::keeps_clock(before, op.lamport()))?;
        let at = At { epoch: log.epoch, branch, seq: op.seq };
        self.authority.permits(self.authority.standing(standpoint.author), standpoint.author, at, classes).then_some((at, classes))
    }
}
