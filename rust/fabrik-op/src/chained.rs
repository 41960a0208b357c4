//! Chained segments: what may be stored, merged and relayed. Only this crate can make one.

use std::sync::Arc;

use crate::hash::{Digest, chain, head_message, log_start};
use crate::key::{Key, SigningKey};
use crate::op::{Op, OpBody};
use crate::refused::Refused;
use crate::segment::{Contents, DecodedSegment, RawSegment, encode};

/// The end of a log as we hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    pub mesh_id: Digest,
    pub author: Key,
    pub epoch: u64,
    /// 0 when nothing is held.
    pub seq: u64,
    /// `h_seq`.
    pub head: Digest,
}

impl Tip {
    /// The start of a log of which nothing is held.
    #[must_use]
    pub fn start(mesh_id: &Digest, author: &Key, epoch: u64) -> Self {
        Self { mesh_id: *mesh_id, author: *author, epoch, seq: 0, head: log_start(mesh_id, author, epoch) }
    }
}

/// A verified segment, cut to what is new and fitting exactly on a head.
#[derive(Debug, Clone)]
pub struct ChainedSegment {
    contents: Arc<Contents>,
    mesh_id: Digest,
    skip: usize,
    prev: Digest,
    head: Digest,
    data: Arc<[u8]>,
}

impl ChainedSegment {
    pub(crate) fn cut(contents: &Arc<Contents>, mesh_id: Digest, skip: usize, prev: Digest, head: Digest) -> Self {
        let data = contents.tail(skip, &prev);
        Self { contents: Arc::clone(contents), mesh_id, skip, prev, head, data }
    }

    #[must_use]
    pub fn mesh_id(&self) -> &Digest {
        &self.mesh_id
    }

    #[must_use]
    pub fn author(&self) -> &Key {
        &self.contents.author
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.contents.epoch
    }

    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.contents.first_seq + self.skip as u64
    }

    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.contents.last_seq()
    }

    /// Number of ops; never 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.ops.len() - self.skip
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `h_{first_seq - 1}`.
    #[must_use]
    pub fn prev(&self) -> &Digest {
        &self.prev
    }

    /// `h_{last_seq}`.
    #[must_use]
    pub fn head(&self) -> &Digest {
        &self.head
    }

    /// The segment's bytes, canonical: what to store and relay.
    #[must_use]
    pub fn data(&self) -> &Arc<[u8]> {
        &self.data
    }

    /// `h_seq` of one of its ops.
    #[must_use]
    pub fn head_at(&self, seq: u64) -> Option<&Digest> {
        let index = usize::try_from(seq.checked_sub(self.contents.first_seq)?).ok()?;
        self.contents.ops.get(index).filter(|_| index >= self.skip).map(|op| &op.head)
    }

    /// Whether an op writes a register of this kind, below 64. True also when one does that was cut away.
    #[must_use]
    pub fn may_write(&self, kind: u8) -> bool {
        1_u64.checked_shl(kind.into()).is_some_and(|bit| self.contents.writes.kinds & bit != 0)
    }

    /// The op at `index`, counted from 0.
    #[must_use]
    pub fn op(&self, index: usize) -> Option<Op<'_>> {
        self.contents.op(self.skip.checked_add(index)?)
    }

    /// The ops in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        (self.skip..self.contents.ops.len()).filter_map(|index| self.contents.op(index))
    }

    /// The log's end when this segment is held.
    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip { mesh_id: self.mesh_id, author: *self.author(), epoch: self.epoch(), seq: self.last_seq(), head: self.head }
    }
}

/// Signs one op of our own at the end of `tip`: a segment of its own.
///
/// Refuses an op that nobody else would accept: the bytes are decoded like foreign ones.
pub fn author_segment(key: &SigningKey, tip: &Tip, op: &OpBody) -> Result<ChainedSegment, Refused> {
    if key.public() != tip.author {
        return Err(Refused::invalid("the signing key is not the author of this log"));
    }
    let body = op.encode();
    let head = chain(&tip.head, &crate::hash::blake3(&body));
    let sig = key.sign(&head_message(&tip.mesh_id, &tip.author, tip.epoch, op.seq, op.lamport, &head));
    let data = encode(&tip.author, tip.epoch, tip.seq + 1, &tip.head, std::iter::once(body.as_slice()), &sig);
    let mut contents = RawSegment(data.into()).decode()?.into_contents();
    contents.hash_chain();
    Ok(ChainedSegment::cut(&Arc::new(contents), tip.mesh_id, 0, tip.head, head))
}

impl DecodedSegment {
    /// The log's chain hash at each of its ops, worked out anew.
    pub fn heads(&self) -> impl Iterator<Item = Digest> {
        self.ops().scan(self.contents().prev, |head, op| {
            *head = chain(head, op.digest);
            Some(*head)
        })
    }
}
