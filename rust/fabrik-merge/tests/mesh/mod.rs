//! A small mesh for tests: keys, logs, and values of every type.
#![allow(dead_code)] // Each test file uses its part.

pub mod sketch;
pub mod small;
pub mod tree;

use std::sync::{Arc, OnceLock};

use fabrik_merge::{LoadOutcome, Replica, Rotation, Spot};
use fabrik_op::cbor::Writer;
use fabrik_op::hash::{next_key, step_id};
use fabrik_op::{
    ChainedSegment, Fence, Follows, Genesis, GenesisTerms, Key, OpBody, RawSegment, SigningKey, Tip, VerifiedSegment, WriteBody, author_segment,
    encode_genesis_with,
};
use proptest::test_runner::{Config as ProptestConfig, FileFailurePersistence};

/// So many cases; failing inputs are kept beside the test, to be committed.
pub fn proptest_config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() }
}

/// The key with this number; 0 is the genesis admin.
pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number + 1; 32])
}

/// Number of the recovery key, and of the genesis admin's next key.
pub const RECOVERY: u8 = 90;
pub const NEXT: u8 = 91;

pub fn genesis() -> Genesis {
    static RECORD: OnceLock<Genesis> = OnceLock::new();
    let record = || {
        let (recovery, next) = (key(RECOVERY).public(), next_key(&key(NEXT).public()));
        let terms = GenesisTerms { name: "test", nonce: &[7; 16], created_ms: 1, recovery: Some(&recovery), next: Some(&next) };
        Genesis::decode(&encode_genesis_with(&key(0).public(), &terms).unwrap()).unwrap()
    };
    RECORD.get_or_init(record).clone()
}

/// One author's log under construction.
#[derive(Debug, Clone)]
pub struct Log {
    pub key: SigningKey,
    pub tip: Tip,
    pub lamport: u64,
    pub segments: Vec<ChainedSegment>,
}

impl Log {
    pub fn new(number: u8, epoch: u64) -> Self {
        let key = key(number);
        let tip = Tip::start(&genesis().mesh_id, &key.public(), epoch);
        Self { key, tip, lamport: 0, segments: Vec::new() }
    }

    pub fn public(&self) -> Key {
        self.key.public()
    }

    /// Adds a plain op one lamport step up.
    pub fn write(&mut self, writes: Vec<WriteBody>) -> &mut Self {
        let lamport = self.lamport + 1;
        self.op(lamport, 0, 1, writes, None)
    }

    /// Adds any op, void or not.
    pub fn op(&mut self, lamport: u64, wall_ms: u64, kind: u64, writes: Vec<WriteBody>, follows: Option<Follows>) -> &mut Self {
        let body = OpBody { seq: self.tip.seq + 1, lamport, wall_ms, kind, writes, follows };
        let segment = author_segment(&self.key, &self.tip, &body).unwrap();
        self.tip = segment.tip();
        self.lamport = lamport;
        self.segments.push(segment);
        self
    }

    /// The ops from `first` to `last` (places from 0, `last` not included) as one segment's bytes.
    pub fn cut(&self, first: usize, last: usize) -> Arc<[u8]> {
        let parts: Vec<_> = self.segments[first..last].iter().map(|segment| Arc::clone(segment.data())).collect();
        let mut joined = fabrik_op::coalesce(&parts, usize::MAX).unwrap();
        assert_eq!(joined.len(), 1);
        joined.remove(0)
    }

    pub fn whole(&self) -> Arc<[u8]> {
        self.cut(0, self.segments.len())
    }
}

pub fn verify(data: &Arc<[u8]>) -> VerifiedSegment {
    Replica::verify(&genesis().mesh_id, RawSegment(Arc::clone(data))).unwrap()
}

/// Loads stored segments.
pub fn load(replica: &mut Replica, segments: &[Arc<[u8]>]) -> LoadOutcome {
    replica.load(segments.iter().map(|data| Replica::verify(&genesis().mesh_id, RawSegment(Arc::clone(data)))).collect(), &[]).unwrap()
}

/// Delivers one batch as a node does; everything must fit.
pub fn deliver(replica: &mut Replica, batch: &[Arc<[u8]>]) -> Vec<fabrik_merge::Change> {
    let verified: Vec<_> = batch.iter().map(verify).collect();
    let outcome = replica.chain(&verified, true).unwrap();
    assert!(outcome.gaps.is_empty());
    replica.merge(&outcome.chained).unwrap().iter().collect()
}

pub fn cbor(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_bytes()
}

pub fn write(kind: u64, id: &[u8], field: u64, value: Vec<u8>) -> WriteBody {
    WriteBody { kind, id: id.to_vec(), field, value, fence: None }
}

pub fn fenced(mut write: WriteBody, receipt: u64, epoch: u64, claim: u8) -> WriteBody {
    write.fence = Some(Fence { receipt, epoch, claim_id: [claim; 16] });
    write
}

pub fn title(id: &[u8], text: &str) -> WriteBody {
    write(1, id, 1, cbor(|w| w.text(text)))
}

pub fn stage(id: &[u8], number: u64) -> WriteBody {
    write(1, id, 3, cbor(|w| w.array(1).uint(number)))
}

pub fn claim(id: &[u8], node: &Key, claim: u8, receipt: u64, epoch: u64, state: u64) -> WriteBody {
    let value = cbor(|w| {
        w.map(8).uint(1).bytes(&[claim; 16]).uint(2).uint(epoch).uint(3).uint(receipt).uint(4).uint(state);
        w.uint(5).bytes(node).uint(6).text("agent").uint(7).uint(90_000).uint(8).text("boot")
    });
    write(2, id, 1, value)
}

pub fn member(who: &Key, role: u64) -> WriteBody {
    write(3, who, 1, cbor(|w| w.map(1).uint(1).uint(role)))
}

/// A member record that binds but for what is within these places: none at all for an empty list.
pub fn binding(who: &Key, role: u64, places: &[Spot], next: Option<u8>) -> WriteBody {
    let nowhere = Spot { epoch: 1, seq: 1, head: [0; 32] };
    let (from, more) = places.split_first().unwrap_or((&nowhere, &[]));
    let value = cbor(|w| {
        w.map(2 + usize::from(!more.is_empty()) + usize::from(next.is_some())).uint(1).uint(role);
        w.uint(3).array(3).uint(from.epoch).uint(from.seq).bytes(&from.head);
        if !more.is_empty() {
            w.uint(4).array(more.len());
            for spot in more {
                w.array(3).uint(spot.epoch).uint(spot.seq).bytes(&spot.head);
            }
        }
        if let Some(next) = next {
            w.uint(5).bytes(&next_key(&key(next).public()));
        }
        w
    });
    write(3, who, 1, value)
}

/// A rotation of the author to the key with this number, by the op that comes after `tip`.
pub fn rotation(tip: &Tip, new: u8, next: Option<u8>, keeps: &[Spot]) -> WriteBody {
    let next = next.map(|next| next_key(&key(next).public()));
    let value = Rotation::sign(&tip.mesh_id, &tip.author, (tip.epoch, tip.seq + 1, &tip.head), &key(new), next.as_ref(), keeps);
    write(7, &tip.author, 1, value)
}

pub fn node_name(who: &Key, name: &str) -> WriteBody {
    write(4, who, 1, cbor(|w| w.text(name)))
}

pub fn tombstone(id: &[u8], why: &str) -> WriteBody {
    write(5, id, 1, cbor(|w| w.map(1).text("why").text(why)))
}

pub fn step(item: &[u8; 16], name: &str, state: u64) -> WriteBody {
    let value = cbor(|w| {
        w.map(8).uint(1).bytes(item).uint(2).text(name).uint(3).uint(state).uint(4).bytes(&[1; 32]);
        w.uint(5).uint(1).uint(6).bytes(&[2; 16]).uint(7).bytes(&[3; 16]).uint(10).uint(9)
    });
    write(8, &step_id(item, name), 1, value)
}

pub fn question(id: &[u8], text: &str) -> WriteBody {
    let value = cbor(|w| {
        w.map(6).uint(1).bytes(&[1; 16]).uint(2).bytes(&[2; 16]).uint(3).bytes(&[3; 16]);
        w.uint(4).text(text).uint(5).array(1).text("yes").uint(8).uint(9)
    });
    write(9, id, 1, value)
}

pub fn answer(id: &[u8], text: &str) -> WriteBody {
    write(9, id, 2, cbor(|w| w.map(3).uint(1).text(text).uint(2).uint(9).uint(4).text("person")))
}

pub fn run(id: &[u8], node: &Key, state: u64) -> WriteBody {
    write(6, id, 1, cbor(|w| w.map(2).text("node").bytes(node).text("state").uint(state)))
}

/// Member records for these keys, in the admin's log.
pub fn admitting(numbers: &[u8]) -> Log {
    let mut admin = Log::new(0, 1);
    admin.op(1, 0, 2, Vec::new(), None);
    admin.write(numbers.iter().map(|&number| member(&key(number).public(), 2)).collect());
    admin
}
