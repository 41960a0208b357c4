//! The registers of one moment, for long work without the lock under which the replica changes.
//!
//! Taking one copies no register: writes that come later copy the buckets that they change, while the moment still holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::cbor::Writer;
use fabrik_op::{Digest, Fence};

use crate::audit::EntryDigest;
use crate::digest::{fold_buckets, hash_rows, write_entry};
use crate::order::compare_fences;
use crate::replica::Replica;
use crate::row_key::RowKey;
use crate::schema;
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

/// The values of one field of all items; none: no register.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many items have each, but for those of `below`.
    pub counts: BTreeMap<Option<Box<[u8]>>, u64>,
    /// The items whose value has a fence below that of their claim.
    pub below: Vec<Below>,
}

/// A value with a fence below that of its item's claim, or none, and that claim.
#[derive(Debug, PartialEq, Eq)]
pub struct Below {
    pub item: Box<[u8]>,
    pub value: Option<Box<[u8]>>,
    pub fence: Option<Fence>,
    pub claim: Box<[u8]>,
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

    /// The values of `field` of the items that have field `among`.
    #[must_use]
    pub fn tally(&self, field: u8, among: u8) -> Tally {
        let mut counts: BTreeMap<Option<&[u8]>, u64> = BTreeMap::new();
        let mut below = Vec::new();
        for rows in self.buckets.iter().map(|held| &held.rows) {
            for (key, row) in rows.range(RowKey::all_of(schema::ITEM)) {
                let register = |field| row.iter().find(|register| register.field == field);
                if register(among).is_none() {
                    continue;
                }
                let (written, claim) = (register(field), rows.get(&RowKey::new(schema::CLAIM, key.id())).and_then(|row| row.first()));
                let (value, fence) = (written.map(|register| &register.value[..]), written.and_then(|register| register.fence.as_deref()));
                match claim {
                    Some(claim) if compare_fences(claim.fence.as_deref(), fence, key.id()).is_gt() => {
                        below.push(Below { item: key.id().into(), value: value.map(Box::from), fence: fence.copied(), claim: claim.value.clone() });
                    }
                    _ => *counts.entry(value).or_default() += 1,
                }
            }
        }
        Tally { counts: counts.into_iter().map(|(value, count)| (value.map(Box::from), count)).collect(), below }
    }

    /// The rows of each bucket, in order; each is let go when it was used.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = Arc<Rows>> {
        self.buckets.into_iter().map(|held| held.rows)
    }
}
