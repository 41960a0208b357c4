//! What is read out of a replica.

use fabrik_op::{Digest, Fence, Key};

use crate::branch::{Base, Branch};
use crate::digest;
use crate::log::Log;
use crate::moment::Tally;
use crate::order::compare_fences;
use crate::replica::Replica;
use crate::row_key::RowKey;
use crate::schema;
use crate::state::Register;

/// The end of a branch, for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadView {
    pub author: Key,
    pub epoch: u64,
    pub branch: u32,
    /// Where the branch begins; none for branch 0.
    pub base: Option<Base>,
    pub seq: u64,
    pub head: Digest,
    /// Lamport of the last clock-valid op on the path to it.
    pub clock: u64,
}

/// The winning write of a register, for reading. `value` is CBOR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterView {
    pub value: Box<[u8]>,
    pub fence: Option<Fence>,
    pub lamport: u64,
    pub digest: Digest,
    pub author: Key,
    pub epoch: u64,
    pub seq: u64,
    pub wall_ms: u64,
}

/// What the records about a key, and its rotation, come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberView {
    /// 0 none, 1 reader, 2 agent, 3 peer, 4 admin.
    pub role: u8,
    /// -1 the recovery key, 0 the genesis admin, and so on; none for those who write no member records.
    pub level: Option<i32>,
    /// For good.
    pub revoked: bool,
    /// The key that it rotated to.
    pub successor: Option<Key>,
    /// Its logs are taken.
    pub named: bool,
    /// It was an admin once: whom its records give a role is named.
    pub names: bool,
}

/// The fields of one id and their values in CBOR, in order of field.
pub type RowView = Vec<(u8, Box<[u8]>)>;

impl Replica {
    /// Every branch of every log in order of author, epoch and number; also of suspended logs.
    pub fn heads(&self) -> impl Iterator<Item = HeadView> {
        self.logs.ordered().flat_map(|log| (0..).zip(&log.branches).map(|(number, branch)| view_head(log, number, branch)))
    }

    #[must_use]
    pub fn head(&self, author: &Key, epoch: u64, branch: u32) -> Option<HeadView> {
        let log = self.logs.find(author, epoch)?;
        log.branch(branch).map(|held| view_head(log, branch, held))
    }

    /// The suspended logs in order of author and epoch.
    pub fn suspended(&self) -> impl Iterator<Item = (Key, u64)> {
        self.logs.ordered().filter(|log| log.suspended).map(|log| (log.author, log.epoch))
    }

    #[must_use]
    pub fn frontier_digest(&self) -> Digest {
        digest::frontier_digest(&self.logs)
    }

    #[must_use]
    pub fn state_digest(&self) -> Digest {
        digest::state_digest(&self.state)
    }

    /// Whether a node of this key may connect: it is a member now, or the recovery key.
    #[must_use]
    pub fn is_admitted(&self, author: &Key) -> bool {
        self.authority.standing(author).role != 0
    }

    /// Whether logs of this key are taken: a member, or one that was.
    #[must_use]
    pub fn is_named(&self, author: &Key) -> bool {
        self.authority.names().has(author)
    }

    /// Whether logs of this key are never suspended: it names others, or one that does wrote a revocation of it.
    #[must_use]
    pub fn is_spared(&self, author: &Key) -> bool {
        self.authority.names().spares(author)
    }

    /// What is known of a key.
    #[must_use]
    pub fn member(&self, key: &Key) -> MemberView {
        let standing = self.authority.standing(key);
        MemberView {
            role: standing.role,
            level: standing.level,
            revoked: standing.revoked,
            successor: standing.successor,
            named: self.is_named(key),
            names: self.authority.names().names(key),
        }
    }

    #[must_use]
    pub fn get(&self, kind: u8, id: &[u8], field: u8) -> Option<RegisterView> {
        let register = self.state.get(&row_key(kind, id)?, field)?;
        let log = self.logs.at(register.log)?;
        Some(RegisterView {
            value: register.value.clone(),
            fence: register.fence.as_deref().copied(),
            lamport: register.lamport,
            digest: register.digest,
            author: log.author,
            epoch: log.epoch,
            seq: register.seq,
            wall_ms: register.wall_ms,
        })
    }

    /// The fields and values of one id.
    #[must_use]
    pub fn row(&self, kind: u8, id: &[u8]) -> RowView {
        row_key(kind, id).and_then(|key| self.state.row(&key)).map(|row| copy_row(row)).unwrap_or_default()
    }

    /// All ids of a kind with their fields and values, in order of id.
    #[must_use]
    pub fn rows(&self, kind: u8) -> Vec<(Box<[u8]>, RowView)> {
        self.state.rows(kind).into_iter().map(|(key, row)| (key.id().into(), copy_row(row))).collect()
    }

    /// The values of `field` of the items that have field `among`.
    #[must_use]
    pub fn tally(&self, field: u8, among: u8) -> Tally {
        self.moment().tally(field, among)
    }

    #[must_use]
    pub fn tombstoned(&self, id: &[u8]) -> bool {
        row_key(schema::TOMBSTONE, id).is_some() && self.state.tombstoned(id)
    }

    /// The fence of the item's winning claim, whatever its state.
    #[must_use]
    pub fn winning_fence(&self, item: &[u8]) -> Option<Fence> {
        self.state.get(&row_key(schema::CLAIM, item)?, 1)?.fence.as_deref().copied()
    }

    /// Whether `fence` is strictly above `other` for this item.
    #[must_use]
    pub fn fence_beats(item: &[u8], fence: Option<&Fence>, other: Option<&Fence>) -> bool {
        compare_fences(fence, other, item).is_gt()
    }
}

fn row_key(kind: u8, id: &[u8]) -> Option<RowKey> {
    schema::kind_entry(kind).filter(|entry| entry.id_bytes == id.len()).map(|_| RowKey::new(kind, id))
}

fn copy_row(row: &[Register]) -> RowView {
    row.iter().map(|register| (register.field, register.value.clone())).collect()
}

fn view_head(log: &Log, number: u32, branch: &Branch) -> HeadView {
    HeadView { author: log.author, epoch: log.epoch, branch: number, base: branch.base, seq: branch.seq, head: branch.head, clock: branch.clock }
}
