//! A replica as bytes: what a start takes instead of merging every op again. Format: `docs/spec/store.md`, "Snapshot of the registers".
//!
//! Not a source of truth. It says what ops *meant* to the build that wrote it, so one that knows more kinds, fields or rules refuses it.

use fabrik_op::{Digest, Fence, Key};

use crate::branch::Branch;
use crate::log::Log;
use crate::moment::Moment;
use crate::replica::Replica;
use crate::row_key::RowKey;
use crate::schema;
use crate::sheet::Sheet;
use crate::state::Register;

pub const MAGIC: &[u8; 16] = b"fabrik snapshot\0";
/// Version of the format.
pub const VERSION: u32 = 2;
/// Magic, version, rules and mesh id.
pub const HEADER_BYTES: usize = 16 + 4 + 32 + 32;
/// The digest at the end.
pub const TRAILER_BYTES: usize = 32;
/// Bytes of a register besides its value and fence; for the first guess of the size only.
const REGISTER_BYTES: usize = 80;

impl Replica {
    /// Everything that [`Replica::restore`] needs, with a digest over it.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.begin_snapshot().finish()
    }

    /// The same as [`Replica::snapshot`], begun: what has to be done under a lock, a few milliseconds for a million ops.
    #[must_use]
    pub fn begin_snapshot(&self) -> Begun {
        let ops = usize::try_from(self.ops()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(ops.saturating_mul(18) + self.registers() * (REGISTER_BYTES + 64) + 1024);
        bytes.extend_from_slice(MAGIC);
        put32(&mut bytes, VERSION);
        bytes.extend_from_slice(&schema::fingerprint(schema::KINDS, schema::MERGE_RULES));
        bytes.extend_from_slice(&self.genesis().mesh_id);
        put64(&mut bytes, self.lamport());
        put64(&mut bytes, self.voided());
        bytes.push(u8::from(self.stale()));
        put_count(&mut bytes, self.logs.by_index().len());
        self.logs.by_index().iter().for_each(|log| put_log(&mut bytes, log));
        put_count(&mut bytes, self.authority.sheets().count());
        self.authority.sheets().for_each(|(author, sheet)| put_sheet(&mut bytes, author, sheet));
        Begun { bytes, moment: self.moment() }
    }
}

/// A snapshot of one moment, without its registers so far. See [`Begun::finish`].
#[derive(Debug)]
pub struct Begun {
    bytes: Vec<u8>,
    moment: Moment,
}

impl Begun {
    /// All of it. Needs no lock.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let Self { mut bytes, moment } = self;
        for rows in moment.into_rows() {
            put_count(&mut bytes, rows.len());
            rows.iter().for_each(|(key, row)| put_row(&mut bytes, key, row));
        }
        seal(bytes)
    }
}

/// A snapshot with its digest behind it.
#[must_use]
pub fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = digest_of(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// The digest over everything before it.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    blake3::derive_key("fabrik 2026 v1 snapshot", bytes)
}

fn put_log(bytes: &mut Vec<u8>, log: &Log) {
    bytes.extend_from_slice(&log.author);
    put64(bytes, log.epoch);
    bytes.extend_from_slice(&[u8::from(log.suspended), log.applied, log.denied]);
    put_count(bytes, log.branches.len());
    log.branches.iter().for_each(|branch| put_branch(bytes, branch));
}

fn put_branch(bytes: &mut Vec<u8>, branch: &Branch) {
    if let Some(base) = branch.base {
        put32(bytes, base.branch);
        put64(bytes, base.seq);
    }
    put64(bytes, branch.seq - branch.start());
    bytes.extend_from_slice(&branch.head);
    branch.marks().iter().for_each(|mark| bytes.extend_from_slice(mark));
    put_count(bytes, branch.steps().len());
    bytes.extend_from_slice(branch.steps());
}

fn put_sheet(bytes: &mut Vec<u8>, author: &Key, sheet: &Sheet) {
    bytes.extend_from_slice(author);
    put64(bytes, sheet.at.epoch);
    put32(bytes, sheet.at.branch);
    put64(bytes, sheet.at.seq);
    put64(bytes, sheet.lamport);
    bytes.extend_from_slice(&sheet.digest);
    bytes.extend_from_slice(&sheet.head);
    bytes.push(u8::from(sheet.records_only));
    put_count(bytes, sheet.entries.len());
    for entry in &sheet.entries {
        put32(bytes, entry.index);
        bytes.extend_from_slice(&entry.subject);
        put_count(bytes, entry.value.len());
        bytes.extend_from_slice(&entry.value);
    }
    put_count(bytes, sheet.turns.len());
    for turn in &sheet.turns {
        put32(bytes, turn.index);
        put_count(bytes, turn.value.len());
        bytes.extend_from_slice(&turn.value);
    }
}

fn put_row(bytes: &mut Vec<u8>, key: &RowKey, row: &[Register]) {
    bytes.push(key.kind());
    bytes.extend_from_slice(key.id());
    put_count(bytes, row.len());
    for register in row {
        bytes.push(register.field);
        put32(bytes, register.log);
        put64(bytes, register.seq);
        put64(bytes, register.lamport);
        put64(bytes, register.wall_ms);
        put32(bytes, register.write_index);
        bytes.extend_from_slice(&register.digest);
        put_fence(bytes, register.fence.as_deref().filter(|_| key.kind() != schema::CLAIM));
        put_count(bytes, register.value.len());
        bytes.extend_from_slice(&register.value);
    }
}

/// A claim's own fence is in its value.
fn put_fence(bytes: &mut Vec<u8>, fence: Option<&Fence>) {
    bytes.push(u8::from(fence.is_some()));
    if let Some(fence) = fence {
        put64(bytes, fence.receipt);
        put64(bytes, fence.epoch);
        bytes.extend_from_slice(&fence.claim_id);
    }
}

fn put32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

fn put64(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    put64(bytes, count as u64);
}
