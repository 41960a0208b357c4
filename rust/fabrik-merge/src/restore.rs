//! A replica from the bytes of a snapshot. Total: whatever the bytes are, it ends in a replica or in a refusal, and takes memory only for what is there.
//!
//! The digest finds every accident. The checks behind it keep the replica's own invariants, whoever wrote the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::limits::{EPOCH_MAX, HEADS_MAX, LAMPORT_MAX, SEQ_MAX, WALL_MS_MAX};
use fabrik_op::{Digest, Fence, Genesis, Key, Refused};

use crate::authority::Authority;
use crate::branch::{Base, Branch, Mark, mark};
use crate::claim::Claim;
use crate::log::{Log, Logs, heads_max};
use crate::record::{Record, Rotation};
use crate::replica::Replica;
use crate::row_key::RowKey;
use crate::schema;
use crate::sheet::{At, Entry, Sheet, Turn};
use crate::snapshot::{HEADER_BYTES, MAGIC, TRAILER_BYTES, VERSION, digest_of};
use crate::state::{Register, Row};
use crate::value;

impl Replica {
    /// The replica that this is the [`Replica::snapshot`] of. Refuses one that is damaged, of another mesh, or made with other rules.
    pub fn restore(genesis: Genesis, snapshot: &[u8]) -> Result<Self, Refused> {
        let body = check_header(&genesis, snapshot).map_err(|why| Refused::invalid(format!("snapshot: {why}")))?;
        let mut source = Source { left: body };
        read_replica(genesis, &mut source)
            .filter(|_| source.left.is_empty())
            .ok_or_else(|| Refused::invalid(format!("snapshot: malformed {} bytes before its end", source.left.len() + TRAILER_BYTES)))
    }
}

/// What is between header and digest.
fn check_header<'a>(genesis: &Genesis, snapshot: &'a [u8]) -> Result<&'a [u8], &'static str> {
    if !snapshot.starts_with(MAGIC) {
        return Err("these bytes are none");
    }
    let mut source = Source { left: snapshot.get(MAGIC.len()..).unwrap_or_default() };
    if source.u32() != Some(VERSION) {
        return Err("an unknown version of the format");
    }
    let (body, digest) = snapshot.split_last_chunk::<TRAILER_BYTES>().filter(|(body, _)| body.len() >= HEADER_BYTES).ok_or("cut short")?;
    if digest_of(body) != *digest {
        return Err("damaged or cut short: its digest does not fit");
    }
    if source.array::<32>() != Some(schema::fingerprint(schema::KINDS, schema::MERGE_RULES)) {
        return Err("made by a version with other kinds, fields or rules");
    }
    if source.array::<32>() != Some(genesis.mesh_id) {
        return Err("of another mesh");
    }
    body.get(HEADER_BYTES..).ok_or("cut short")
}

fn read_replica(genesis: Genesis, source: &mut Source<'_>) -> Option<Replica> {
    let mut replica = Replica::new(genesis);
    replica.lamport = source.up_to(LAMPORT_MAX)?;
    replica.voided = source.u64()?;
    replica.stale = source.flag()?;
    for _ in 0..source.u64()? {
        let log = read_log(source)?;
        replica.ops += log.branches.iter().map(|branch| branch.seq - branch.start()).sum::<u64>();
        replica.logs.add(log)?;
    }
    let mut sheets: BTreeMap<Key, Vec<Sheet>> = BTreeMap::new();
    for _ in 0..source.u64()? {
        let (author, sheet) = read_sheet(source, &replica.logs)?;
        let held = sheets.entry(author).or_default();
        if held.last().is_some_and(|last| last.at >= sheet.at) {
            return None;
        }
        held.push(sheet);
    }
    replica.authority = Arc::new(Authority::restore(&replica.genesis, &replica.logs, sheets));
    let fits = |log: &Log| {
        let most = heads_max(replica.authority.names(), &log.author);
        if log.suspended { most == HEADS_MAX && log.branches.len() <= most + 1 } else { log.branches.len() <= most }
    };
    if !replica.logs.by_index().iter().all(fits) {
        return None;
    }
    for bucket in 0..=u8::MAX {
        let mut rows = Vec::new();
        for _ in 0..source.u64()? {
            rows.push(read_row(source, &replica.logs)?);
        }
        replica.state.fill(bucket, rows)?;
    }
    Some(replica).filter(|replica| replica.voided <= replica.ops && replica.state.buries_all())
}

fn read_log(source: &mut Source<'_>) -> Option<Log> {
    let author: Key = source.array()?;
    let epoch = source.up_to(EPOCH_MAX).filter(|epoch| *epoch > 0)?;
    let mut log = Log { author, epoch, suspended: source.flag()?, applied: source.u8()?, denied: source.u8()?, branches: Vec::new() };
    let branches = source.u64()?;
    for number in 0..branches {
        let branch = read_branch(source, &log, number > 0)?;
        log.branches.push(branch);
    }
    Some(log).filter(|log| log.suspended || !log.branches.is_empty())
}

fn read_branch(source: &mut Source<'_>, log: &Log, forked: bool) -> Option<Branch> {
    let base = if forked { Some(Base { branch: source.u32()?, seq: source.u64()? }).filter(|base| log.forks_at(*base)) } else { None };
    if base.is_some() != forked {
        return None;
    }
    let count = source.up_to(SEQ_MAX - base.map_or(0, |base| base.seq))?;
    let head: Digest = source.array()?;
    let marks = source.take(count.checked_mul(size_of::<Mark>() as u64)?)?;
    let steps = source.u64()?;
    Branch::restore(base, base.map_or(0, |base| log.clock_at(base)), head, marks, source.take(steps)?)
}

fn read_sheet(source: &mut Source<'_>, logs: &Logs) -> Option<(Key, Sheet)> {
    let author = source.array()?;
    let at = At { epoch: source.u64()?, branch: source.u32()?, seq: source.u64()? };
    let lamport = source.up_to(LAMPORT_MAX)?;
    let (digest, head) = (source.array()?, source.array()?);
    if logs.find(&author, at.epoch)?.branch(at.branch)?.mark(at.seq)? != &mark(&head) {
        return None;
    }
    let mut sheet = Sheet { at, lamport, digest, head, entries: Vec::new(), records_only: source.flag()?, turns: Vec::new(), merged: true };
    for _ in 0..source.u64()? {
        let (index, subject, bytes) = (source.u32()?, source.array()?, source.u64()?);
        let value = source.take(bytes)?;
        sheet.entries.push(Entry { index, subject, value: value.into(), record: Record::of(value)? });
    }
    for _ in 0..source.u64()? {
        let (index, bytes) = (source.u32()?, source.u64()?);
        let value = source.take(bytes)?;
        sheet.turns.push(Turn { index, value: value.into(), rotation: Rotation::of(value)? });
    }
    Some((author, sheet))
}

fn read_row(source: &mut Source<'_>, logs: &Logs) -> Option<(RowKey, Row)> {
    let kind = source.u8()?;
    let entry = schema::kind_entry(kind)?;
    let key = RowKey::new(kind, source.take(entry.id_bytes as u64)?);
    let count = source.up_to(entry.fields.len() as u64).filter(|count| *count > 0)?;
    let mut row = Vec::with_capacity(usize::try_from(count).ok()?);
    for _ in 0..count {
        row.push(read_register(source, kind, logs)?);
    }
    Some((key, row.into_boxed_slice())).filter(|(_, row)| row.is_sorted_by(|one, next| one.field < next.field))
}

fn read_register(source: &mut Source<'_>, kind: u8, logs: &Logs) -> Option<Register> {
    let field = source.u8()?;
    let known = schema::lookup(u64::from(kind), u64::from(field))?;
    let log = source.u32()?;
    let seq = source.u64()?;
    let held = logs.at(log)?.branches.iter().any(|branch| seq > branch.start() && seq <= branch.seq);
    let lamport = source.up_to(LAMPORT_MAX)?;
    let wall_ms = source.up_to(WALL_MS_MAX)?;
    let write_index = source.u32()?;
    let digest = source.array()?;
    let fence = if source.flag()? { Some(Fence { receipt: source.u64()?, epoch: source.u64()?, claim_id: source.array()? }) } else { None };
    let bytes = source.u64()?;
    let value = source.take(bytes)?;
    value::check(known.field.value, value).ok().filter(|_| held && (fence.is_none() || known.field.fenced))?;
    let claim = if kind == schema::CLAIM { Some(Claim::of(value)?) } else { None };
    Some(Register {
        value: value.into(),
        fence: claim.map(|claim| claim.fence).or(fence).map(Box::new),
        digest,
        lamport,
        seq,
        wall_ms,
        log,
        write_index,
        touch: 0,
        field,
        state: claim.map_or(0, |claim| claim.state),
    })
}

/// What is left to read.
struct Source<'a> {
    left: &'a [u8],
}

impl<'a> Source<'a> {
    fn take(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.left = left;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, left) = self.left.split_first_chunk()?;
        self.left = left;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn up_to(&mut self, most: u64) -> Option<u64> {
        self.u64().filter(|number| *number <= most)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}
