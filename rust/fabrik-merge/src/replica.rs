//! Heads and registers in memory.

use std::collections::BTreeMap;

use fabrik_op::hash::{log_start, short};
use fabrik_op::limits::EPOCH_MAX;
use fabrik_op::{ChainedSegment, Digest, Fence, Genesis, Key, Op, RawSegment, Refused, SigningKey, Tip, VerifiedSegment};

use crate::chaining::{self, ChainOutcome};
use crate::change::{Change, Trail};
use crate::claim::Claim;
use crate::digest;
use crate::draft::Draft;
use crate::log::{Log, Logs};
use crate::order::{Standing, compare_fences};
use crate::schema;
use crate::state::{Candidate, Effect, Register, RowKey, State};
use crate::validity::{self, Standpoint};
use crate::value;

/// A full replica of one mesh. The life of foreign bytes: [`Replica::verify`], [`Replica::chain`], persist, [`Replica::merge`].
#[derive(Debug)]
pub struct Replica {
    genesis: Genesis,
    logs: Logs,
    state: State,
    lamport: u64,
    ops: u64,
    voided: u64,
    /// Number of the current merge call, from 1.
    call: u32,
}

/// The end of a log, for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadView {
    pub author: Key,
    pub epoch: u64,
    pub seq: u64,
    pub head: Digest,
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

/// The fields of one id and their values in CBOR, in order of field.
pub type RowView = Vec<(u8, Box<[u8]>)>;

impl Replica {
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self { genesis, logs: Logs::default(), state: State::default(), lamport: 0, ops: 0, voided: 0, call: 0 }
    }

    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The highest clock-valid lamport of any op.
    #[must_use]
    pub fn lamport(&self) -> u64 {
        self.lamport
    }

    #[must_use]
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// Ops without effect because they break a rule. Ops of unknown kinds are not counted.
    #[must_use]
    pub fn voided(&self) -> u64 {
        self.voided
    }

    #[must_use]
    pub fn registers(&self) -> usize {
        self.state.registers()
    }

    /// Decodes, hashes and checks one segment. Needs no lock: it reads the mesh id only.
    pub fn verify(mesh_id: &Digest, segment: RawSegment) -> Result<VerifiedSegment, Refused> {
        segment.decode()?.verify(mesh_id)
    }

    /// Fits segments onto our heads and onto each other, in order. Changes nothing.
    ///
    /// Refuses segments that were verified for another mesh.
    pub fn chain(&self, verified: &[VerifiedSegment], admit_all: bool) -> Result<ChainOutcome, Refused> {
        chaining::chain(self, verified, admit_all)
    }

    /// Applies segments, in order, and returns what changed. Refuses, changing nothing, one that does not fit on the heads.
    pub fn merge(&mut self, chained: &[ChainedSegment]) -> Result<Vec<Change>, Refused> {
        self.check_fit(chained)?;
        self.next_call();
        let mut trail = Trail::default();
        for segment in chained {
            self.apply(segment, Some(&mut trail))?;
        }
        Ok(trail.settle(&self.state, &self.logs))
    }

    /// Chains and applies our own stored segments; returns the number of new ops. Changes nothing when it refuses.
    pub fn load(&mut self, verified: &[VerifiedSegment]) -> Result<u64, Refused> {
        let outcome = self.chain(verified, true)?;
        if let Some(gap) = outcome.gaps.first() {
            return Err(Refused::invalid(format!(
                "stored log of {}.. epoch {} has a gap: seq {} follows seq {}",
                short(&gap.author),
                gap.epoch,
                gap.first_seq,
                gap.have_seq
            )));
        }
        if let Some(fork) = outcome.forks.first() {
            return Err(Refused::invalid(format!("stored log of {}.. epoch {} forks at seq {}", short(&fork.author), fork.epoch, fork.seq)));
        }
        self.check_fit(&outcome.chained)?;
        self.next_call();
        let before = self.ops;
        for segment in &outcome.chained {
            self.apply(segment, None)?;
        }
        Ok(self.ops - before)
    }

    /// Starts local ops at the end of the key's own log. Refuses an epoch outside 1..2^53-1.
    pub fn draft(&self, key: SigningKey, epoch: u64) -> Result<Draft, Refused> {
        if !(1..=EPOCH_MAX).contains(&epoch) {
            return Err(Refused::invalid(format!("epoch {epoch} is not within 1..2^53-1")));
        }
        let author = key.public();
        let (tip, clock) =
            self.logs.find(&author, epoch).map_or_else(|| (Tip::start(&self.genesis.mesh_id, &author, epoch), 0), |log| (log.tip.clone(), log.clock));
        Ok(Draft::new(key, self.genesis.admin, tip, clock, self.lamport))
    }

    /// All heads in order of author and epoch.
    pub fn heads(&self) -> impl Iterator<Item = HeadView> {
        self.logs.ordered().map(view_head)
    }

    #[must_use]
    pub fn head(&self, author: &Key, epoch: u64) -> Option<HeadView> {
        self.logs.find(author, epoch).map(view_head)
    }

    #[must_use]
    pub fn frontier_digest(&self) -> Digest {
        digest::frontier_digest(&self.logs)
    }

    #[must_use]
    pub fn state_digest(&self) -> Digest {
        digest::state_digest(&self.state)
    }

    /// The genesis admin, or a member record with a role other than none.
    #[must_use]
    pub fn is_admitted(&self, author: &Key) -> bool {
        *author == self.genesis.admin || self.member(author).is_some_and(|register| member_role(&register.value) != 0)
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
            author: log.tip.author,
            epoch: log.tip.epoch,
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

    pub(crate) fn log(&self, author: &Key, epoch: u64) -> Option<&Log> {
        self.logs.find(author, epoch)
    }

    pub(crate) fn member(&self, author: &Key) -> Option<&Register> {
        self.state.get(&RowKey::new(schema::MEMBER, author), 1)
    }

    fn check_fit(&self, chained: &[ChainedSegment]) -> Result<(), Refused> {
        let mut tips: BTreeMap<(Key, u64), (u64, Digest)> = BTreeMap::new();
        for segment in chained {
            let log = (*segment.author(), segment.epoch());
            let (seq, head) = tips.get(&log).copied().unwrap_or_else(|| {
                self.logs.find(&log.0, log.1).map_or_else(|| (0, log_start(&self.genesis.mesh_id, &log.0, log.1)), |held| (held.tip.seq, held.tip.head))
            });
            let name = || format!("segment of {}.. epoch {}", short(&log.0), log.1);
            if *segment.mesh_id() != self.genesis.mesh_id {
                return Err(Refused::invalid(format!("{} belongs to another mesh", name())));
            }
            if segment.first_seq() != seq + 1 {
                return Err(Refused::invalid(format!("{} starts at seq {}, expected {}", name(), segment.first_seq(), seq + 1)));
            }
            if *segment.prev() != head {
                return Err(Refused::invalid(format!("{} does not chain to the head at seq {seq}", name())));
            }
            tips.insert(log, (segment.last_seq(), *segment.head()));
        }
        Ok(())
    }

    fn next_call(&mut self) {
        self.call = self.call.checked_add(1).unwrap_or_else(|| {
            self.state.forget_calls();
            1
        });
    }

    /// Applies a segment that fits.
    fn apply(&mut self, segment: &ChainedSegment, mut trail: Option<&mut Trail>) -> Result<(), Refused> {
        let place = self.logs.place(&self.genesis.mesh_id, segment.author(), segment.epoch()).ok_or_else(|| Refused::invalid("more than 2^32 logs"))?;
        let mut clock = self.logs.at(place).map_or(0, |log| log.clock);
        for op in segment.ops() {
            self.ops += 1;
            if !validity::keeps_clock(clock, op.lamport()) {
                self.voided += 1;
                continue;
            }
            let standpoint = Standpoint { admin: &self.genesis.admin, author: segment.author() };
            clock = op.lamport();
            self.lamport = self.lamport.max(clock);
            match validity::judge(&standpoint, &op) {
                Ok(true) => self.apply_op(&op, place, trail.as_deref_mut()),
                Ok(false) => {}
                Err(_) => self.voided += 1,
            }
        }
        if let Some(log) = self.logs.at_mut(place) {
            log.clock = clock;
            log.tip = segment.tip();
            for op in segment.ops() {
                log.marks.push(op.head());
            }
        }
        Ok(())
    }

    #[inline]
    fn apply_op(&mut self, op: &Op<'_>, log: u32, mut trail: Option<&mut Trail>) {
        for (write, write_index) in op.writes().zip(0..) {
            let Some(known) = schema::lookup(write.kind, write.field) else { continue };
            let claim = if known.kind_number == schema::CLAIM { Claim::of(write.value) } else { None };
            let candidate = Candidate {
                standing: Standing {
                    fence: claim.as_ref().map_or(write.fence, |claim| Some(&claim.fence)),
                    state: claim.as_ref().map_or(0, |claim| claim.state),
                    lamport: op.lamport(),
                    digest: op.digest,
                    write_index,
                },
                field: known.field_number,
                value: write.value,
                seq: op.seq,
                wall_ms: op.wall_ms(),
                log,
                call: self.call,
            };
            let key = RowKey::new(known.kind_number, write.id);
            let effect = if known.kind_number == schema::TOMBSTONE {
                for (gone, register) in self.state.bury(write.id) {
                    note_old(trail.as_deref_mut(), gone, register, self.call);
                }
                self.state.entomb(&key, &candidate, &self.logs)
            } else {
                self.state.join(&key, &candidate, &self.logs)
            };
            match effect {
                Effect::None => {}
                Effect::Inserted => {
                    if let Some(trail) = trail.as_deref_mut() {
                        trail.note(key, known.field_number, None);
                    }
                }
                Effect::Replaced(old) => note_old(trail.as_deref_mut(), key, old, self.call),
            }
        }
    }
}

/// Notes a write that was replaced or removed, unless this call has noted its register before.
fn note_old(trail: Option<&mut Trail>, key: RowKey, old: Register, call: u32) {
    if let Some(trail) = trail.filter(|_| old.call != call) {
        trail.note(key, old.field, Some(old.value));
    }
}

/// The role of a member record that was checked before; none when it can not be read.
pub(crate) fn member_role(record: &[u8]) -> u64 {
    value::role(&mut fabrik_op::cbor::Reader::new(record)).unwrap_or(0)
}

fn row_key(kind: u8, id: &[u8]) -> Option<RowKey> {
    schema::kind_entry(kind).filter(|entry| entry.id_bytes == id.len()).map(|_| RowKey::new(kind, id))
}

fn copy_row(row: &[Register]) -> RowView {
    row.iter().map(|register| (register.field, register.value.clone())).collect()
}

fn view_head(log: &Log) -> HeadView {
    HeadView { author: log.tip.author, epoch: log.tip.epoch, seq: log.tip.seq, head: log.tip.head, clock: log.clock }
}
