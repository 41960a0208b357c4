//! Packing: joining segments without losing their signatures, and cutting one off at its front.

use std::sync::Arc;

use crate::coalesce::join;
use crate::key::Signature;
use crate::refused::Refused;
use crate::segment::RawSegment;

/// A segment that was joined from others, with what the joining took out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub data: Arc<[u8]>,
    /// `(last seq, signature)` of each joined segment but the last, whose signature the joined one carries. Empty for a segment that was passed as it is.
    pub sigs: Vec<(u64, Signature)>,
}

/// Joins like [`coalesce`](crate::coalesce()), and keeps the signatures that joining drops. Refuses the same.
pub fn pack(segments: &[Arc<[u8]>], max_bytes: usize) -> Result<Vec<Packed>, Refused> {
    join(segments, max_bytes)
}

/// The part of a segment from `first_seq` on: what its author would have sent to somebody who holds everything before.
///
/// The input is trusted. Refuses bytes that are no segment, and a cut that leaves nothing; a segment that starts at or
/// after `first_seq` is passed as it is.
pub fn cut(segment: &Arc<[u8]>, first_seq: u64) -> Result<Arc<[u8]>, Refused> {
    let mut contents = RawSegment(Arc::clone(segment)).decode()?.into_contents();
    if first_seq > contents.last_seq() {
        return Err(Refused::invalid(format!(
            "{}: nothing is left of seq {}..{} from seq {first_seq} on",
            contents.name(),
            contents.first_seq,
            contents.last_seq()
        )));
    }
    contents.hash_chain();
    let skip = usize::try_from(first_seq.saturating_sub(contents.first_seq)).unwrap_or(usize::MAX);
    let before = skip.checked_sub(1).and_then(|last| contents.ops.get(last)).map_or(contents.prev, |op| op.head);
    Ok(contents.tail(skip, &before))
}
