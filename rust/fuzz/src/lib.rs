//! What is fuzzed: each target takes any bytes, and panics when a promise of the core breaks.
//!
//! One list for both ways of running them: `cargo fuzz run NAME` with coverage, and the driver `drive` on any toolchain.
#![forbid(unsafe_code)]

mod bytes;
mod forged;
mod formats;
#[path = "../../fabrik-merge/tests/mesh/mod.rs"]
mod mesh;
mod worlds;

pub use forged::forged;
pub use formats::{op, proofs, records, segment, value};
pub use worlds::{chain, snapshot};

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by name.
pub const TARGETS: &[Target] = &[
    ("value", value),
    ("op", op),
    ("segment", segment),
    ("forged", forged),
    ("records", records),
    ("proofs", proofs),
    ("chain", chain),
    ("snapshot", snapshot),
];
