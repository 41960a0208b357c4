//! What two nodes with equal frontiers and unequal states compare, to find the registers that differ.

use fabrik_op::Digest;
use fabrik_op::cbor::Writer;

use crate::digest::{self, hash_bucket, write_entry};
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

    /// Hashes one bucket if it changed since it was hashed last.
    pub fn warm(&self, bucket: u8) {
        self.state.bucket_digest(bucket, || hash_bucket(&self.state, bucket));
    }

    /// Looks at all buckets, and at the entries of some of them.
    #[must_use]
    pub fn audit(&self, asked: &[u8]) -> Audit {
        Audit {
            frontier: digest::frontier_digest(&self.logs),
            stale: self.stale(),
            buckets: (0..=u8::MAX).map(|bucket| self.state.bucket_digest(bucket, || hash_bucket(&self.state, bucket))).collect(),
            entries: asked.iter().map(|bucket| self.entry_digests(*bucket)).collect(),
        }
    }

    fn entry_digests(&self, bucket: u8) -> Vec<EntryDigest> {
        let mut bytes = Writer::new();
        let rows = self.state.bucket_rows(bucket).flat_map(|(key, row)| row.iter().map(move |register| (key, register)));
        rows.map(|(key, register)| {
            bytes.clear();
            write_entry(&mut bytes, key, register);
            let digest = blake3::derive_key("fabrik 2026 v1 state entry", bytes.as_bytes());
            EntryDigest { kind: key.kind(), id: key.id().to_vec(), field: register.field, digest }
        })
        .collect()
    }
}
