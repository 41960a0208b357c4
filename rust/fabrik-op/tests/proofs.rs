//! Proofs of an op and of a fork, packing and cutting.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use std::sync::Arc;

use fabrik_op::cbor::Writer;
use fabrik_op::hash::{blake3, chain, head_message, log_start};
use fabrik_op::limits::{PROOF_BYTES_MAX, SEGMENT_BYTES_MAX, SEQ_MAX};
use fabrik_op::{
    ChainedSegment, Digest, OpBody, RawSegment, Refused, SigningKey, Tip, WriteBody, author_segment, coalesce, cut, fork_proof, fork_proof_verify, op_proof,
    op_proof_verify, pack,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const MESH: Digest = [1; 32];

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// Adds an op with this many bytes of text.
fn next(seed: u8, tip: &Tip, text: usize) -> ChainedSegment {
    let value = Writer::new().text(&"x".repeat(text)).as_bytes().to_vec();
    let write = WriteBody { kind: 1, id: vec![5; 16], field: 1, value, fence: None };
    let op = OpBody { seq: tip.seq + 1, lamport: (tip.seq + 1) * 3, wall_ms: 7, kind: 1, writes: vec![write], follows: None };
    author_segment(&key(seed), tip, &op).unwrap()
}

/// Segments of one op each behind `tip`, with these many bytes of text.
fn log(seed: u8, mut tip: Tip, texts: &[usize]) -> Vec<ChainedSegment> {
    texts
        .iter()
        .map(|&text| {
            let segment = next(seed, &tip, text);
            tip = segment.tip();
            segment
        })
        .collect()
}

fn start(seed: u8, epoch: u64) -> Tip {
    Tip::start(&MESH, &key(seed).public(), epoch)
}

fn singles(log: &[ChainedSegment]) -> Vec<Arc<[u8]>> {
    log.iter().map(|segment| Arc::clone(segment.data())).collect()
}

fn join(log: &[ChainedSegment]) -> Arc<[u8]> {
    coalesce(&singles(log), SEGMENT_BYTES_MAX).unwrap().remove(0)
}

/// A proof as its fields, to be written with something changed.
#[derive(Clone)]
struct Parts {
    mesh: Vec<u8>,
    author: Vec<u8>,
    epoch: u64,
    prev: Vec<u8>,
    op: Vec<u8>,
    after: Vec<Vec<u8>>,
    lamport: u64,
    sig: Vec<u8>,
}

impl Parts {
    fn of(log: &[ChainedSegment], index: usize) -> Self {
        let ops: Vec<_> = log.iter().flat_map(ChainedSegment::ops).collect();
        let last = log.last().unwrap();
        let head = head_message(&MESH, last.author(), last.epoch(), last.last_seq(), ops.last().unwrap().lamport(), last.head());
        Self {
            mesh: MESH.to_vec(),
            author: last.author().to_vec(),
            epoch: last.epoch(),
            prev: log[index].prev().to_vec(),
            op: ops[index].body.to_vec(),
            after: ops[index + 1..].iter().map(|op| op.digest.to_vec()).collect(),
            lamport: ops.last().unwrap().lamport(),
            sig: key(9).sign(&head).to_vec(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(9).uint(1).bytes(&self.mesh).bytes(&self.author).uint(self.epoch).bytes(&self.prev).bytes(&self.op).array(self.after.len());
        for digest in &self.after {
            writer.bytes(digest);
        }
        writer.uint(self.lamport).bytes(&self.sig);
        writer.into_bytes()
    }

    fn refused(&self) -> Refused {
        op_proof_verify(&self.bytes()).unwrap_err()
    }
}

#[test]
fn a_proof_is_what_the_format_says() {
    let log = log(9, start(9, 3), &[4, 5, 6]);
    for index in 0..3 {
        let proof = op_proof(&MESH, join(&log), index as u64 + 1).unwrap();
        assert_eq!(proof, Parts::of(&log, index).bytes());
        let proven = op_proof_verify(&proof).unwrap();
        assert_eq!((proven.mesh_id, proven.author, proven.epoch), (MESH, key(9).public(), 3));
        let (op, written) = (proven.op(), log[index].ops().next().unwrap());
        assert_eq!((op.seq, op.digest, op.head(), op.body), (written.seq, written.digest, written.head(), written.body));
        assert_eq!((op.lamport(), op.wall_ms(), op.kind()), (written.lamport(), 7, 1));
        assert_eq!(op.writes().collect::<Vec<_>>(), written.writes().collect::<Vec<_>>());
    }
}

#[test]
fn no_proof_of_what_is_not_in_the_segment() {
    let log = log(9, start(9, 1), &[1, 2, 3]);
    let tail = join(&log[1..]);
    for seq in [0, 1, 4, u64::MAX] {
        assert!(op_proof(&MESH, Arc::clone(&tail), seq).unwrap_err().to_string().ends_with(&format!("op {seq} is not among seq 2..3")));
    }
    assert!(matches!(op_proof(&[2; 32], Arc::clone(&tail), 2), Err(Refused::Signature(_))));
    assert!(matches!(op_proof(&MESH, tail[1..].into(), 2), Err(Refused::Invalid(_))));
}

#[test]
fn an_op_is_proven_for_one_mesh_author_epoch_and_place_only() {
    let parts = Parts::of(&log(9, start(9, 3), &[4, 5, 6]), 1);
    let refused = |change: fn(&mut Parts)| {
        let mut other = parts.clone();
        change(&mut other);
        other.refused()
    };
    let changes: [fn(&mut Parts); 9] = [
        |parts| parts.mesh = vec![2; 32],
        |parts| parts.author = key(8).public().to_vec(),
        |parts| parts.epoch += 1,
        |parts| parts.prev[0] ^= 1,
        |parts| parts.after.clear(),
        |parts| parts.after.push(vec![0; 32]),
        |parts| parts.after[0][31] ^= 128,
        |parts| parts.lamport += 1,
        |parts| parts.sig[63] ^= 128,
    ];
    for change in changes {
        let refused = refused(change);
        assert!(matches!(refused, Refused::Signature(_)) || refused.to_string().contains("another lamport"), "{refused}");
    }
    assert!(matches!(refused(|parts| parts.sig.truncate(63)), Refused::Invalid(_)));
    assert!(matches!(refused(|parts| parts.lamport = 0), Refused::Invalid(_)));
    assert!(matches!(refused(|parts| parts.after[0].push(0)), Refused::Invalid(_)));
    assert!(refused(|parts| parts.op = vec![0; 65_537]).to_string().ends_with("an op of 65537 bytes is larger than 65536"));
    assert!(refused(|parts| parts.op = vec![0xa0]).to_string().contains("its op: byte"));
}

#[test]
fn the_signer_of_a_false_head_proves_nothing() {
    let body = |seq: u64| OpBody { seq, lamport: 5, wall_ms: 0, kind: 1, writes: Vec::new(), follows: None }.encode();
    let signed = |prev: Digest, seq: u64, last: u64, signed_lamport: u64| {
        let op = body(seq);
        let after = usize::try_from(last - seq).unwrap();
        let head = (0..after).fold(chain(&prev, &blake3(&op)), |head, _| chain(&head, &[7; 32]));
        let author = key(9).public();
        let sig = key(9).sign(&head_message(&MESH, &author, 1, last, signed_lamport, &head)).to_vec();
        let (mesh, author) = (MESH.to_vec(), author.to_vec());
        Parts { mesh, author, epoch: 1, prev: prev.to_vec(), op, after: vec![vec![7; 32]; after], lamport: signed_lamport, sig }
    };
    assert!(op_proof_verify(&signed([3; 32], 2, 4, 5).bytes()).is_ok());
    assert_eq!(signed([3; 32], 2, 2, 6).refused(), Refused::invalid("op proof: the signed head is the op itself, but has another lamport"));
    assert_eq!(signed([3; 32], 1, 2, 5).refused(), Refused::invalid("op proof: prev at seq 1 is not the start of this log in this mesh"));
    assert!(op_proof_verify(&signed(log_start(&MESH, &key(9).public(), 1), 1, 2, 5).bytes()).is_ok());
    assert!(op_proof_verify(&signed([3; 32], SEQ_MAX, SEQ_MAX, 5).bytes()).is_ok());
    assert_eq!(signed([3; 32], SEQ_MAX, SEQ_MAX + 1, 5).refused(), Refused::invalid("op proof: the signed head has a seq above 2^53"));
}

#[test]
fn the_largest_proofs_fit() {
    let smallest = |seq: u64| OpBody { seq, lamport: 1, wall_ms: 0, kind: 1, writes: Vec::new(), follows: None }.encode();
    let prev = log_start(&MESH, &key(9).public(), 1);
    let mut ops = Vec::new();
    let mut bytes = 200;
    while bytes < SEGMENT_BYTES_MAX - 20 {
        let op = smallest(ops.len() as u64 + 1);
        bytes += op.len() + 1;
        ops.push(op);
    }
    let head = ops.iter().fold(prev, |head, op| chain(&head, &blake3(op)));
    let mut writer = Writer::new();
    writer.array(7).uint(1).bytes(&key(9).public()).uint(1).uint(1).bytes(&prev).array(ops.len());
    for op in &ops {
        writer.bytes(op);
    }
    writer.bytes(&key(9).sign(&head_message(&MESH, &key(9).public(), 1, ops.len() as u64, 1, &head)));
    let proof = op_proof(&MESH, writer.as_bytes().into(), 1).unwrap();
    assert_eq!(op_proof_verify(&proof).unwrap().op().body, ops[0]);
    let large = [60_000; 4];
    let (one, other) = (log(9, start(9, 1), &large), log(9, start(9, 1), &[60_001, 60_000, 60_000, 60_000]));
    let proof = fork_proof(&MESH, &join(&one), &join(&other)).unwrap();
    assert!(proof.len() > 480_000);
    assert!(op_proof_verify(&vec![0; PROOF_BYTES_MAX + 1]).unwrap_err().to_string().ends_with("bytes are more than 1048576"));
    assert!(fork_proof_verify(&vec![0; PROOF_BYTES_MAX + 1]).unwrap_err().to_string().ends_with("bytes are more than 1048576"));
}

#[test]
fn a_fork_is_proven_by_what_the_author_signed() {
    let trunk = log(9, start(9, 2), &[1, 2]);
    let (one, other) = (log(9, trunk[1].tip(), &[3, 4]), log(9, trunk[1].tip(), &[5, 6, 7]));
    let all = [&trunk[..], &one].concat();
    let proof = fork_proof(&MESH, &join(&all), &join(&other)).unwrap();
    let proven = fork_proof_verify(&proof).unwrap();
    assert_eq!((proven.mesh_id, proven.author, proven.epoch, proven.seq), (MESH, key(9).public(), 2, 3));
    assert_eq!(fork_proof(&MESH, &join(&other), &join(&all)).unwrap(), proof);
    assert_eq!(fork_proof_verify(&fork_proof(&MESH, &join(&one[1..]), &join(&other)).unwrap()).unwrap().seq, 4);
    let mut swapped = Writer::new();
    let (higher, lower) = if join(&all) > join(&other) { (join(&all), join(&other)) } else { (join(&other), join(&all)) };
    swapped.array(4).uint(1).bytes(&MESH).bytes(&higher).bytes(&lower);
    assert_eq!(fork_proof_verify(swapped.as_bytes()).unwrap_err(), Refused::invalid("fork proof: its segments are not in order of their bytes"));
}

#[test]
fn no_fork_proof_from_two_logs_or_places_or_meshes() {
    let refused = |one: &[ChainedSegment], other: &[ChainedSegment]| fork_proof(&MESH, &join(one), &join(other)).unwrap_err().to_string();
    let (one, other) = (log(9, start(9, 1), &[1, 2, 3]), log(9, start(9, 1), &[4, 5, 6]));
    assert!(refused(&one, &log(8, start(8, 1), &[4])).ends_with("its segments are of two logs"));
    assert!(refused(&one, &log(9, start(9, 2), &[4])).ends_with("its segments are of two logs"));
    assert!(refused(&one[..1], &other[1..]).ends_with("have no place in common"));
    assert!(refused(&one, &one[1..2]).ends_with("are of one history"));
    assert!(matches!(fork_proof(&[2; 32], &join(&one), &join(&other)), Err(Refused::Signature(_))));
    let mut forged = join(&other).to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(matches!(fork_proof(&MESH, &join(&one), &forged), Err(Refused::Signature(_))));
}

#[test]
fn packing_keeps_what_joining_drops() {
    let log = log(9, start(9, 1), &[50; 30]);
    let packed = pack(&singles(&log), 1_500).unwrap();
    assert_eq!(packed.iter().map(|one| Arc::clone(&one.data)).collect::<Vec<_>>(), coalesce(&singles(&log), 1_500).unwrap());
    let mut seq = 0;
    for one in &packed {
        let verified = RawSegment(Arc::clone(&one.data)).decode().unwrap().verify(&MESH).unwrap();
        assert!(one.sigs.len() + 1 == verified.len() && verified.len() > 2);
        for (at, sig) in &one.sigs {
            seq += 1;
            assert_eq!(*at, seq);
            assert!(log[usize::try_from(seq).unwrap() - 1].data().ends_with(sig));
        }
        seq += 1;
    }
    assert_eq!(seq, 30);
    let whole = pack(&[join(&log)], 10).unwrap();
    assert_eq!((&whole[0].data, whole[0].sigs.len(), whole.len()), (&join(&log), 0, 1));
    assert!(pack(&[Arc::clone(log[0].data()), Arc::clone(log[2].data())], 1_000).is_err());
}

#[test]
fn a_cut_leaves_what_the_author_would_have_sent() {
    let log = log(9, start(9, 1), &[5, 6, 7, 8]);
    let tail = join(&log[1..]);
    for seq in 0..=2 {
        assert_eq!(cut(&tail, seq).unwrap(), tail);
    }
    assert_eq!(cut(&tail, 3).unwrap(), join(&log[2..]));
    assert_eq!(cut(&tail, 4).unwrap(), join(&log[3..]));
    for seq in [5, u64::MAX] {
        assert!(cut(&tail, seq).unwrap_err().to_string().ends_with(&format!("nothing is left of seq 2..4 from seq {seq} on")));
    }
    assert!(cut(&tail[1..].into(), 3).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    #[test]
    fn promise_j4_every_op_is_proven_and_damage_refused(
        texts in prop::collection::vec(0..80_usize, 1..7), from in any::<prop::sample::Index>(), epoch in 1..1_u64 << 53,
        place in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let log = log(9, start(9, epoch), &texts);
        let segment = join(&log[from.index(log.len())..]);
        for seq in from.index(log.len()) as u64 + 1..=log.len() as u64 {
            let mut proof = op_proof(&MESH, Arc::clone(&segment), seq).unwrap();
            let proven = op_proof_verify(&proof).unwrap();
            prop_assert_eq!((proven.author, proven.epoch, proven.op().seq), (key(9).public(), epoch, seq));
            prop_assert_eq!(proven.op().body, log[usize::try_from(seq).unwrap() - 1].ops().next().unwrap().body);
            let at = place.index(proof.len());
            proof[at] ^= 1_u8 << bit;
            prop_assert!(op_proof_verify(&proof).is_err());
            proof[at] ^= 1_u8 << bit;
            proof.push(0);
            prop_assert!(op_proof_verify(&proof).is_err());
        }
    }

    #[test]
    fn forks_are_proven_and_histories_are_not(
        trunk in prop::collection::vec(0..20_usize, 0..4), one in prop::collection::vec(0..20_usize, 1..4), other in prop::collection::vec(20..40_usize, 1..4),
        skip in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let stem = log(9, start(9, 1), &trunk);
        let tip = stem.last().map_or_else(|| start(9, 1), ChainedSegment::tip);
        let (one, other) = ([&stem[..], &log(9, tip.clone(), &one)].concat(), [&stem[..], &log(9, tip, &other)].concat());
        let one_part = &one[skip.index(stem.len() + 1)..];
        let mut proof = fork_proof(&MESH, &join(one_part), &join(&other)).unwrap();
        prop_assert_eq!(fork_proof_verify(&proof).unwrap().seq, stem.len() as u64 + 1);
        let at = place.index(proof.len());
        proof[at] ^= 1_u8 << bit;
        prop_assert!(fork_proof_verify(&proof).is_err());
        for end in 1..=one.len() {
            prop_assert!(fork_proof(&MESH, &join(&one[..end]), &join(&one[..=place.index(one.len())])).is_err());
        }
    }

    #[test]
    fn noise_proves_nothing(data in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(op_proof_verify(&data).is_err());
        prop_assert!(fork_proof_verify(&data).is_err());
    }
}
