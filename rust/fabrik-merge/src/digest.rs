//! State digest and frontier digest: what two nodes compare.

use fabrik_op::Digest;
use fabrik_op::cbor::Writer;
use fabrik_op::hash::claim_rank;

use crate::log::Logs;
use crate::row_key::RowKey;
use crate::state::{Register, Rows, State};

/// The state digest. Only buckets that changed since the last call are hashed again.
#[must_use]
pub fn state_digest(state: &State) -> Digest {
    fold_buckets(state.registers(), (0..=u8::MAX).map(|bucket| state.bucket_digest(bucket)))
}

/// The state digest of so many registers in buckets with these digests.
#[must_use]
pub(crate) fn fold_buckets(registers: usize, buckets: impl Iterator<Item = Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("fabrik 2026 v1 state");
    hasher.update(&(registers as u64).to_be_bytes());
    for digest in buckets {
        hasher.update(&digest);
    }
    *hasher.finalize().as_bytes()
}

/// Bytes that are gathered before they are hashed: BLAKE3 is several times faster on many of its 1 KiB chunks at once.
const GATHERED_BYTES: usize = 65_536;

/// The digest of the rows of one bucket.
pub(crate) fn hash_rows(rows: &Rows) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("fabrik 2026 v1 state bucket");
    let mut entries = Writer::new();
    for (key, row) in rows {
        for register in row {
            write_entry(&mut entries, key, register);
            if entries.as_bytes().len() >= GATHERED_BYTES {
                hasher.update(entries.as_bytes());
                entries.clear();
            }
        }
    }
    hasher.update(entries.as_bytes());
    *hasher.finalize().as_bytes()
}

/// `entry(r)` of merge.md.
pub(crate) fn write_entry(entry: &mut Writer, key: &RowKey, register: &Register) {
    entry.array(3).uint(u64::from(key.kind())).bytes(key.id()).uint(u64::from(register.field));
    entry.array(6);
    match register.fence.as_deref() {
        Some(fence) => entry.uint(fence.receipt).uint(fence.epoch).bytes(&claim_rank(key.id(), &fence.claim_id)),
        None => entry.uint(0).uint(0).bytes(&[]),
    };
    entry.uint(register.lamport).bytes(&register.digest).raw(&register.value);
}

/// The seq of the head that stands for a suspended log.
pub const SUSPENDED_SEQ: u64 = 1 << 53;
/// The seq of the head that stands for a log with more heads than are listed, and that is not suspended. No op can get there.
pub const CROWDED_SEQ: u64 = SUSPENDED_SEQ - 1;

/// Names a set of heads.
#[must_use]
pub fn heads_digest(heads: impl Iterator<Item = (u64, Digest)>) -> Digest {
    let mut heads: Vec<(u64, Digest)> = heads.collect();
    heads.sort_unstable();
    let mut hasher = blake3::Hasher::new_derive_key("fabrik 2026 v1 heads");
    for (seq, head) in heads {
        hasher.update(&seq.to_be_bytes()).update(&head);
    }
    *hasher.finalize().as_bytes()
}

/// The frontier digest: every head of every log; one marker for a suspended log.
#[must_use]
pub fn frontier_digest(logs: &Logs) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("fabrik 2026 v1 frontier");
    for log in logs.ordered() {
        let mut heads: Vec<(u64, Digest)> = log.branches.iter().map(|branch| (branch.seq, branch.head)).collect();
        if log.suspended {
            heads = vec![(SUSPENDED_SEQ, [0; 32])];
        }
        heads.sort_unstable();
        for (seq, head) in heads {
            hasher.update(&log.author).update(&log.epoch.to_be_bytes()).update(&seq.to_be_bytes()).update(&head);
        }
    }
    *hasher.finalize().as_bytes()
}
