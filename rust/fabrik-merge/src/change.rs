//! What one merge call changed, net.

use fabrik_op::{Digest, Key};

use crate::log::Logs;
use crate::schema;
use crate::state::{RowKey, State};

/// The net effect of one merge call on one register. `old` and `new` are CBOR; none where there was or is no register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    key: RowKey,
    pub field: u8,
    pub old: Option<Box<[u8]>>,
    pub new: Option<Box<[u8]>>,
    /// Of the winning write; of the tombstone for a register that it removed.
    pub author: Key,
    pub wall_ms: u64,
    pub digest: Digest,
}

impl Change {
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.key.kind()
    }

    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.key.id()
    }
}

/// Each register that a merge call touched, once, with its value before the call.
#[derive(Debug, Default)]
pub struct Trail(Vec<Step>);

/// The first touch of register `(key, field)`; `old` is its value before.
#[derive(Debug)]
struct Step {
    key: RowKey,
    field: u8,
    old: Option<Box<[u8]>>,
}

impl Trail {
    pub fn note(&mut self, key: RowKey, field: u8, old: Option<Box<[u8]>>) {
        self.0.push(Step { key, field, old });
    }

    /// The changes in order of first touch. A register that came and went within the call is none.
    #[must_use]
    pub fn settle(self, state: &State, logs: &Logs) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.0.len());
        for Step { key, field, old } in self.0 {
            let held = state.get(&key, field);
            if held.is_none() && old.is_none() {
                continue;
            }
            let Some(cause) = held.or_else(|| state.get(&RowKey::new(schema::TOMBSTONE, key.id()), 1)) else { continue };
            let Some(log) = logs.at(cause.log) else { continue };
            changes.push(Change {
                key,
                field,
                old,
                new: held.map(|register| register.value.clone()),
                author: log.tip.author,
                wall_ms: cause.wall_ms,
                digest: cause.digest,
            });
        }
        changes
    }
}
