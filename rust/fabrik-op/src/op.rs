//! One op: a small atomic transaction of writes.

use std::ops::Range;

use crate::cbor::{Head, Malformed, Reader, Writer};
use crate::hash::Digest;
use crate::limits::{EPOCH_MAX, ID_BYTES_MAX, LAMPORT_MAX, SEQ_MAX, WALL_MS_MAX};

/// Op kinds that have a meaning in this version. Others are kept and relayed without effect.
pub mod kind {
    /// Writes registers.
    pub const WRITE: u64 = 1;
    /// The first op of the mesh.
    pub const GENESIS: u64 = 2;
    /// The first op of an author's later log; names the head that it follows.
    pub const EPOCH: u64 = 3;
}

/// The claim under which a write was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    pub receipt: u64,
    pub epoch: u64,
    pub claim_id: [u8; 16],
}

/// The head of an author's earlier log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follows {
    pub epoch: u64,
    pub seq: u64,
    pub head: Digest,
}

/// One decoded op, borrowed from its segment.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    pub seq: u64,
    pub digest: &'a Digest,
    /// The op's bytes as written.
    pub body: &'a [u8],
    span: &'a OpSpan,
    writes: &'a [WriteSpan],
    data: &'a [u8],
}

impl<'a> Op<'a> {
    /// The log's chain hash at this op.
    #[must_use]
    pub const fn head(&self) -> &'a Digest {
        &self.span.head
    }

    #[must_use]
    pub const fn lamport(&self) -> u64 {
        self.span.lamport
    }

    #[must_use]
    pub const fn wall_ms(&self) -> u64 {
        self.span.wall_ms
    }

    #[must_use]
    pub const fn kind(&self) -> u64 {
        self.span.kind
    }

    #[must_use]
    pub fn follows(&self) -> Option<&'a Follows> {
        self.span.follows.as_deref()
    }

    /// The writes in order.
    #[must_use]
    pub fn writes(&self) -> impl ExactSizeIterator<Item = Write<'a>> + use<'a> {
        let data = self.data;
        self.writes.iter().map(move |span| Write {
            kind: span.kind,
            id: data.get(span.id.clone()).unwrap_or_default(),
            field: span.field,
            value: data.get(span.value.clone()).unwrap_or_default(),
            fence: span.fence.as_ref(),
        })
    }
}

/// One write of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    pub kind: u64,
    pub id: &'a [u8],
    pub field: u64,
    /// The value's bytes as written.
    pub value: &'a [u8],
    pub fence: Option<&'a Fence>,
}

/// Where an op lies in its segment, and its scalar fields.
#[derive(Debug)]
pub(crate) struct OpSpan {
    pub body: Range<usize>,
    pub digest: Digest,
    /// `h_seq`, once verified.
    pub head: Digest,
    pub lamport: u64,
    pub wall_ms: u64,
    pub kind: u64,
    pub writes: Range<usize>,
    pub follows: Option<Box<Follows>>,
}

impl OpSpan {
    pub fn view<'a>(&'a self, seq: u64, writes: &'a [WriteSpan], data: &'a [u8]) -> Op<'a> {
        Op {
            seq,
            digest: &self.digest,
            body: data.get(self.body.clone()).unwrap_or_default(),
            span: self,
            writes: writes.get(self.writes.clone()).unwrap_or_default(),
            data,
        }
    }
}

/// Where a write lies in its segment.
#[derive(Debug)]
pub(crate) struct WriteSpan {
    kind: u64,
    field: u64,
    id: Range<usize>,
    value: Range<usize>,
    fence: Option<Fence>,
}

/// The writes of a segment.
#[derive(Debug)]
pub(crate) struct Writes {
    pub spans: Vec<WriteSpan>,
    /// A bit for each register kind below 64 that is written.
    pub kinds: u64,
}

impl Writes {
    pub fn with_capacity(count: usize) -> Self {
        Self { spans: Vec::with_capacity(count), kinds: 0 }
    }
}

/// Decodes the op of `body` that starts at `base` of its segment, adds its writes to `writes`, and returns its seq and span.
pub(crate) fn decode(body: &[u8], base: usize, writes: &mut Writes) -> Result<(u64, OpSpan), Malformed> {
    let mut reader = Reader::new(body);
    let count = reader.map()?;
    field(&mut reader, 1)?;
    let seq = reader.uint_in(1..=SEQ_MAX, "seq must be 1..2^53")?;
    field(&mut reader, 2)?;
    let lamport = reader.uint_in(1..=LAMPORT_MAX, "lamport must be 1..2^53")?;
    field(&mut reader, 3)?;
    let wall_ms = reader.uint_in(0..=WALL_MS_MAX, "wall-ms must be 0..2^53")?;
    field(&mut reader, 4)?;
    let kind = reader.uint()?;
    field(&mut reader, 5)?;
    let first = writes.spans.len();
    for _ in 0..reader.array()? {
        let write = decode_write(&mut reader, base)?;
        writes.kinds |= u32::try_from(write.kind).ok().and_then(|kind| 1_u64.checked_shl(kind)).unwrap_or(0);
        writes.spans.push(write);
    }
    if count < 5 {
        return Err(reader.broken(0, MISSING_FIELD));
    }
    let mut follows = None;
    let mut before: &[u8] = &[];
    for _ in 5..count {
        let at = reader.at();
        match reader.key(&mut before)? {
            Head::Uint(6) => follows = Some(Box::new(decode_follows(&mut reader)?)),
            Head::Uint(key) if key > 6 => {
                reader.item(1)?;
            }
            _ => return Err(reader.broken(at, "an unknown key must be an integer above 6")),
        }
    }
    reader.end()?;
    let span = OpSpan {
        body: base..base + body.len(),
        digest: crate::hash::blake3(body),
        head: [0; 32],
        lamport,
        wall_ms,
        kind,
        writes: first..writes.spans.len(),
        follows,
    };
    Ok((seq, span))
}

const MISSING_FIELD: &str = "expected the keys 1 to 5 in order";

#[inline]
fn field(reader: &mut Reader<'_>, wanted: u64) -> Result<(), Malformed> {
    reader.uint_in(wanted..=wanted, MISSING_FIELD).map(|_| ())
}

#[inline]
fn decode_write(reader: &mut Reader<'_>, base: usize) -> Result<WriteSpan, Malformed> {
    let start = reader.at();
    let count = reader.array()?;
    if !(4..=5).contains(&count) {
        return Err(reader.broken(start, "expected [kind, id, field, value] or [kind, id, field, value, fence]"));
    }
    let kind = reader.uint()?;
    let at = reader.at();
    let id = reader.bytes()?;
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(reader.broken(at, "an id must be 1 to 64 bytes"));
    }
    let id_end = base + reader.at();
    let id = id_end - id.len()..id_end;
    let field = reader.uint()?;
    let value_start = base + reader.at();
    reader.item(3)?;
    let value = value_start..base + reader.at();
    let fence = if count == 5 { Some(decode_fence(reader)?) } else { None };
    Ok(WriteSpan { kind, field, id, value, fence })
}

fn decode_fence(reader: &mut Reader<'_>) -> Result<Fence, Malformed> {
    reader.array_of(3, "expected the fence [receipt, epoch, claim_id]")?;
    Ok(Fence { receipt: reader.uint()?, epoch: reader.uint()?, claim_id: reader.bytes_of("the claim id of a fence must be 16 bytes")? })
}

fn decode_follows(reader: &mut Reader<'_>) -> Result<Follows, Malformed> {
    reader.array_of(3, "expected follows as [epoch, seq, digest]")?;
    Ok(Follows {
        epoch: reader.uint_in(1..=EPOCH_MAX, "epoch must be 1..2^53-1")?,
        seq: reader.uint_in(1..=SEQ_MAX, "seq must be 1..2^53")?,
        head: reader.bytes_of("the head of follows must be 32 bytes")?,
    })
}

/// An op to be written by its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpBody {
    pub seq: u64,
    pub lamport: u64,
    pub wall_ms: u64,
    pub kind: u64,
    pub writes: Vec<WriteBody>,
    pub follows: Option<Follows>,
}

/// One write of an op to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBody {
    pub kind: u64,
    pub id: Vec<u8>,
    pub field: u64,
    /// Canonical CBOR.
    pub value: Vec<u8>,
    pub fence: Option<Fence>,
}

impl OpBody {
    /// The op's bytes. Whether they are an op is decided by decoding them, as for everybody else's.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(64 + self.writes.iter().map(|write| write.value.len() + 64).sum::<usize>());
        writer.map(if self.follows.is_some() { 6 } else { 5 });
        writer.uint(1).uint(self.seq).uint(2).uint(self.lamport).uint(3).uint(self.wall_ms).uint(4).uint(self.kind);
        writer.uint(5).array(self.writes.len());
        for write in &self.writes {
            writer.array(if write.fence.is_some() { 5 } else { 4 });
            writer.uint(write.kind).bytes(&write.id).uint(write.field).raw(&write.value);
            if let Some(fence) = &write.fence {
                writer.array(3).uint(fence.receipt).uint(fence.epoch).bytes(&fence.claim_id);
            }
        }
        if let Some(follows) = &self.follows {
            writer.uint(6).array(3).uint(follows.epoch).uint(follows.seq).bytes(&follows.head);
        }
        writer.into_bytes()
    }
}
