//! Proofs for people who hold nothing but an author's key: that one op is the author's, and that an author forked a log.

use std::sync::Arc;

use crate::cbor::{Malformed, Reader, Writer};
use crate::hash::{Digest, chain, head_message, log_start, short};
use crate::key::{Key, Signature, verify_strict};
use crate::limits::{EPOCH_MAX, LAMPORT_MAX, OP_BYTES_MAX, PROOF_BYTES_MAX, SEGMENT_BYTES_MAX, SEQ_MAX};
use crate::op::{self, Op, OpSpan, Writes};
use crate::refused::Refused;
use crate::segment::{RawSegment, VerifiedSegment};

/// One op whose proof holds: the author signed it, in this mesh, in this log, at this place.
#[derive(Debug)]
pub struct ProvenOp {
    pub mesh_id: Digest,
    pub author: Key,
    pub epoch: u64,
    seq: u64,
    body: Box<[u8]>,
    span: OpSpan,
    writes: Writes,
}

impl ProvenOp {
    #[must_use]
    pub fn op(&self) -> Op<'_> {
        self.span.view(self.seq, &self.writes.spans, &self.body)
    }
}

/// The proof of op `seq` of a segment. Refuses a segment that does not verify in this mesh, or does not contain the op.
pub fn op_proof(mesh_id: &Digest, segment: Arc<[u8]>, seq: u64) -> Result<Vec<u8>, Refused> {
    let verified = RawSegment(segment).decode()?.verify(mesh_id)?;
    let contents = verified.contents();
    let outside = || Refused::invalid(format!("{}: op {seq} is not among seq {}..{}", contents.name(), contents.first_seq, contents.last_seq()));
    let index = seq.checked_sub(contents.first_seq).and_then(|index| usize::try_from(index).ok()).ok_or_else(outside)?;
    let op = contents.op(index).ok_or_else(outside)?;
    let prev = verified.heads().nth(index).ok_or_else(outside)?;
    let after = contents.ops.get(index + 1..).unwrap_or_default();
    let lamport = contents.ops.last().map_or(0, |last| last.lamport);
    let mut writer = Writer::with_capacity(320 + op.body.len() + 34 * after.len());
    writer.array(9).uint(1).bytes(mesh_id).bytes(&contents.author).uint(contents.epoch).bytes(prev).bytes(op.body);
    writer.array(after.len());
    for one in after {
        writer.bytes(&one.digest);
    }
    writer.uint(lamport).bytes(&contents.sig);
    Ok(writer.into_bytes())
}

/// What an op proof says before its signature is checked.
struct OpClaim<'a> {
    mesh_id: Digest,
    author: Key,
    epoch: u64,
    prev: Digest,
    body: &'a [u8],
    after: Vec<Digest>,
    lamport: u64,
    sig: Signature,
}

/// Decodes a proof of one op and checks it. Refuses all but the canonical bytes of a proof that holds.
pub fn op_proof_verify(proof: &[u8]) -> Result<ProvenOp, Refused> {
    let malformed = |malformed: Malformed| Refused::invalid(format!("op proof: {malformed}"));
    small_enough("op proof", proof)?;
    let claim = read_op_claim(proof).map_err(malformed)?;
    if claim.body.len() > OP_BYTES_MAX {
        return Err(Refused::invalid(format!("op proof: an op of {} bytes is larger than {OP_BYTES_MAX}", claim.body.len())));
    }
    let mut writes = Writes::with_capacity(1);
    let (seq, mut span) = op::decode(claim.body, 0, &mut writes).map_err(|broken| Refused::invalid(format!("op proof: its op: {broken}")))?;
    let last_seq = seq + claim.after.len() as u64;
    if last_seq > SEQ_MAX {
        return Err(Refused::invalid("op proof: the signed head has a seq above 2^53"));
    }
    if claim.after.is_empty() && claim.lamport != span.lamport {
        return Err(Refused::invalid("op proof: the signed head is the op itself, but has another lamport"));
    }
    span.head = chain(&claim.prev, &span.digest);
    let head = claim.after.iter().fold(span.head, |before, digest| chain(&before, digest));
    let message = head_message(&claim.mesh_id, &claim.author, claim.epoch, last_seq, claim.lamport, &head);
    verify_strict(&claim.author, &message, &claim.sig).map_err(|refused| refused.at(&format!("op proof: head at seq {last_seq}")))?;
    if seq == 1 && claim.prev != log_start(&claim.mesh_id, &claim.author, claim.epoch) {
        return Err(Refused::invalid("op proof: prev at seq 1 is not the start of this log in this mesh"));
    }
    Ok(ProvenOp { mesh_id: claim.mesh_id, author: claim.author, epoch: claim.epoch, seq, body: claim.body.into(), span, writes })
}

fn read_op_claim(proof: &[u8]) -> Result<OpClaim<'_>, Malformed> {
    let mut reader = Reader::new(proof);
    reader.array_of(9, "expected [version, mesh_id, author, epoch, prev, op, after, lamport, sig]")?;
    reader.uint_in(1..=1, "an unknown version")?;
    let mesh_id = reader.bytes_of("the mesh id must be 32 bytes")?;
    let author = reader.bytes_of("the author must be 32 bytes")?;
    let epoch = reader.uint_in(1..=EPOCH_MAX, "epoch must be 1..2^53-1")?;
    let prev = reader.bytes_of("prev must be 32 bytes")?;
    let body = reader.bytes()?;
    let count = reader.array()?;
    let mut after = Vec::with_capacity(count.min(proof.len() / 34));
    for _ in 0..count {
        after.push(reader.bytes_of("a digest must be 32 bytes")?);
    }
    let lamport = reader.uint_in(1..=LAMPORT_MAX, "lamport must be 1..2^53")?;
    let sig = reader.bytes_of("the signature must be 64 bytes")?;
    reader.end()?;
    Ok(OpClaim { mesh_id, author, epoch, prev, body, after, lamport, sig })
}

/// What a fork proof that holds says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenFork {
    pub mesh_id: Digest,
    pub author: Key,
    pub epoch: u64,
    /// The lowest place that both segments contain and at which their chain hashes differ.
    pub seq: u64,
}

/// The proof that these two segments are of one log with two histories, the same in either order. Refuses what proves nothing.
pub fn fork_proof(mesh_id: &Digest, one: &[u8], other: &[u8]) -> Result<Vec<u8>, Refused> {
    let (lower, higher) = if one <= other { (one, other) } else { (other, one) };
    let mut writer = Writer::with_capacity(64 + lower.len() + higher.len());
    writer.array(4).uint(1).bytes(mesh_id).bytes(lower).bytes(higher);
    let proof = writer.into_bytes();
    fork_proof_verify(&proof)?;
    Ok(proof)
}

/// Decodes a proof of a fork and checks it. Refuses all but the canonical bytes of a proof that holds.
pub fn fork_proof_verify(proof: &[u8]) -> Result<ProvenFork, Refused> {
    small_enough("fork proof", proof)?;
    let (mesh_id, one, other) = read_fork(proof).map_err(|malformed| Refused::invalid(format!("fork proof: {malformed}")))?;
    if one > other {
        return Err(Refused::invalid("fork proof: its segments are not in order of their bytes"));
    }
    let one = verified(&mesh_id, one)?;
    let other = verified(&mesh_id, other)?;
    if (one.author(), one.epoch()) != (other.author(), other.epoch()) {
        return Err(Refused::invalid("fork proof: its segments are of two logs"));
    }
    let log = format!("{}.. epoch {}", short(one.author()), one.epoch());
    let first = one.first_seq().max(other.first_seq());
    let mut shared = heads_from(&one, first).zip(heads_from(&other, first)).zip(first..).peekable();
    if shared.peek().is_none() {
        return Err(Refused::invalid(format!("fork proof: its segments of {log} have no place in common")));
    }
    let differs = shared.find(|((one, other), _)| one != other);
    let Some((_, seq)) = differs else {
        return Err(Refused::invalid(format!("fork proof: its segments of {log} are of one history")));
    };
    Ok(ProvenFork { mesh_id, author: *one.author(), epoch: one.epoch(), seq })
}

fn read_fork(proof: &[u8]) -> Result<(Digest, &[u8], &[u8]), Malformed> {
    let mut reader = Reader::new(proof);
    reader.array_of(4, "expected [version, mesh_id, segment, segment]")?;
    reader.uint_in(1..=1, "an unknown version")?;
    let mesh_id = reader.bytes_of("the mesh id must be 32 bytes")?;
    let (one, other) = (reader.bytes()?, reader.bytes()?);
    reader.end()?;
    Ok((mesh_id, one, other))
}

fn verified(mesh_id: &Digest, segment: &[u8]) -> Result<VerifiedSegment, Refused> {
    RawSegment(segment.into()).decode().and_then(|decoded| decoded.verify(mesh_id)).map_err(|refused| refused.at("fork proof"))
}

/// The chain hashes of a segment's ops from `seq` on, which is not before its first.
fn heads_from(segment: &VerifiedSegment, seq: u64) -> impl Iterator<Item = &Digest> {
    let skip = usize::try_from(seq - segment.first_seq()).unwrap_or(usize::MAX);
    segment.heads().skip(1).skip(skip)
}

fn small_enough(what: &str, proof: &[u8]) -> Result<(), Refused> {
    if proof.len() > PROOF_BYTES_MAX {
        return Err(Refused::invalid(format!("{what}: {} bytes are more than {PROOF_BYTES_MAX}", proof.len())));
    }
    Ok(())
}

// The largest proofs that can be made fit: two whole segments; one op and the digests of all the small ones after it.
const _: () = assert!(PROOF_BYTES_MAX >= 2 * SEGMENT_BYTES_MAX + 64 && PROOF_BYTES_MAX >= OP_BYTES_MAX + 320 + 34 * (SEGMENT_BYTES_MAX / 12));
