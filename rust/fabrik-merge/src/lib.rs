//! What ops mean together: registers, claims, tombstones, members, digests.
//!
//! Rules: `docs/spec/merge.md`. Everything is a pure function of the set of chained ops and the genesis record.
//! [`naive`] says the same a second time, in the most obvious way, for the tests to compare with.
//!
//! Deliberately absent: input and output, clocks, randomness, Python, and which stage may follow which (the product's rules).
#![forbid(unsafe_code)]

mod adopt;
mod apply;
mod audit;
mod authority;
mod branch;
mod chaining;
mod change;
mod claim;
mod digest;
mod draft;
mod exchange;
mod growth;
mod history;
mod log;
mod moment;
pub mod naive;
mod naive_authority;
mod names;
mod order;
mod parts;
mod powers;
mod reading;
mod record;
mod replica;
mod restore;
mod row_key;
pub mod schema;
mod sheet;
mod snapshot;
mod state;
mod validity;
mod value;
mod verifying;

pub use audit::{Audit, EntryDigest};
pub use branch::{Base, Mark};
pub use chaining::{ChainOutcome, Fork, Gap};
pub use change::{Change, Changes};
pub use digest::{CROWDED_SEQ, SUSPENDED_SEQ};
pub use draft::Draft;
pub use growth::Chained;
pub use history::{Touch, history};
pub use moment::{Below, HeldBucket, Moment, Tally};
pub use reading::{HeadView, MemberView, RegisterView, RowView};
pub use record::{Record, Rotation, Spot};
pub use replica::{LoadOutcome, Replica};
pub use snapshot::{Begun, seal};
pub use validity::Void;
pub use verifying::verify_each;
