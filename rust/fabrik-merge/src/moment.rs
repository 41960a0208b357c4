//! The registers of one moment, for long work without the lock under which the replica changes.
//!
//! Taking one copies no register: writes that come later copy the buckets that they change, while the moment still holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::Digest;
use fabrik_op::cbor::Writer;

use crate::audit::EntryDigest;
use crate::digest::{fold_buckets, hash_rows, write_entry};
use crate::replica::Replica;
use crate::row_key::RowKey;
use crate::state::Rows;

/// One bucket.
#[derive(Debug, Clone)]
pub struct HeldBucket {
    pub(crate) rows: Arc<Rows>,
    pub(crate) digest: Option<Digest>,
}

impl HeldBucket {
    /// Its digest, which is computed unless it is known.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| hash_rows(&self.rows))
    }
}

/// What [`Replica::moment`] took. While the replica was stale its registers say nothing.
#[derive(Debug)]
pub struct Moment {
    pub frontier: Digest,
    pub stale: bool,
    registers: usize,
    buckets: Vec<HeldBucket>,
}

impl Replica {
    /// All registers as they are now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            frontier: self.frontier_digest(),
            stale: self.stale(),
            registers: self.state.registers(),
            buckets: (0..=u8::MAX).map(|bucket| self.state.held(bucket)).collect(),
        }
    }

    /// One bucket as it is now.
    #[must_use]
    pub fn held(&self, bucket: u8) -> HeldBucket {
        self.state.held(bucket)
    }

    /// Takes over the digest of a bucket that was computed without the lock. Nothing, when it changed meanwhile.
    pub fn learn(&self, bucket: u8, held: &HeldBucket, digest: Digest) {
        self.state.learn_digest(bucket, held, digest);
    }
}

impl Moment {
    /// The digests of all buckets, in order; `learn` hears of each that had to be computed.
    pub fn bucket_digests(&self, mut learn: impl FnMut(u8, &HeldBucket, Digest)) -> Vec<Digest> {
        let digest_of = |(bucket, held): (u8, &HeldBucket)| {
            let digest = held.digest();
            if held.digest.is_none() {
                learn(bucket, held, digest);
            }
            digest
        };
        (0..=u8::MAX).zip(&self.buckets).map(digest_of).collect()
    }

    /// The state digest, given those of the buckets.
    #[must_use]
    pub fn state_digest(&self, buckets: &[Digest]) -> Digest {
        fold_buckets(self.registers, buckets.iter().copied())
    }

    /// The entries of one bucket in order of their keys.
    #[must_use]
    pub fn entries(&self, bucket: u8) -> Vec<EntryDigest> {
        let mut bytes = Writer::new();
        let rows = self.buckets.get(usize::from(bucket)).into_iter().flat_map(|held| held.rows.iter());
        rows.flat_map(|(key, row)| row.iter().map(move |register| (key, register)))
            .map(|(key, register)| {
                bytes.clear();
                write_entry(&mut bytes, key, register);
                let digest = blake3::derive_key("fabrik 2026 v1 state entry", bytes.as_bytes());
                EntryDigest { kind: key.kind(), id: key.id().to_vec(), field: register.field, digest }
            })
            .collect()
    }

    /// How many ids of a kind that have field `among` have each value of `field`; none: no register.
    #[must_use]
    pub fn tally(&self, kind: u8, field: u8, among: u8) -> BTreeMap<Option<Box<[u8]>>, u64> {
        let mut tally: BTreeMap<Option<&[u8]>, u64> = BTreeMap::new();
        for (_, row) in self.buckets.iter().flat_map(|held| held.rows.range(RowKey::all_of(kind))) {
            let value = |field| row.iter().find(|register| register.field == field).map(|register| &register.value[..]);
            if value(among).is_some() {
                *tally.entry(value(field)).or_default() += 1;
            }
        }
        tally.into_iter().map(|(value, count)| (value.map(Box::from), count)).collect()
    }

    /// The rows of each bucket, in order; each is let go when it was used.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = Arc<Rows>> {
        self.buckets.into_iter().map(|held| held.rows)
    }
}
