//! What ops mean together: registers, claims, tombstones, members, digests.
//!
//! Rules: `docs/spec/merge.md`. Everything is a pure function of the set of chained ops and the genesis record.
//! [`naive`] says the same a second time, in the most obvious way, for the tests to compare with.
//!
//! Deliberately absent: input and output, clocks, randomness, Python, and which stage may follow which (the product's rules).
#![forbid(unsafe_code)]

mod chaining;
mod change;
mod claim;
mod digest;
mod draft;
mod history;
mod log;
pub mod naive;
mod order;
mod replica;
pub mod schema;
mod state;
mod validity;
mod value;

pub use chaining::{ChainOutcome, Fork, Gap};
pub use change::Change;
pub use draft::Draft;
pub use history::{Touch, history};
pub use replica::{HeadView, RegisterView, Replica, RowView};
pub use validity::Void;
