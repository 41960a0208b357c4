//! From raw bytes to chained, and what is refused on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A panic is a failed test.

use std::sync::Arc;

use fabrik_op::hash::{chain, head_message, log_start};
use fabrik_op::limits::{EPOCH_MAX, LAMPORT_MAX, OP_BYTES_MAX, SEGMENT_BYTES_MAX};
use fabrik_op::{
    ChainedSegment, Digest, Follows, Misfit, OpBody, RawSegment, Refused, SegmentSpan, SigningKey, Tip, VerifiedSegment, WriteBody, author_segment, coalesce,
    verify_strict,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const MESH: Digest = [1; 32];

fn key() -> SigningKey {
    SigningKey::from_seed(&[9; 32])
}

fn start(epoch: u64) -> Tip {
    Tip::start(&MESH, &key().public(), epoch)
}

fn body(seq: u64, value: Vec<u8>) -> OpBody {
    let write = WriteBody { kind: 1, id: vec![5; 16], field: 1, value, fence: None };
    OpBody { seq, lamport: seq, wall_ms: 0, kind: 1, writes: vec![write], follows: None }
}

/// A log of single ops with texts of `length` bytes.
fn log(ops: u64, length: usize) -> Vec<ChainedSegment> {
    let mut tip = start(1);
    let text = fabrik_op::cbor::Writer::new().text(&"x".repeat(length)).as_bytes().to_vec();
    (1..=ops)
        .map(|seq| {
            let segment = author_segment(&key(), &tip, &body(seq, text.clone())).unwrap();
            tip = segment.tip();
            segment
        })
        .collect()
}

fn join(log: &[ChainedSegment]) -> Arc<[u8]> {
    let parts: Vec<_> = log.iter().map(|segment| Arc::clone(segment.data())).collect();
    coalesce(&parts, SEGMENT_BYTES_MAX).unwrap().remove(0)
}

fn verify(data: &Arc<[u8]>) -> Result<VerifiedSegment, Refused> {
    RawSegment(Arc::clone(data)).decode()?.verify(&MESH)
}

fn reason(data: Vec<u8>) -> String {
    RawSegment(data.into()).decode().unwrap_err().to_string()
}

/// A segment of these bodies, signed as a head whatever they are.
fn signed(first_seq: u64, prev: Digest, bodies: &[Vec<u8>], last_lamport: u64) -> Vec<u8> {
    let author = key().public();
    let head = bodies.iter().fold(prev, |head, body| chain(&head, &fabrik_op::hash::blake3(body)));
    let sig = key().sign(&head_message(&MESH, &author, 1, first_seq + bodies.len() as u64 - 1, last_lamport, &head));
    let mut writer = fabrik_op::cbor::Writer::new();
    writer.array(7).uint(1).bytes(&author).uint(1).uint(first_seq).bytes(&prev).array(bodies.len());
    for body in bodies {
        writer.bytes(body);
    }
    writer.bytes(&sig);
    writer.into_bytes()
}

#[test]
fn a_joined_log_verifies_and_chains() {
    let log = log(5, 10);
    let data = join(&log);
    let verified = verify(&data).unwrap();
    assert_eq!((verified.first_seq(), verified.last_seq(), verified.len()), (1, 5, 5));
    let span = SegmentSpan::read(&data).unwrap();
    assert_eq!((span.author, span.epoch, span.first_seq, span.last_seq), (key().public(), 1, 1, 5));
    let whole = verified.chain_onto(&start(1)).unwrap();
    assert_eq!((whole.data(), whole.head(), whole.prev()), (&data, log[4].head(), &start(1).head));
    assert_eq!(whole.ops().map(|op| (op.seq, *op.head())).collect::<Vec<_>>(), log.iter().map(|one| (one.last_seq(), *one.head())).collect::<Vec<_>>());
}

#[test]
fn a_cut_segment_is_what_its_author_would_have_sent() {
    let log = log(6, 10);
    let verified = verify(&join(&log)).unwrap();
    for held in 1..6 {
        let cut = verified.chain_onto(&log[held - 1].tip()).unwrap();
        assert_eq!(cut.data(), &join(&log[held..]));
        assert_eq!((cut.first_seq(), cut.len(), cut.prev()), (held as u64 + 1, 6 - held, log[held - 1].head()));
        assert_eq!(verify(cut.data()).unwrap().chain_onto(&log[held - 1].tip()).unwrap().head(), log[5].head());
    }
}

#[test]
fn misfits_are_told_apart() {
    let log = log(4, 10);
    let tail = verify(&join(&log[2..])).unwrap();
    assert_eq!(tail.chain_onto(&log[0].tip()).unwrap_err(), Misfit::Gap);
    assert_eq!(tail.chain_onto(&log[3].tip()).unwrap_err(), Misfit::Held);
    assert_eq!(tail.chain_onto(&Tip { head: [0; 32], ..log[1].tip() }).unwrap_err(), Misfit::Fork);
    assert_eq!(tail.chain_onto(&Tip { epoch: 2, ..log[1].tip() }).unwrap_err(), Misfit::OtherLog);
    assert_eq!(tail.chain_onto(&Tip { mesh_id: [2; 32], ..log[1].tip() }).unwrap_err(), Misfit::OtherLog);
}

#[test]
fn no_other_mesh_author_or_epoch_takes_it() {
    let data = log(1, 10)[0].data().to_vec();
    let raw = |data: Vec<u8>| RawSegment(data.into()).decode().unwrap();
    assert!(matches!(raw(data.clone()).verify(&[2; 32]), Err(Refused::Signature(_))));
    let mut other_epoch = data.clone();
    assert_eq!(other_epoch[36], 1);
    other_epoch[36] = 2;
    assert!(matches!(raw(other_epoch).verify(&MESH), Err(Refused::Signature(_))));
    let mut other_author = data;
    other_author[4..36].copy_from_slice(&SigningKey::from_seed(&[8; 32]).public());
    assert!(matches!(raw(other_author).verify(&MESH), Err(Refused::Signature(_))));
}

#[test]
fn a_log_starts_at_its_own_h_0() {
    let data = signed(1, [0; 32], &[body(1, vec![0xf6]).encode()], 1);
    assert_eq!(
        verify(&data.into()).unwrap_err(),
        Refused::invalid(format!("segment of {}.. epoch 1: prev at seq 1 is not the start of this log in this mesh", fabrik_op::hash::short(&key().public())))
    );
}

#[test]
fn no_two_logs_start_alike() {
    let author = key().public();
    let starts = [log_start(&MESH, &author, 1), log_start(&[2; 32], &author, 1), log_start(&MESH, &[3; 32], 1), log_start(&MESH, &author, 2)];
    for (place, one) in starts.iter().enumerate() {
        assert!(!starts[..place].contains(one));
    }
}

#[test]
fn reasons_name_the_place() {
    let author = fabrik_op::hash::short(&key().public());
    let prev = log_start(&MESH, &key().public(), 1);
    let of = |bodies: &[Vec<u8>]| reason(signed(1, prev, bodies, 1));
    assert_eq!(of(&[body(1, vec![0xf6]).encode(), body(3, vec![0xf6]).encode()]), format!("segment of {author}.. epoch 1: op 1 has seq 3, expected 2"));
    assert_eq!(of(&[vec![0xa0]]), format!("segment of {author}.. epoch 1: op 0: byte 1: the end came too early"));
    assert_eq!(of(&[vec![0x80]]), format!("segment of {author}.. epoch 1: op 0: byte 0: expected a map"));
    assert_eq!(of(&[body(1, vec![0xf9, 0, 0]).encode()]), format!("segment of {author}.. epoch 1: op 0: byte 31: a float"));
    assert_eq!(of(&[]), "segment: byte 72: a segment without ops");
    let large = body(1, fabrik_op::cbor::Writer::new().bytes(&vec![0; OP_BYTES_MAX]).as_bytes().to_vec()).encode();
    assert!(of(&[large]).ends_with("bytes are more than 65536"));
    assert_eq!(reason(vec![0; SEGMENT_BYTES_MAX + 1]), "segment: 262145 bytes are more than 262144");
}

#[test]
fn ranges_of_an_op() {
    let tip = start(1);
    let sign = |change: fn(&mut OpBody)| {
        let mut op = body(1, vec![0xf6]);
        change(&mut op);
        author_segment(&key(), &tip, &op).map(|_| ()).map_err(|refused| refused.to_string())
    };
    assert_eq!(sign(|op| op.lamport = LAMPORT_MAX), Ok(()));
    assert!(sign(|op| op.lamport = LAMPORT_MAX + 1).unwrap_err().ends_with("lamport must be 1..2^53"));
    assert!(sign(|op| op.lamport = 0).unwrap_err().ends_with("lamport must be 1..2^53"));
    assert!(sign(|op| op.wall_ms = LAMPORT_MAX + 1).unwrap_err().ends_with("wall-ms must be 0..2^53"));
    assert!(sign(|op| op.seq = 2).unwrap_err().ends_with("op 0 has seq 2, expected 1"));
    assert!(sign(|op| op.writes[0].id = Vec::new()).unwrap_err().ends_with("an id must be 1 to 64 bytes"));
    assert!(sign(|op| op.writes[0].id = vec![0; 65]).unwrap_err().ends_with("an id must be 1 to 64 bytes"));
    assert_eq!(sign(|op| op.writes[0].id = vec![0; 64]), Ok(()));
    assert_eq!(sign(|op| op.kind = u64::MAX), Ok(()));
    assert_eq!(sign(|op| op.writes = Vec::new()), Ok(()));
    assert!(sign(|op| op.follows = Some(Follows { epoch: EPOCH_MAX + 1, seq: 1, head: [0; 32] })).unwrap_err().ends_with("epoch must be 1..2^53-1"));
    assert!(author_segment(&SigningKey::from_seed(&[1; 32]), &tip, &body(1, vec![0xf6])).is_err());
}

#[test]
fn an_ops_own_levels_count() {
    let nested = |levels: usize| [vec![0x81; levels - 1], vec![0x80]].concat();
    assert!(author_segment(&key(), &start(1), &body(1, nested(13))).is_ok());
    let refused = author_segment(&key(), &start(1), &body(1, nested(14))).unwrap_err().to_string();
    assert!(refused.ends_with("nested deeper than 16"), "{refused}");
}

#[test]
fn unknown_fields_are_kept_and_lower_ones_refused() {
    let prev = log_start(&MESH, &key().public(), 1);
    let with = |extra: &[u8], pairs: u8| {
        let mut op = body(1, vec![0xf6]).encode();
        op[0] = 0xa0 + 5 + pairs;
        op.extend_from_slice(extra);
        RawSegment(signed(1, prev, &[op.clone()], 1).into()).decode().map(|decoded| assert_eq!(decoded.ops().next().unwrap().body, op))
    };
    assert!(with(&[7, 0x80], 1).is_ok());
    assert!(with(&[0x18, 99, 0xa1, 1, 2], 1).is_ok());
    assert!(with(&[0x61, b'x', 0], 1).is_err());
    assert!(with(&[0, 0], 1).is_err());
    assert!(with(&[8, 0, 7, 0], 2).is_err());
    assert!(with(&[7, 0, 7, 0], 2).is_err());
    assert!(with(&[], 1).is_err());
}

#[test]
fn coalesce_packs_and_never_mixes() {
    let log = log(40, 50);
    let singles: Vec<_> = log.iter().map(|segment| Arc::clone(segment.data())).collect();
    let packed = coalesce(&singles, 1_000).unwrap();
    assert!(packed.len() < 10 && packed.iter().all(|data| data.len() <= 1_000));
    let mut tip = start(1);
    for data in &packed {
        tip = verify(data).unwrap().chain_onto(&tip).unwrap().tip();
    }
    assert_eq!(tip, log[39].tip());
    for limit in 400..800 {
        let packed = coalesce(&singles, limit).unwrap();
        assert!(packed.iter().all(|data| data.len() <= limit));
        let (first, next) = (packed[0].len(), singles[0].len());
        assert!(first + next > limit, "as full as they may be");
    }
    assert_eq!(coalesce(&singles, 1).unwrap(), singles);
    assert!(coalesce(&[Arc::clone(&singles[0]), Arc::clone(&singles[2])], 1_000).is_err());
    let other = author_segment(&key(), &start(2), &body(1, vec![0xf6])).unwrap();
    assert_eq!(coalesce(&[Arc::clone(&singles[0]), Arc::clone(other.data())], 1_000).unwrap().len(), 2);
    assert!(coalesce(&[], 1_000).unwrap().is_empty());
}

#[test]
fn keys_that_are_not_canonical_points_are_refused() {
    let mut high = [0xff; 32];
    (high[0], high[31]) = (0xf0, 0x7f);
    for key in [[0; 32], high, [0xff; 32]] {
        assert!(verify_strict(&key, b"message", &[0; 64]).is_err());
    }
    let refused = verify_strict(&high, b"message", &[0; 64]).unwrap_err().to_string();
    assert_eq!(refused, "signature of f0ffffff..: the key is not canonical");
    let signature = key().sign(b"message");
    assert_eq!(verify_strict(&key().public(), b"message", &signature), Ok(()));
    assert!(verify_strict(&key().public(), b"massage", &signature).is_err());
    assert!(!format!("{:?}", key()).contains("09"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))), ..ProptestConfig::default() })]

    #[test]
    fn damage_is_refused(ops in 1..4_u64, place in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut data = join(&log(ops, 5)).to_vec();
        let place = place.index(data.len());
        data[place] ^= 1_u8 << bit;
        prop_assert!(verify(&data.into()).is_err());
    }

    #[test]
    fn noise_is_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(SegmentSpan::read(&data).is_err());
        prop_assert!(verify(&data.into()).is_err());
    }
}
