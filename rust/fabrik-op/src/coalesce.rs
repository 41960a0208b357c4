//! Joining neighbouring segments of one log.

use std::sync::Arc;

use crate::cbor::Writer;
use crate::hash::{Digest, chain};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::pack::Packed;
use crate::refused::Refused;
use crate::segment::{DecodedSegment, RawSegment, encode};

/// Joins neighbouring segments of one log into as few as fit in `max_bytes` each, and keeps only the last signature of each.
///
/// The input is trusted, contiguous per log and in order; a single larger segment is passed as it is. Refuses
/// neighbours of one log that do not chain.
pub fn coalesce(segments: &[Arc<[u8]>], max_bytes: usize) -> Result<Vec<Arc<[u8]>>, Refused> {
    Ok(join(segments, max_bytes)?.into_iter().map(|joined| joined.data).collect())
}

/// Joins, and keeps what joining drops.
pub(crate) fn join(segments: &[Arc<[u8]>], max_bytes: usize) -> Result<Vec<Packed>, Refused> {
    let max_bytes = max_bytes.min(SEGMENT_BYTES_MAX);
    let mut joined = Vec::new();
    let mut group = Group::default();
    for data in segments {
        let decoded = RawSegment(Arc::clone(data)).decode()?;
        if !group.continues_with(&decoded)? || group.bytes_with(&decoded) > max_bytes {
            group.flush(&mut joined);
        }
        group.push(decoded);
    }
    group.flush(&mut joined);
    Ok(joined)
}

/// Segments to be joined.
#[derive(Default)]
struct Group {
    members: Vec<DecodedSegment>,
    /// Bytes of the op bodies with their heads.
    body_bytes: usize,
    ops: usize,
    head: Digest,
}

impl Group {
    fn continues_with(&self, next: &DecodedSegment) -> Result<bool, Refused> {
        let Some(last) = self.members.last().map(DecodedSegment::contents) else { return Ok(false) };
        let next = next.contents();
        if last.author != next.author || last.epoch != next.epoch {
            return Ok(false);
        }
        if next.first_seq != last.last_seq() + 1 || next.prev != self.head {
            return Err(Refused::invalid(format!("{}: seq {} does not follow seq {}", next.name(), next.first_seq, last.last_seq())));
        }
        Ok(true)
    }

    /// The size of the joined segment with `next` in it.
    fn bytes_with(&self, next: &DecodedSegment) -> usize {
        let Some(first) = self.members.first().map(DecodedSegment::contents) else { return next.data().len() };
        let mut frame = Writer::new();
        frame.array(7).uint(1).bytes(&first.author).uint(first.epoch).uint(first.first_seq).bytes(&first.prev);
        frame.array(self.ops + next.contents().ops.len()).bytes(&first.sig);
        frame.as_bytes().len() + self.body_bytes + body_bytes(next)
    }

    fn push(&mut self, next: DecodedSegment) {
        let contents = next.contents();
        self.body_bytes += body_bytes(&next);
        self.ops += contents.ops.len();
        self.head = contents.ops.iter().fold(contents.prev, |before, op| chain(&before, &op.digest));
        self.members.push(next);
    }

    fn flush(&mut self, joined: &mut Vec<Packed>) {
        let Self { members, .. } = std::mem::take(self);
        let (Some(first), Some(last)) = (members.first(), members.last()) else { return };
        let (first, last) = (first.contents(), last.contents());
        if members.len() == 1 {
            joined.push(Packed { data: Arc::clone(&first.data), sigs: Vec::new() });
            return;
        }
        let bodies: Vec<&[u8]> =
            members.iter().flat_map(|one| one.contents().ops.iter().map(|op| one.data().get(op.body.clone()).unwrap_or_default())).collect();
        let data = encode(&first.author, first.epoch, first.first_seq, &first.prev, bodies.iter().copied(), &last.sig);
        let mut sigs: Vec<_> = members.iter().map(|one| (one.contents().last_seq(), one.contents().sig)).collect();
        sigs.pop();
        joined.push(Packed { data: data.into(), sigs });
    }
}

/// Bytes of a segment's op bodies with their heads.
fn body_bytes(segment: &DecodedSegment) -> usize {
    segment.contents().ops.iter().map(|op| op.body.len() + head_bytes(op.body.len())).sum()
}

/// Bytes of the head of a byte string.
fn head_bytes(length: usize) -> usize {
    match length {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    }
}
