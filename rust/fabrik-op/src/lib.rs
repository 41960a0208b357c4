//! What an op is: bytes, digest, chain and signature.
//!
//! Formats: `docs/spec/op.cddl`. Foreign bytes earn trust in steps, each a type of its own:
//! [`RawSegment`] -> [`DecodedSegment`] -> [`VerifiedSegment`] -> [`ChainedSegment`]. The merge accepts only the last.
//!
//! Deliberately absent: input and output, clocks, randomness, Python, async, and what ops mean (`fabrik-merge`).
#![forbid(unsafe_code)]

pub mod cbor;
mod chained;
mod coalesce;
mod ephemeral;
mod genesis;
pub mod hash;
mod key;
pub mod limits;
mod op;
mod pack;
mod proof;
mod refused;
mod segment;

pub use chained::{ChainedSegment, Tip, author_segment};
pub use coalesce::coalesce;
pub use ephemeral::{Ephemeral, sign_ephemeral, verify_ephemeral};
pub use genesis::{Genesis, GenesisTerms, encode_genesis, encode_genesis_with};
pub use hash::Digest;
pub use key::{Key, Signature, SigningKey, verify_strict};
pub use op::{Fence, Follows, Op, OpBody, Write, WriteBody, kind};
pub use pack::{Packed, cut, pack};
pub use proof::{ProvenFork, ProvenOp, fork_proof, fork_proof_verify, op_proof, op_proof_verify};
pub use refused::Refused;
pub use segment::{DecodedSegment, Misfit, RawSegment, SegmentSpan, VerifiedSegment};
