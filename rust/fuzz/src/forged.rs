//! Segments whose structure is the fuzzer's, and whose hashes and signature are put right, so that it gets past them.

use std::sync::Arc;

use fabrik_op::cbor::Writer;
use fabrik_op::hash::{chain, head_message, log_start};
use fabrik_op::limits::{OP_BYTES_MAX, SEGMENT_BYTES_MAX};
use fabrik_op::{OpBody, RawSegment, Tip, op_proof, op_proof_verify};

use crate::bytes::Script;
use crate::mesh::{genesis, key};
use crate::worlds::{pen, sketch};

/// Bodies of any bytes, or near to sound ones, in a segment with a right chain and a right signature over what it says.
///
/// Whatever the decoder takes must verify, chain from its start, prove each of its ops, and be refused after any flipped bit.
pub fn forged(data: &[u8]) {
    let mut script = Script::new(data);
    let (key, mesh_id) = (key(1), genesis().mesh_id);
    let author = key.public();
    let first_seq: u64 = [1, 1, 1, 2, 1 << 32, 1 << 53][script.below(6)];
    let start = if first_seq == 1 { log_start(&mesh_id, &author, 1) } else { [9; 32] };
    let mut bodies = Vec::new();
    while !script.is_over() && bodies.len() < 12 {
        bodies.push(body(&mut script, first_seq.saturating_add(bodies.len() as u64)));
    }
    let head = bodies.iter().fold(start, |before, body| chain(&before, blake3::hash(body).as_bytes()));
    let (last, lamport) = (first_seq + (bodies.len() as u64).saturating_sub(1), bodies.last().map_or(0, |body| lamport_of(body)));
    let sig = key.sign(&head_message(&mesh_id, &author, 1, last, lamport, &head));
    let mut writer = Writer::new();
    writer.array(7).uint(1).bytes(&author).uint(1).uint(first_seq).bytes(&start).array(bodies.len());
    bodies.iter().for_each(|body| {
        writer.bytes(body);
    });
    writer.bytes(&sig);
    let bytes: Arc<[u8]> = writer.into_bytes().into();
    let Ok(decoded) = RawSegment(Arc::clone(&bytes)).decode() else { return };
    assert!(bytes.len() <= SEGMENT_BYTES_MAX && bodies.iter().all(|body| body.len() <= OP_BYTES_MAX));
    let verified = decoded.verify(&mesh_id).expect("hashes and signature are right");
    assert_eq!((verified.last_seq(), verified.heads().last()), (last, Some(&head)));
    if first_seq == 1 {
        let chained = verified.chain_onto(&Tip::start(&mesh_id, &author, 1)).expect("it begins at the start of its log");
        assert_eq!((&chained.data()[..], chained.head()), (&bytes[..], &head));
    }
    for seq in [first_seq, last] {
        let proof = op_proof(&mesh_id, Arc::clone(&bytes), seq).expect("an op of it");
        assert_eq!(op_proof_verify(&proof).expect("signed").op().seq, seq);
    }
    let mut flipped = bytes.to_vec();
    let place = script.below(flipped.len());
    flipped[place] ^= 1 << script.below(8);
    let sound = RawSegment(flipped.into()).decode().and_then(|decoded| decoded.verify(&mesh_id));
    assert!(sound.is_err(), "bit flipped in byte {place}, and taken");
}

fn body(script: &mut Script<'_>, seq: u64) -> Vec<u8> {
    let mut bytes = match script.below(4) {
        0 => script.some(64).to_vec(),
        1 => {
            let writes = (0..script.below(4)).map(|_| pen(script).write()).collect();
            OpBody { seq, lamport: u64::from(script.byte()), wall_ms: 0, kind: script.below(5) as u64, writes, follows: None }.encode()
        }
        _ => {
            let (key, mesh_id) = (crate::mesh::key(1), genesis().mesh_id);
            let tip = Tip { seq: seq.saturating_sub(1), ..Tip::start(&mesh_id, &key.public(), 1) };
            sketch(script).op(&tip, seq % (1 << 40)).encode()
        }
    };
    for _ in 0..script.below(3) {
        if !bytes.is_empty() {
            let place = script.below(bytes.len());
            match script.below(3) {
                0 => bytes[place] = script.byte(),
                1 => bytes.insert(place, script.byte()),
                _ => {
                    bytes.remove(place);
                }
            }
        }
    }
    bytes
}

/// The lamport that the body of an op says, as the decoder reads it; 0 when it is none.
fn lamport_of(body: &[u8]) -> u64 {
    let mut frame = Writer::new();
    let seq = fabrik_op::cbor::Reader::new(body.get(2..).unwrap_or_default()).uint().unwrap_or(1);
    frame.array(7).uint(1).bytes(&[1; 32]).uint(1).uint(seq).bytes(&[2; 32]).array(1).bytes(body).bytes(&[3; 64]);
    RawSegment(frame.into_bytes().into()).decode().ok().and_then(|decoded| decoded.ops().next().map(|op| op.lamport())).unwrap_or(0)
}
