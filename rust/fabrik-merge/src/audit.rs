//! What two nodes with equal frontiers and unequal states compare, to find the registers that differ: digests of buckets, and of the entries of some.

use fabrik_op::Digest;

use crate::replica::Replica;

/// One register of a bucket: its key, and what its entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryDigest {
    pub kind: u8,
    pub id: Vec<u8>,
    pub field: u8,
    pub digest: Digest,
}

/// A replica at one moment. While it is stale its state says nothing.
#[derive(Debug)]
pub struct Audit {
    pub frontier: Digest,
    pub stale: bool,
    /// Of all 256, in order.
    pub buckets: Vec<Digest>,
    /// The entries of each bucket that was asked for, in order of their keys.
    pub entries: Vec<Vec<EntryDigest>>,
}

impl Replica {
    /// The frontier digest and the state digest of one moment.
    #[must_use]
    pub fn digests(&self) -> (Digest, Digest) {
        (self.frontier_digest(), self.state_digest())
    }

    /// Looks at all buckets, and at the entries of some of them.
    #[must_use]
    pub fn audit(&self, asked: &[u8]) -> Audit {
        let moment = self.moment();
        let buckets = moment.bucket_digests(|bucket, held, digest| self.learn(bucket, held, digest));
        Audit { frontier: moment.frontier, stale: moment.stale, buckets, entries: asked.iter().map(|bucket| moment.entries(*bucket)).collect() }
    }
}
