//! The live registers, in 256 buckets by the last byte of their id.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::{Digest, Fence};

use crate::digest::hash_rows;
use crate::log::Logs;
use crate::moment::HeldBucket;
use crate::order::Standing;
use crate::row_key::RowKey;
use crate::schema;

/// The winning write of one register.
#[derive(Debug, Clone)]
pub struct Register {
    pub value: Box<[u8]>,
    /// For a claim its own, elsewhere the one that the write carried.
    pub fence: Option<Box<Fence>>,
    pub digest: Digest,
    pub lamport: u64,
    pub seq: u64,
    pub wall_ms: u64,
    /// Index of the log.
    pub log: u32,
    pub write_index: u32,
    /// Its touch in the last merge call that reported changes and wrote it; 0: none.
    pub touch: u32,
    pub field: u8,
    /// A claim's state, elsewhere 0.
    pub state: u8,
}

impl Register {
    #[must_use]
    #[inline]
    pub fn standing(&self) -> Standing<'_> {
        Standing { fence: self.fence.as_deref(), state: self.state, lamport: self.lamport, digest: &self.digest, write_index: self.write_index }
    }
}

/// A write on its way into a register.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub standing: Standing<'a>,
    pub field: u8,
    pub value: &'a [u8],
    pub seq: u64,
    pub wall_ms: u64,
    pub log: u32,
    /// The first touch of this call and the next one; none when it reports no changes.
    pub touch: Option<(u32, u32)>,
}

impl Candidate<'_> {
    /// The register that it makes, given the touch of the write that it replaces. A register has one touch in a call.
    fn to_register(self, held: u32) -> Register {
        Register {
            value: self.value.into(),
            fence: self.standing.fence.map(|fence| Box::new(*fence)),
            digest: *self.standing.digest,
            lamport: self.standing.lamport,
            seq: self.seq,
            wall_ms: self.wall_ms,
            log: self.log,
            write_index: self.standing.write_index,
            touch: self.touch.map_or(0, |(first, next)| if held >= first { held } else { next }),
            field: self.field,
            state: self.standing.state,
        }
    }
}

/// What a write did to its register.
#[derive(Debug)]
pub enum Effect {
    /// It lost, or its item is deleted.
    None,
    /// It became the value of a register that had none.
    Inserted,
    /// It replaced this write.
    Replaced(Register),
}

/// The registers of one id, in order of their fields.
pub type Row = Box<[Register]>;

/// The rows of one bucket.
pub type Rows = BTreeMap<RowKey, Row>;

#[derive(Debug, Default)]
struct Bucket {
    /// Shared with the moments that were taken; see [`crate::moment`].
    rows: Arc<Rows>,
    tombstones: usize,
    digest: Cell<Option<Digest>>,
}

#[derive(Debug)]
struct Buckets(Box<[Bucket; 256]>);

#[allow(clippy::indexing_slicing)] // One bucket for each byte.
impl Buckets {
    fn at(&self, byte: u8) -> &Bucket {
        &self.0[usize::from(byte)]
    }

    fn at_mut(&mut self, byte: u8) -> &mut Bucket {
        &mut self.0[usize::from(byte)]
    }
}

/// All live registers.
#[derive(Debug)]
pub struct State {
    buckets: Buckets,
    registers: usize,
}

impl Default for State {
    fn default() -> Self {
        Self { buckets: Buckets(Box::new(std::array::from_fn(|_| Bucket::default()))), registers: 0 }
    }
}

impl State {
    #[must_use]
    pub fn registers(&self) -> usize {
        self.registers
    }

    #[must_use]
    pub fn row(&self, key: &RowKey) -> Option<&Row> {
        self.buckets.at(key.bucket()).rows.get(key)
    }

    #[must_use]
    pub fn get(&self, key: &RowKey, field: u8) -> Option<&Register> {
        let row = self.row(key)?;
        row.iter().find(|register| register.field == field)
    }

    /// All rows of a kind in order of id.
    #[must_use]
    pub fn rows(&self, kind: u8) -> Vec<(&RowKey, &Row)> {
        let mut rows: Vec<_> = self.buckets.0.iter().flat_map(|bucket| bucket.rows.range(RowKey::all_of(kind))).collect();
        rows.sort_unstable_by_key(|(key, _)| **key);
        rows
    }

    /// The rows of one bucket in order of their keys.
    pub fn bucket_rows(&self, bucket: u8) -> impl Iterator<Item = (&RowKey, &Row)> {
        self.buckets.at(bucket).rows.iter()
    }

    /// All registers with their keys, in order of bucket, key and field.
    pub fn all(&self) -> impl Iterator<Item = (&RowKey, &Register)> {
        (0..=u8::MAX).flat_map(|bucket| self.bucket_rows(bucket)).flat_map(|(key, row)| row.iter().map(move |register| (key, register)))
    }

    /// The digest of one bucket, computed unless nothing changed since.
    pub fn bucket_digest(&self, bucket: u8) -> Digest {
        let held = self.buckets.at(bucket);
        let digest = held.digest.get().unwrap_or_else(|| hash_rows(&held.rows));
        held.digest.set(Some(digest));
        digest
    }

    /// One bucket as it is now.
    pub fn held(&self, bucket: u8) -> HeldBucket {
        let held = self.buckets.at(bucket);
        HeldBucket { rows: Arc::clone(&held.rows), digest: held.digest.get() }
    }

    /// Notes the digest of these rows, if they are those of the bucket still: what is shared is never changed in place.
    pub fn learn_digest(&self, bucket: u8, of: &HeldBucket, digest: Digest) {
        let held = self.buckets.at(bucket);
        if Arc::ptr_eq(&held.rows, &of.rows) {
            held.digest.set(Some(digest));
        }
    }

    #[must_use]
    #[inline]
    pub fn tombstoned(&self, id: &[u8]) -> bool {
        let key = RowKey::new(schema::TOMBSTONE, id);
        let bucket = self.buckets.at(key.bucket());
        bucket.tombstones > 0 && bucket.rows.contains_key(&key)
    }

    /// Gives an empty bucket its rows. None unless they are in order and belong there.
    pub fn fill(&mut self, bucket: u8, rows: Vec<(RowKey, Row)>) -> Option<()> {
        if !rows.is_sorted_by(|one, next| one.0 < next.0) || rows.iter().any(|(key, _)| key.bucket() != bucket) {
            return None;
        }
        self.registers += rows.iter().map(|(_, row)| row.len()).sum::<usize>();
        let bucket = self.buckets.at_mut(bucket);
        bucket.tombstones = rows.iter().filter(|(key, _)| key.kind() == schema::TOMBSTONE).count();
        bucket.rows = Arc::new(rows.into_iter().collect());
        Some(())
    }

    /// Whether no deleted item has registers left.
    #[must_use]
    pub fn buries_all(&self) -> bool {
        let left = |id: &[u8]| [schema::ITEM, schema::CLAIM].iter().any(|kind| self.row(&RowKey::new(*kind, id)).is_some());
        !self.rows(schema::TOMBSTONE).iter().any(|(key, _)| left(key.id()))
    }

    /// Joins one write of an effective op into register `(key, field)`, which is not a tombstone.
    #[inline]
    pub fn join(&mut self, key: &RowKey, write: &Candidate<'_>, logs: &Logs) -> Effect {
        if matches!(key.kind(), schema::ITEM | schema::CLAIM) && self.tombstoned(key.id()) {
            return Effect::None;
        }
        self.settle(key, write, |held, new| held.standing().compare(&new.standing, key.id()).then_with(|| logs.compare(held.log, new.log)).is_lt())
    }

    /// Joins one tombstone. The caller then removes what it deletes with [`State::bury`].
    pub fn entomb(&mut self, key: &RowKey, write: &Candidate<'_>, logs: &Logs) -> Effect {
        self.settle(key, write, |held, new| held.standing().age(&new.standing).then_with(|| logs.compare(held.log, new.log)).is_gt())
    }

    /// Forgets which merge call wrote what.
    pub fn forget_touches(&mut self) {
        self.buckets
            .0
            .iter_mut()
            .flat_map(|bucket| Arc::make_mut(&mut bucket.rows).values_mut())
            .flat_map(|row| row.iter_mut())
            .for_each(|register| register.touch = 0);
    }

    /// Removes the item and claim registers of a deleted id and returns them with their keys.
    pub fn bury(&mut self, id: &[u8]) -> Vec<(RowKey, Register)> {
        let mut removed = Vec::new();
        for kind in [schema::ITEM, schema::CLAIM] {
            let key = RowKey::new(kind, id);
            let bucket = self.buckets.at_mut(key.bucket());
            if let Some(row) = bucket.rows.contains_key(&key).then(|| Arc::make_mut(&mut bucket.rows).remove(&key)).flatten() {
                bucket.digest.set(None);
                self.registers -= row.len();
                removed.extend(row.into_vec().into_iter().map(|register| (key, register)));
            }
        }
        removed
    }

    #[inline]
    fn settle(&mut self, key: &RowKey, write: &Candidate<'_>, loses: impl FnOnce(&Register, &Candidate<'_>) -> bool) -> Effect {
        let bucket = self.buckets.at_mut(key.bucket());
        let row = Arc::make_mut(&mut bucket.rows).entry(*key).or_default();
        let place = row.partition_point(|register| register.field < write.field);
        if let Some(held) = row.get_mut(place).filter(|register| register.field == write.field) {
            if !loses(held, write) {
                return Effect::None;
            }
            bucket.digest.set(None);
            let new = write.to_register(held.touch);
            return Effect::Replaced(std::mem::replace(held, new));
        }
        let mut wider = std::mem::take(row).into_vec();
        wider.reserve_exact(1);
        wider.insert(place, write.to_register(0));
        *row = wider.into_boxed_slice();
        bucket.digest.set(None);
        bucket.tombstones += usize::from(key.kind() == schema::TOMBSTONE);
        self.registers += 1;
        Effect::Inserted
    }
}
