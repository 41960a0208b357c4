//! Every write to one id, whether it won or not.

use fabrik_op::{Digest, Fence, Key, RawSegment, Refused};

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

/// The writes to `id` in these stored segments, in their order. Signatures are not checked again.
pub fn history(segments: impl Iterator<Item = RawSegment>, id: &[u8]) -> Result<Vec<Touch>, Refused> {
    let mut touches = Vec::new();
    for segment in segments {
        let decoded = segment.decode()?;
        for op in decoded.ops() {
            for write in op.writes().filter(|write| write.id == id) {
                touches.push(Touch {
                    author: *decoded.author(),
                    epoch: decoded.epoch(),
                    seq: op.seq,
                    lamport: op.lamport(),
                    wall_ms: op.wall_ms(),
                    digest: *op.digest,
                    kind: write.kind,
                    field: write.field,
                    value: write.value.into(),
                    fence: write.fence.copied(),
                });
            }
        }
    }
    Ok(touches)
}
