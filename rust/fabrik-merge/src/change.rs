//! What one merge call changed, net.

use fabrik_op::{Digest, Key};

use crate::log::Logs;
use crate::schema;
use crate::state::{Register, RowKey, State};

/// The net effect of one merge call on one register. `old` and `new` are CBOR; none where there was or is no register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    key: RowKey,
    pub field: u8,
    pub old: Option<Box<[u8]>>,
    pub new: Option<Box<[u8]>>,
    /// Of the winning write; of the tombstone for a register that it removed; of the old write for one that a suspension took away.
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

    /// The changes from one set of registers to another, in order of bucket and key. Another write of the same value is one, too.
    #[must_use]
    pub fn between(before: (&State, &Logs), after: (&State, &Logs)) -> Vec<Self> {
        let mut changes = Vec::new();
        for (key, register) in before.0.all() {
            let new = after.0.get(key, register.field);
            let same = new.is_some_and(|new| new.digest == register.digest && new.write_index == register.write_index);
            let tombstone = after.0.get(&RowKey::new(schema::TOMBSTONE, key.id()), 1);
            let (cause, logs) = match new.or_else(|| tombstone.filter(|_| matches!(key.kind(), schema::ITEM | schema::CLAIM))) {
                Some(cause) => (cause, after.1),
                None => (register, before.1),
            };
            if !same {
                changes.extend(Self::of(key, register.field, Some(register), new, (cause, logs)));
            }
        }
        for (key, register) in after.0.all().filter(|(key, register)| before.0.get(key, register.field).is_none()) {
            changes.extend(Self::of(key, register.field, None, Some(register), (register, after.1)));
        }
        changes
    }

    fn of(key: &RowKey, field: u8, old: Option<&Register>, new: Option<&Register>, (cause, logs): (&Register, &Logs)) -> Option<Self> {
        let value = |register: &Register| register.value.clone();
        let author = logs.at(cause.log)?.author;
        Some(Self { key: *key, field, old: old.map(value), new: new.map(value), author, wall_ms: cause.wall_ms, digest: cause.digest })
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
                author: log.author,
                wall_ms: cause.wall_ms,
                digest: cause.digest,
            });
        }
        changes
    }
}
