//! Decoders on any bytes: they refuse or accept, never panic, and what they accept is the one encoding of what it says.

use std::sync::Arc;

use fabrik_op::cbor::{Head, Malformed, Reader, Writer};
use fabrik_op::{Genesis, RawSegment, SegmentSpan, op_proof, op_proof_verify, verify_ephemeral};
use fabrik_op::{cut, fork_proof, fork_proof_verify, pack};

use crate::mesh::genesis;

/// Whatever decodes as a value, encodes to the same bytes by a second, plain encoder.
pub fn value(data: &[u8]) {
    let mut reader = Reader::new(data);
    if reader.item(0).and_then(|_| reader.end()).is_ok() {
        assert_eq!(again(data), data, "accepted, but not the one encoding");
    }
}

/// Writes an accepted item a second time.
fn again(data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    copy(&mut Reader::new(data), &mut writer).expect("it was accepted before");
    writer.into_bytes()
}

fn copy(reader: &mut Reader<'_>, writer: &mut Writer) -> Result<(), Malformed> {
    let start = reader.at();
    match reader.head()? {
        Head::Null => writer.null(),
        Head::Bool(flag) => writer.bool(flag),
        Head::Uint(number) => writer.uint(number),
        Head::Negative(number) => writer.int(number),
        Head::Bytes(length) => writer.bytes(reader.take(length)),
        Head::Text(length) => writer.text(reader.utf8(start, length)?),
        Head::Array(count) => {
            writer.array(count);
            return (0..count).try_for_each(|_| copy(reader, writer));
        }
        Head::Map(count) => {
            let mut pairs = Vec::new();
            for _ in 0..count {
                let (mut key, mut held) = (Writer::new(), Writer::new());
                copy(reader, &mut key)?;
                copy(reader, &mut held)?;
                pairs.push((key.into_bytes(), held.into_bytes()));
            }
            assert!(writer.sorted_map(pairs), "a duplicate key was accepted");
            writer
        }
    };
    Ok(())
}

/// Any bytes as the body of the first op of a segment: the decoder takes them only in canonical form, and then shows what they say.
pub fn op(data: &[u8]) {
    let mut frame = Writer::new();
    frame.array(7).uint(1).bytes(&[1; 32]).uint(1).uint(1).bytes(&[2; 32]).array(1).bytes(data).bytes(&[3; 64]);
    let Ok(decoded) = RawSegment(frame.into_bytes().into()).decode() else { return };
    assert_eq!(again(data), data, "accepted, but not the one encoding");
    let ops: Vec<_> = decoded.ops().collect();
    let [op] = &ops[..] else { panic!("one op in, {} out", ops.len()) };
    assert_eq!((op.seq, *op.digest), (1, *blake3::hash(data).as_bytes()));
    assert!((1..=1 << 53).contains(&op.lamport()));
    assert_eq!(op.writes().map(|write| write.value.len()).filter(|&bytes| bytes == 0).count(), 0, "a write without a value");
}

/// Any bytes as a segment: decoded, measured, cut, packed and verified without a panic; nobody forges a signature by chance.
pub fn segment(data: &[u8]) {
    let raw: Arc<[u8]> = data.into();
    let span = SegmentSpan::read(data);
    match RawSegment(Arc::clone(&raw)).decode() {
        Err(_) => assert!(fork_proof(&genesis().mesh_id, data, data).is_err()),
        Ok(decoded) => {
            let span = span.expect("a whole segment has a span");
            assert_eq!((span.first_seq, span.last_seq - span.first_seq + 1), (decoded.first_seq(), decoded.ops().count() as u64));
            assert_eq!(again(data), data, "accepted, but not the one encoding");
            for seq in [span.first_seq, span.last_seq] {
                let tail = cut(&raw, seq).expect("a seq of it");
                let cut = RawSegment(tail).decode().expect("a part of a segment is one");
                assert_eq!((cut.first_seq(), cut.ops().count() as u64), (seq, span.last_seq - seq + 1));
                assert!(op_proof_verify(&op_proof(&genesis().mesh_id, Arc::clone(&raw), seq).expect("a seq of it")).is_err(), "a forged op was proven");
            }
            assert!(pack(&[raw], 262_144).is_ok());
            assert!(decoded.verify(&genesis().mesh_id).is_err(), "a signature was forged");
        }
    }
}

/// Genesis records and ephemeral messages.
pub fn records(data: &[u8]) {
    if Genesis::decode(data).is_ok() {
        assert_eq!(again(data), data, "accepted, but not the one encoding");
    }
    assert!(verify_ephemeral(&genesis().mesh_id, data).is_err(), "a signature was forged");
}

/// Proofs of ops and forks.
pub fn proofs(data: &[u8]) {
    assert!(op_proof_verify(data).is_err(), "a signature was forged");
    assert!(fork_proof_verify(data).is_err(), "a signature was forged");
}
