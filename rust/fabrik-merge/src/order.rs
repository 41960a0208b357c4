//! Who wins: the total order of the writes to one register.

use std::cmp::Ordering;

use fabrik_op::hash::claim_rank;
use fabrik_op::{Digest, Fence};

/// What decides between two writes to one register of one id. The greater wins.
///
/// For a claim register `fence` and `state` are the claim's own; elsewhere `state` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing<'a> {
    pub fence: Option<&'a Fence>,
    pub state: u8,
    pub lamport: u64,
    pub digest: &'a Digest,
    pub write_index: u32,
}

impl Standing<'_> {
    /// Compares by `(receipt, epoch, rank, state, lamport, digest, write index)`.
    #[must_use]
    #[inline]
    pub fn compare(&self, other: &Self, item: &[u8]) -> Ordering {
        compare_fences(self.fence, other.fence, item).then_with(|| self.state.cmp(&other.state)).then_with(|| self.age(other))
    }

    /// Compares by `(lamport, digest, write index)` alone, which decides between tombstones: the smallest stays.
    #[must_use]
    #[inline]
    pub fn age(&self, other: &Self) -> Ordering {
        self.lamport.cmp(&other.lamport).then_with(|| self.digest.cmp(other.digest)).then_with(|| self.write_index.cmp(&other.write_index))
    }
}

/// Compares fences by `(receipt, epoch, rank)`; no fence is `(0, 0)` with a rank below every claim's.
///
/// The rank costs a hash, so it is computed only between two claims of one receipt and epoch.
#[must_use]
#[inline]
pub fn compare_fences(one: Option<&Fence>, other: Option<&Fence>, item: &[u8]) -> Ordering {
    let count = |fence: Option<&Fence>| fence.map_or((0, 0), |fence| (fence.receipt, fence.epoch));
    count(one).cmp(&count(other)).then_with(|| match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(one), Some(other)) if one.claim_id == other.claim_id => Ordering::Equal,
        (Some(one), Some(other)) => claim_rank(item, &other.claim_id).cmp(&claim_rank(item, &one.claim_id)), // the lower digest ranks higher
    })
}
