//! The obvious version of the merge, to compare the real one with.
//!
//! Keeps every op under its chain hash, and on each question judges all of them again along their paths, leaves out the logs with too many
//! leaves, collects all writes with effect, sorts them, and takes the first. Knows nothing of branches, bases, marks, buckets, caches, arrival or what
//! changed. What a well-formed op is, it shares with the real one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use fabrik_op::cbor::Writer;
use fabrik_op::hash::{claim_rank, log_start};
use fabrik_op::limits::{HEADS_MAX, LAMPORT_STEP_MAX};
use fabrik_op::{ChainedSegment, Digest, Fence, Genesis, Key, Write, kind};

use crate::claim::Claim;
use crate::naive_authority::{NaiveAuthority, OpId, Sheet};
use crate::record::{Record, Rotation};
use crate::schema::{self, class};
use crate::validity::{Standpoint, judge, permits, target};

/// A set of chained ops.
#[derive(Debug)]
pub struct Naive {
    genesis: Genesis,
    /// By log, seq and chain hash.
    ops: BTreeMap<(Key, u64, u64, Digest), Held>,
}

/// An op: the chain hash before it, and a segment that carries it.
#[derive(Debug)]
struct Held {
    before: Digest,
    segment: ChainedSegment,
}

/// `(kind, id, field)`.
pub type Place = (u64, Vec<u8>, u64);

/// What a set of ops means.
#[derive(Debug, Default)]
pub struct Meaning {
    pub registers: BTreeMap<Place, Touch>,
    /// All writes with effect, also to what is deleted.
    pub effects: BTreeMap<Place, Vec<Touch>>,
    pub lamport: u64,
    pub voided: u64,
    /// The clock of each head: `(author, epoch, seq, h)`. Also of suspended logs.
    pub clocks: BTreeMap<(Key, u64, u64, Digest), u64>,
    pub suspended: BTreeSet<(Key, u64)>,
    /// The role now of every key that an op is of or a record is about, and whether it is named.
    pub roles: BTreeMap<Key, (u8, bool)>,
}

/// One write with effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    pub value: Vec<u8>,
    pub fence: Option<Fence>,
    pub state: u8,
    pub lamport: u64,
    pub digest: Digest,
    pub index: usize,
    pub author: Key,
    pub epoch: u64,
    pub seq: u64,
    pub wall_ms: u64,
}

type Fenced = (u64, u64, Option<Reverse<Digest>>);

impl Touch {
    fn height(&self, id: &[u8]) -> Fenced {
        self.fence.map_or((0, 0, None), |fence| (fence.receipt, fence.epoch, Some(Reverse(claim_rank(id, &fence.claim_id)))))
    }

    fn age(&self) -> (u64, Digest, usize, Key, u64) {
        (self.lamport, self.digest, self.index, self.author, self.epoch)
    }
}

impl Naive {
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self { genesis, ops: BTreeMap::new() }
    }

    /// Adds the ops of a segment; those that are there already change nothing.
    pub fn add(&mut self, segment: &ChainedSegment) {
        let mut before = *segment.prev();
        for op in segment.ops() {
            let name = (*segment.author(), segment.epoch(), op.seq, *op.head());
            self.ops.entry(name).or_insert_with(|| Held { before, segment: segment.clone() });
            before = *op.head();
        }
    }

    /// The ops behind which there is none: `(author, epoch, seq, h)`, in order.
    #[must_use]
    pub fn leaves(&self) -> Vec<(Key, u64, u64, Digest)> {
        let inner: BTreeSet<Digest> = self.ops.values().map(|held| held.before).collect();
        self.ops.keys().filter(|(.., head)| !inner.contains(head)).copied().collect()
    }

    /// The logs with more leaves than a log may have; those of keys that name others, or that one of these revoked, may have any number.
    #[must_use]
    pub fn suspended(&self) -> BTreeSet<(Key, u64)> {
        let (clocks, parents) = (self.clocks(), BTreeMap::new());
        let sheets = self.sheets(&BTreeSet::new(), &clocks);
        let spared = NaiveAuthority::new(&self.genesis, &parents, &sheets).spared;
        let mut counts: BTreeMap<(Key, u64), usize> = BTreeMap::new();
        self.leaves().iter().for_each(|&(author, epoch, ..)| *counts.entry((author, epoch)).or_default() += 1);
        counts.into_iter().filter(|&((author, _), count)| count > HEADS_MAX && !spared.contains(&author)).map(|(log, _)| log).collect()
    }

    /// The clock of the path to each op, and whether the op keeps rule 1.
    fn clocks(&self) -> BTreeMap<Digest, (u64, bool)> {
        let mut clocks: BTreeMap<Digest, (u64, bool)> = BTreeMap::new();
        for (&(author, epoch, seq, head), held) in &self.ops {
            let Some(op) = held.segment.ops().find(|op| op.seq == seq) else { continue };
            let at_start = held.before == log_start(&self.genesis.mesh_id, &author, epoch);
            let before = if at_start { Some(0) } else { clocks.get(&held.before).map(|(clock, _)| *clock) };
            let Some(clock) = before else { continue };
            let keeps = op.lamport() > clock && op.lamport() <= clock + LAMPORT_STEP_MAX;
            clocks.insert(head, (if keeps { op.lamport() } else { clock }, keeps));
        }
        clocks
    }

    /// The sound ops that write member records or rotations.
    fn sheets(&self, suspended: &BTreeSet<(Key, u64)>, clocks: &BTreeMap<Digest, (u64, bool)>) -> Vec<Sheet> {
        let mut sheets = Vec::new();
        for (&(author, epoch, seq, head), held) in &self.ops {
            let Some(op) = held.segment.ops().find(|op| op.seq == seq) else { continue };
            let standpoint = Standpoint { admin: &self.genesis.admin, author: &author };
            if !clocks.get(&head).is_some_and(|(_, keeps)| *keeps) || !matches!(judge(&standpoint, &op), Ok(Some(_))) {
                continue;
            }
            let (mut records, mut rotations, mut records_only) = (Vec::new(), Vec::new(), true);
            for (index, write, known) in op.writes().enumerate().filter_map(|(index, write)| Some((index, write, target(&standpoint, &write)?))) {
                match u8::try_from(write.kind) {
                    Ok(schema::MEMBER) => {
                        let record = Key::try_from(write.id).ok().zip(Record::of(write.value));
                        records.extend(record.map(|(subject, record)| (index, subject, record)));
                    }
                    Ok(schema::ROTATION) => {
                        let rotation = Rotation::of(write.value).filter(|_| op.writes().len() == 1 && op.kind() == kind::WRITE);
                        rotations.extend(rotation.filter(|rotation| rotation.is_signed(&self.genesis.mesh_id, &author, epoch, seq, &held.before)));
                    }
                    _ => records_only &= known.field.later,
                }
            }
            if !records.is_empty() || !rotations.is_empty() {
                let suspended = suspended.contains(&(author, epoch));
                let (lamport, digest) = (op.lamport(), *op.digest);
                sheets.push(Sheet { id: (author, epoch, seq, head), lamport, digest, records, records_only, rotations, suspended });
            }
        }
        sheets
    }

    /// The op before each; none for the first of a log.
    fn parents(&self) -> BTreeMap<OpId, Option<OpId>> {
        let parent = |(author, epoch, seq, _): &OpId, before| (*seq > 1).then_some((*author, *epoch, *seq - 1, before));
        self.ops.iter().map(|(id, held)| (*id, parent(id, held.before))).collect()
    }

    /// Judges and sorts everything.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        let mut meaning = Meaning { suspended: self.suspended(), ..Meaning::default() };
        let mut touches: BTreeMap<Place, Vec<Touch>> = BTreeMap::new();
        let (clocks, parents) = (self.clocks(), self.parents());
        let sheets = self.sheets(&meaning.suspended, &clocks);
        let authority = NaiveAuthority::new(&self.genesis, &parents, &sheets);
        for (id, held) in &self.ops {
            let &(author, epoch, seq, head) = id;
            let Some(op) = held.segment.ops().find(|op| op.seq == seq) else { continue };
            if meaning.suspended.contains(&(author, epoch)) {
                continue;
            }
            if !clocks.get(&head).is_some_and(|(_, keeps)| *keeps) {
                meaning.voided += 1;
                continue;
            }
            meaning.lamport = meaning.lamport.max(op.lamport());
            let standpoint = Standpoint { admin: &self.genesis.admin, author: &author };
            let Ok(classes) = judge(&standpoint, &op) else {
                meaning.voided += 1;
                continue;
            };
            let Some(classes) = classes else { continue };
            let may = if classes & class::MEMBER == 0 { classes & !authority.allowed(id) == 0 } else { authority.effective.contains(id) };
            if !may {
                meaning.voided += 1;
                continue;
            }
            let allowed = (classes & class::MEMBER == 0).then(|| authority.allowed(id));
            let has_effect = |write: &Write<'_>| target(&standpoint, write).is_some_and(|known| permits(&known, allowed));
            for (index, write) in op.writes().enumerate().filter(|(_, write)| has_effect(write)) {
                let claim = Some(write.value).filter(|_| write.kind == u64::from(schema::CLAIM)).and_then(Claim::of);
                touches.entry((write.kind, write.id.to_vec(), write.field)).or_default().push(Touch {
                    value: write.value.to_vec(),
                    fence: claim.map_or(write.fence.copied(), |claim| Some(claim.fence)),
                    state: claim.map_or(0, |claim| claim.state),
                    lamport: op.lamport(),
                    digest: *op.digest,
                    index,
                    author,
                    epoch,
                    seq,
                    wall_ms: op.wall_ms(),
                });
            }
        }
        let keys: BTreeSet<Key> = self.ops.keys().map(|id| id.0).chain(authority.named.iter().copied()).collect();
        meaning.roles = keys.into_iter().map(|key| (key, (authority.role(&key), authority.named.contains(&key)))).collect();
        meaning.clocks = self.leaves().into_iter().filter_map(|leaf| Some((leaf, clocks.get(&leaf.3)?.0))).collect();
        let kind = |place: &Place, kind: u8| place.0 == u64::from(kind);
        let deleted: BTreeSet<Vec<u8>> = touches.keys().filter(|place| kind(place, schema::TOMBSTONE)).map(|place| place.1.clone()).collect();
        meaning.effects = touches.clone();
        for (place, mut found) in touches {
            if (kind(&place, schema::ITEM) || kind(&place, schema::CLAIM)) && deleted.contains(&place.1) {
                continue;
            }
            if kind(&place, schema::TOMBSTONE) {
                found.sort_by_key(Touch::age);
            } else {
                found.sort_by_key(|touch| Reverse((touch.height(&place.1), touch.state, touch.age())));
            }
            if let Some(winner) = found.into_iter().next() {
                meaning.registers.insert(place, winner);
            }
        }
        meaning
    }

    /// The frontier digest of `merge.md`.
    #[must_use]
    pub fn frontier_digest(&self) -> Digest {
        let suspended = self.suspended();
        let mut heads = self.leaves();
        heads.retain(|(author, epoch, ..)| !suspended.contains(&(*author, *epoch)));
        heads.extend(suspended.into_iter().map(|(author, epoch)| (author, epoch, 1 << 53, [0; 32])));
        heads.sort_unstable();
        let mut rows = Vec::new();
        for (author, epoch, seq, head) in heads {
            rows.extend_from_slice(&author);
            rows.extend_from_slice(&epoch.to_be_bytes());
            rows.extend_from_slice(&seq.to_be_bytes());
            rows.extend_from_slice(&head);
        }
        blake3::derive_key("fabrik 2026 v1 frontier", &rows)
    }
}

impl Meaning {
    /// The state digest of `merge.md`.
    #[must_use]
    pub fn state_digest(&self) -> Digest {
        let mut whole = (self.registers.len() as u64).to_be_bytes().to_vec();
        for bucket in 0..=u8::MAX {
            let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for ((kind, id, field), touch) in self.registers.iter().filter(|(place, _)| place.1.last() == Some(&bucket)) {
                let mut key = Writer::new();
                key.array(3).uint(*kind).bytes(id).uint(*field);
                let mut entry = Writer::new();
                entry.array(6);
                match touch.fence {
                    Some(fence) => entry.uint(fence.receipt).uint(fence.epoch).bytes(&claim_rank(id, &fence.claim_id)),
                    None => entry.uint(0).uint(0).bytes(&[]),
                };
                entry.uint(touch.lamport).bytes(&touch.digest).raw(&touch.value);
                entries.push((key.into_bytes(), entry.into_bytes()));
            }
            entries.sort();
            let joined: Vec<u8> = entries.into_iter().flat_map(|(key, entry)| [key, entry].concat()).collect();
            whole.extend_from_slice(&blake3::derive_key("fabrik 2026 v1 state bucket", &joined));
        }
        blake3::derive_key("fabrik 2026 v1 state", &whole)
    }
}
