//! Segments: contiguous ops of one log and the signature of its last head, from raw bytes to verified.

use std::sync::Arc;

use crate::cbor::{Malformed, Reader, Writer};
use crate::chained::{ChainedSegment, Tip};
use crate::hash::{Digest, chain, head_message, log_start, short};
use crate::key::{Key, Signature, verify_strict};
use crate::limits::{EPOCH_MAX, OP_BYTES_MAX, SEGMENT_BYTES_MAX, SEQ_MAX};
use crate::op::{self, Op, OpSpan, Writes};
use crate::refused::Refused;

/// Bytes that somebody calls a segment.
#[derive(Debug, Clone)]
pub struct RawSegment(pub Arc<[u8]>);

/// What a segment says, shared by all later steps.
#[derive(Debug)]
pub(crate) struct Contents {
    pub data: Arc<[u8]>,
    pub author: Key,
    pub epoch: u64,
    pub first_seq: u64,
    pub prev: Digest,
    pub ops: Vec<OpSpan>,
    pub writes: Writes,
    pub sig: Signature,
}

impl Contents {
    pub fn last_seq(&self) -> u64 {
        self.first_seq + (self.ops.len() as u64 - 1)
    }

    pub fn op(&self, index: usize) -> Option<Op<'_>> {
        self.ops.get(index).map(|span| span.view(self.first_seq + index as u64, &self.writes.spans, &self.data))
    }

    /// Fills in the chain hash of every op; the last.
    pub fn hash_chain(&mut self) -> Digest {
        self.ops.iter_mut().fold(self.prev, |before, op| {
            op.head = chain(&before, &op.digest);
            op.head
        })
    }

    /// The segment without its first `skip` ops; `prev` is the chain hash before the first that stays.
    pub fn tail(&self, skip: usize, prev: &Digest) -> Arc<[u8]> {
        if skip == 0 {
            return Arc::clone(&self.data);
        }
        let bodies = self.ops.get(skip..).unwrap_or_default().iter().map(|op| self.data.get(op.body.clone()).unwrap_or_default());
        encode(&self.author, self.epoch, self.first_seq + skip as u64, prev, bodies, &self.sig).into()
    }

    pub fn name(&self) -> String {
        format!("segment of {}.. epoch {}", short(&self.author), self.epoch)
    }
}

/// A segment whose bytes are canonical and whose ops sit at their sequence numbers.
#[derive(Debug)]
pub struct DecodedSegment(Contents);

impl RawSegment {
    /// Refuses anything but the canonical bytes of a segment.
    pub fn decode(self) -> Result<DecodedSegment, Refused> {
        let data = self.0;
        if data.len() > SEGMENT_BYTES_MAX {
            return Err(Refused::invalid(format!("segment: {} bytes are more than {SEGMENT_BYTES_MAX}", data.len())));
        }
        let outer = |malformed: Malformed| Refused::invalid(format!("segment: {malformed}"));
        let mut reader = Reader::new(&data);
        let (author, epoch, first_seq, prev, count) = read_header(&mut reader).map_err(outer)?;
        let mut contents = Contents {
            data: Arc::clone(&data),
            author,
            epoch,
            first_seq,
            prev,
            ops: Vec::with_capacity(count),
            writes: Writes::with_capacity(count),
            sig: [0; 64],
        };
        for index in 0..count {
            let body = reader.bytes().map_err(|malformed| Refused::invalid(format!("{}: op {index}: {malformed}", contents.name())))?;
            if body.len() > OP_BYTES_MAX {
                return Err(Refused::invalid(format!("{}: op {index}: {} bytes are more than {OP_BYTES_MAX}", contents.name(), body.len())));
            }
            let base = reader.at() - body.len();
            let (seq, span) =
                op::decode(body, base, &mut contents.writes).map_err(|malformed| Refused::invalid(format!("{}: op {index}: {malformed}", contents.name())))?;
            let expected = first_seq + index as u64;
            if seq != expected {
                return Err(Refused::invalid(format!("{}: op {index} has seq {seq}, expected {expected}", contents.name())));
            }
            contents.ops.push(span);
        }
        contents.sig = reader.bytes_of("the signature must be 64 bytes").map_err(outer)?;
        reader.end().map_err(outer)?;
        Ok(DecodedSegment(contents))
    }
}

/// Which log and which part of it a segment is, read from its first bytes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSpan {
    pub author: Key,
    pub epoch: u64,
    pub first_seq: u64,
    pub last_seq: u64,
}

impl SegmentSpan {
    /// For segments that were verified before they were stored: the ops are not looked at.
    pub fn read(data: &[u8]) -> Result<Self, Refused> {
        let (author, epoch, first_seq, _, count) =
            read_header(&mut Reader::new(data)).map_err(|malformed| Refused::invalid(format!("segment: {malformed}")))?;
        Ok(Self { author, epoch, first_seq, last_seq: first_seq + (count as u64 - 1) })
    }
}

fn read_header(reader: &mut Reader<'_>) -> Result<(Key, u64, u64, Digest, usize), Malformed> {
    reader.array_of(7, "expected [version, author, epoch, first_seq, prev, ops, sig]")?;
    reader.uint_in(1..=1, "an unknown version")?;
    let author = reader.bytes_of("the author must be 32 bytes")?;
    let epoch = reader.uint_in(1..=EPOCH_MAX, "epoch must be 1..2^53-1")?;
    let first_seq = reader.uint_in(1..=SEQ_MAX, "first_seq must be 1..2^53")?;
    let prev = reader.bytes_of("prev must be 32 bytes")?;
    let at = reader.at();
    let count = reader.array()?;
    if count == 0 {
        return Err(reader.broken(at, "a segment without ops"));
    }
    if first_seq + (count as u64 - 1) > SEQ_MAX {
        return Err(reader.broken(at, "seq must be 1..2^53"));
    }
    Ok((author, epoch, first_seq, prev, count))
}

/// The bytes of a segment from its parts.
pub(crate) fn encode<'a>(
    author: &Key,
    epoch: u64,
    first_seq: u64,
    prev: &Digest,
    bodies: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    sig: &Signature,
) -> Vec<u8> {
    let mut writer = Writer::with_capacity(160 + bodies.clone().map(|body| body.len() + 5).sum::<usize>());
    writer.array(7).uint(1).bytes(author).uint(epoch).uint(first_seq).bytes(prev).array(bodies.len());
    for body in bodies {
        writer.bytes(body);
    }
    writer.bytes(sig);
    writer.into_bytes()
}

impl DecodedSegment {
    /// Hashes the chain from `prev` and checks the author's signature over the last head, in this mesh.
    ///
    /// A segment at the start of a log must begin at the log's `h_0`.
    pub fn verify(self, mesh_id: &Digest) -> Result<VerifiedSegment, Refused> {
        let mut contents = self.0;
        let head = contents.hash_chain();
        let lamport = contents.ops.last().map_or(0, |op| op.lamport);
        let message = head_message(mesh_id, &contents.author, contents.epoch, contents.last_seq(), lamport, &head);
        verify_strict(&contents.author, &message, &contents.sig)
            .map_err(|refused| refused.at(&format!("{} at seq {}", contents.name(), contents.last_seq())))?;
        if contents.first_seq == 1 && contents.prev != log_start(mesh_id, &contents.author, contents.epoch) {
            return Err(Refused::invalid(format!("{}: prev at seq 1 is not the start of this log in this mesh", contents.name())));
        }
        Ok(VerifiedSegment { contents: Arc::new(contents), mesh_id: *mesh_id, head })
    }

    /// The bytes of this segment.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.0.data
    }

    #[must_use]
    pub fn author(&self) -> &Key {
        &self.0.author
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.0.first_seq
    }

    /// The ops in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        (0..self.0.ops.len()).filter_map(|index| self.0.op(index))
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.0
    }

    pub(crate) fn into_contents(self) -> Contents {
        self.0
    }
}

/// A segment whose bytes are canonical and whose signature verifies. Says nothing about where it chains to.
#[derive(Debug, Clone)]
pub struct VerifiedSegment {
    contents: Arc<Contents>,
    mesh_id: Digest,
    head: Digest,
}

/// Why a verified segment does not extend a tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Of another log or mesh.
    OtherLog,
    /// It starts beyond the tip.
    Gap,
    /// It ends at or before the tip.
    Held,
    /// Its chain differs from ours at the tip.
    Fork,
}

impl VerifiedSegment {
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
        self.contents.first_seq
    }

    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.contents.last_seq()
    }

    /// Number of ops; never 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.ops.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contents.ops.is_empty()
    }

    #[must_use]
    pub fn data(&self) -> &Arc<[u8]> {
        &self.contents.data
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The chain hashes that this segment implies, from `h_{first_seq - 1}` to `h_{last_seq}`.
    pub fn heads(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.contents.prev).chain(self.contents.ops.iter().map(|op| &op.head))
    }

    /// Cuts the segment to what is new after `tip`, which it must extend.
    pub fn chain_onto(&self, tip: &Tip) -> Result<ChainedSegment, Misfit> {
        if tip.mesh_id != self.mesh_id || tip.author != self.contents.author || tip.epoch != self.contents.epoch {
            return Err(Misfit::OtherLog);
        }
        if self.first_seq() > tip.seq + 1 {
            return Err(Misfit::Gap);
        }
        if self.last_seq() <= tip.seq {
            return Err(Misfit::Held);
        }
        let skip = usize::try_from(tip.seq + 1 - self.first_seq()).map_err(|_| Misfit::Gap)?;
        if self.heads().nth(skip) != Some(&tip.head) {
            return Err(Misfit::Fork);
        }
        Ok(ChainedSegment::cut(&self.contents, self.mesh_id, skip, tip.head, self.head))
    }
}
