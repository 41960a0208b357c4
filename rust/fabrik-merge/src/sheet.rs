//! The ops that say who may do what: those that write member records or rotations, and are sound.

use fabrik_op::{ChainedSegment, Digest, Genesis, Key, Op, kind};

use crate::branch::{Mark, mark};
use crate::record::{Record, Rotation, Spot};
use crate::schema;
use crate::validity::{self, Standpoint};

/// Where an op stands among the ops of its author: log, our number of the branch, seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub epoch: u64,
    pub branch: u32,
    pub seq: u64,
}

/// A member record as written.
#[derive(Debug, Clone)]
pub struct Entry {
    pub index: u32,
    pub subject: Key,
    pub value: Box<[u8]>,
    pub record: Record,
}

/// A rotation as written, whose signature verifies.
#[derive(Debug, Clone)]
pub struct Turn {
    pub index: u32,
    pub value: Box<[u8]>,
    pub rotation: Rotation,
}

/// One such op.
#[derive(Debug, Clone)]
pub struct Sheet {
    pub at: At,
    pub lamport: u64,
    pub digest: Digest,
    /// Chain hash of the op.
    pub head: Digest,
    pub entries: Vec<Entry>,
    /// It writes no other registers of version 1.
    pub records_only: bool,
    pub turns: Vec<Turn>,
    /// What it means was applied to the registers.
    pub merged: bool,
}

impl Sheet {
    /// The sheet of an op that keeps the clock rule; none if it is not sound, or says nothing. `before`: the chain hash of the op before it.
    #[must_use]
    pub fn of(genesis: &Genesis, author: &Key, at: At, op: &Op<'_>, before: &Digest) -> Option<Self> {
        let standpoint = Standpoint { admin: &genesis.admin, author };
        if !matches!(validity::judge(&standpoint, op), Ok(Some(_))) {
            return None;
        }
        let mut sheet =
            Self { at, lamport: op.lamport(), digest: *op.digest, head: *op.head(), entries: Vec::new(), records_only: true, turns: Vec::new(), merged: false };
        for (write, index) in op.writes().zip(0..) {
            let Some(known) = validity::target(&standpoint, &write) else { continue };
            match known.kind_number {
                schema::MEMBER => {
                    let (subject, record) = (Key::try_from(write.id).ok()?, Record::of(write.value)?);
                    sheet.entries.push(Entry { index, subject, value: write.value.into(), record });
                }
                schema::ROTATION => {
                    // With more in its op a thief could copy it, sign the more, and stand at the place that the new key agreed to.
                    let alone = op.writes().len() == 1 && op.kind() == kind::WRITE;
                    let signed = Rotation::of(write.value).filter(|rotation| alone && rotation.is_signed(&genesis.mesh_id, author, at.epoch, at.seq, before));
                    sheet.turns.extend(signed.map(|rotation| Turn { index, value: write.value.into(), rotation }));
                }
                _ => sheet.records_only &= known.field.later,
            }
        }
        Some(sheet).filter(|sheet| !sheet.entries.is_empty() || !sheet.turns.is_empty())
    }

    /// Its own place.
    #[must_use]
    pub fn spot(&self) -> Spot {
        Spot { epoch: self.at.epoch, seq: self.at.seq, head: self.head }
    }
}

fn says(op: &Op<'_>) -> bool {
    op.writes().any(|write| write.kind == u64::from(schema::MEMBER) || write.kind == u64::from(schema::ROTATION))
}

/// Whether a segment may have sheets.
#[must_use]
#[inline]
pub fn says_anything(segment: &ChainedSegment) -> bool {
    segment.may_write(schema::MEMBER) || segment.may_write(schema::ROTATION)
}

/// The sheets of a segment on this branch; `clock` is the one before it.
pub fn sheets(genesis: &Genesis, segment: &ChainedSegment, branch: u32, clock: u64) -> Vec<Sheet> {
    if !says_anything(segment) {
        return Vec::new();
    }
    let (mut found, mut clock, mut before) = (Vec::new(), clock, segment.prev());
    for op in segment.ops() {
        if validity::keeps_clock(clock, op.lamport()) {
            clock = op.lamport();
            if says(&op) {
                let at = At { epoch: segment.epoch(), branch, seq: op.seq };
                found.extend(Sheet::of(genesis, segment.author(), at, &op, before));
            }
        }
        before = op.head();
    }
    found
}

/// What of a spot is compared: an inner op is kept by its mark only.
pub type SpotName = (u64, u64, Mark);

impl Spot {
    /// None for the spot that is nowhere.
    #[must_use]
    pub fn name(&self) -> Option<SpotName> {
        (self.head != [0; 32]).then(|| (self.epoch, self.seq, mark(&self.head)))
    }
}
