//! Joining neighbouring segments of one log.

use std::sync::Arc;

use crate::hash::{Digest, chain};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::refused::Refused;
use crate::segment::{DecodedSegment, RawSegment, encode};

/// Joins neighbouring segments of one log into as few as fit in `max_bytes` each, and keeps only the last signature of each.
///
/// The input is trusted, contiguous per log and in order; a single larger segment is passed as it is. Refuses
/// neighbours of one log that do not chain.
pub fn coalesce(segments: &[Arc<[u8]>], max_bytes: usize) -> Result<Vec<Arc<[u8]>>, Refused> {
    let max_bytes = max_bytes.min(SEGMENT_BYTES_MAX);
    let mut joined = Vec::new();
    let mut group = Group::default();
    for data in segments {
        let decoded = RawSegment(Arc::clone(data)).decode()?;
        if !group.continues_with(&decoded)? || group.bytes + size(&decoded) > max_bytes {
            group.flush(&mut joined);
        }
        group.push(decoded);
    }
    group.flush(&mut joined);
    Ok(joined)
}

/// Bytes of a segment's header and signature, at most.
const FRAME_BYTES: usize = 160;

/// Bytes that a segment adds to a joined one, at most.
fn size(segment: &DecodedSegment) -> usize {
    segment.contents().ops.iter().map(|op| op.body.len() + 5).sum()
}

/// Segments to be joined. `bytes` is an upper bound of the joined size.
#[derive(Default)]
struct Group {
    members: Vec<DecodedSegment>,
    bytes: usize,
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

    fn push(&mut self, next: DecodedSegment) {
        let contents = next.contents();
        self.bytes += size(&next) + if self.members.is_empty() { FRAME_BYTES } else { 0 };
        self.head = contents.ops.iter().fold(contents.prev, |before, op| chain(&before, &op.digest));
        self.members.push(next);
    }

    fn flush(&mut self, joined: &mut Vec<Arc<[u8]>>) {
        let members = std::mem::take(&mut self.members);
        self.bytes = 0;
        let (Some(first), Some(last)) = (members.first(), members.last()) else { return };
        let (first, last) = (first.contents(), last.contents());
        if members.len() == 1 {
            joined.push(Arc::clone(&first.data));
            return;
        }
        let bodies: Vec<&[u8]> =
            members.iter().flat_map(|one| one.contents().ops.iter().map(|op| one.data().get(op.body.clone()).unwrap_or_default())).collect();
        let data = encode(&first.author, first.epoch, first.first_seq, &first.prev, bodies.iter().copied(), &last.sig);
        joined.push(data.into());
    }
}
