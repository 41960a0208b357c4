//! Strict deterministic CBOR (RFC 8949 section 4.2.1): the subset of `op.cddl` and nothing else.
//!
//! Own code, because the general libraries accept what must be refused here (longer integers, unsorted or duplicate keys,
//! indefinite lengths, floats, tags), and because reading borrows: no value is copied to be checked.

mod reader;
mod writer;

pub use reader::{Head, Malformed, Reader};
pub use writer::Writer;
