//! What one merge call changed, net.
//!
//! A bulk merge changes a register per write, and mostly nobody looks at them one by one. So a call only notes where each winning write stands in its
//! segments, and a [`Change`] is made when it is asked for.

use std::collections::BTreeSet;

use fabrik_op::{Digest, Fence, Key, Op, Write};

use crate::growth::Chained;
use crate::log::Logs;
use crate::row_key::RowKey;
use crate::schema;
use crate::state::{Register, State};

/// The net effect of one merge call on one register. `old` and `new` are CBOR; none where there was or is no register.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    key: RowKey,
    pub field: u8,
    pub old: Option<Box<[u8]>>,
    pub new: Option<Box<[u8]>>,
    /// Of the write before; none without one.
    pub old_fence: Option<Fence>,
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
            let writer = |logs: &Logs, log| logs.at(log).map(|log| (log.author, log.epoch));
            let same = new.is_some_and(|new| {
                (new.digest, new.write_index) == (register.digest, register.write_index) && writer(before.1, register.log) == writer(after.1, new.log)
            });
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
        let old_fence = old.and_then(|register| register.fence.as_deref().copied());
        Some(Self { key: *key, field, old: old.map(value), new: new.map(value), old_fence, author, wall_ms: cause.wall_ms, digest: cause.digest })
    }
}

/// The changes of one call, each register once, in order of its first touch. Holds the segments that they came in.
#[derive(Debug)]
pub struct Changes(Source);

#[derive(Debug)]
enum Source {
    Merged { segments: Vec<Chained>, steps: Vec<Step> },
    Listed(Vec<Change>),
}

impl From<Vec<Change>> for Changes {
    fn from(list: Vec<Change>) -> Self {
        Self(Source::Listed(list))
    }
}

impl Changes {
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Merged { steps, .. } => steps.len(),
            Source::Listed(list) => list.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The register kinds that changed.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<u8> {
        (0..self.len()).filter_map(|index| self.register(index)).map(|(kind, _)| kind).collect()
    }

    /// The latest wall time of a change; none without changes.
    #[must_use]
    pub fn newest_ms(&self) -> Option<u64> {
        match &self.0 {
            Source::Merged { segments, steps } => steps.iter().filter_map(|step| step.cause.find(segments)).map(|(_, op, _)| op.wall_ms()).max(),
            Source::Listed(list) => list.iter().map(|change| change.wall_ms).max(),
        }
    }

    /// Kind and field of the register that the change is of.
    #[must_use]
    pub fn register(&self, index: usize) -> Option<(u8, u8)> {
        match &self.0 {
            Source::Merged { steps, .. } => steps.get(index).map(|step| (step.kind, step.field)),
            Source::Listed(list) => list.get(index).map(|change| (change.kind(), change.field)),
        }
    }

    #[must_use]
    pub fn get(&self, index: usize) -> Option<Change> {
        match &self.0 {
            Source::Merged { segments, steps } => steps.get(index)?.show(segments),
            Source::Listed(list) => list.get(index).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Change> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Where a write stands among the segments of a merge call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    pub segment: u32,
    pub op: u32,
    pub write: u32,
}

impl Place {
    fn find(self, segments: &[Chained]) -> Option<(&Chained, Op<'_>, Write<'_>)> {
        let segment = segments.get(usize::try_from(self.segment).ok()?)?;
        let op = segment.op(usize::try_from(self.op).ok()?)?;
        let write = op.writes().nth(usize::try_from(self.write).ok()?)?;
        Some((segment, op, write))
    }
}

/// One register that a merge call touched. It has the id of the write that is its cause.
#[derive(Debug)]
struct Step {
    old: Option<Box<[u8]>>,
    old_fence: Option<Box<Fence>>,
    /// The winning write; the tombstone when it was removed.
    cause: Place,
    kind: u8,
    field: u8,
    removed: bool,
}

impl Step {
    fn show(&self, segments: &[Chained]) -> Option<Change> {
        let (segment, op, write) = self.cause.find(segments)?;
        Some(Change {
            key: RowKey::new(self.kind, write.id),
            field: self.field,
            old: self.old.clone(),
            new: (!self.removed).then(|| write.value.into()),
            old_fence: self.old_fence.as_deref().copied(),
            author: *segment.author(),
            wall_ms: op.wall_ms(),
            digest: *op.digest,
        })
    }
}

/// Each register that a merge call touched, once, with its value before the call and the write that decided.
///
/// A register knows its step by the number of its touch. Touches are numbered through all calls, so an older number is of an older call.
#[derive(Debug)]
pub struct Trail {
    first: u32,
    steps: Vec<Step>,
    /// The place of the write that is applied now.
    pub at: Place,
}

impl Trail {
    /// A trail whose first touch has the number `first`.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Self { first, steps: Vec::new(), at: Place::default() }
    }

    /// The numbers of this call's first touch and of the next one.
    #[must_use]
    #[inline]
    pub fn touches(&self) -> (u32, u32) {
        (self.first, self.first.saturating_add(u32::try_from(self.steps.len()).unwrap_or(u32::MAX)))
    }

    /// The write of now is the first one of its register.
    #[inline]
    pub fn inserted(&mut self, kind: u8, field: u8) {
        self.steps.push(Step { old: None, old_fence: None, cause: self.at, kind, field, removed: false });
    }

    /// The write of now replaced `old`.
    #[inline]
    pub fn replaced(&mut self, kind: u8, old: Register) {
        self.touch(kind, old, false);
    }

    /// The tombstone of now removed `old`.
    pub fn removed(&mut self, kind: u8, old: Register) {
        self.touch(kind, old, true);
    }

    #[inline]
    fn touch(&mut self, kind: u8, old: Register, removed: bool) {
        let cause = self.at;
        if let Some(step) = self.step(old.touch) {
            (step.cause, step.removed) = (cause, removed);
        } else {
            self.steps.push(Step { old: Some(old.value), old_fence: old.fence, cause, kind, field: old.field, removed });
        }
    }

    fn step(&mut self, touch: u32) -> Option<&mut Step> {
        self.steps.get_mut(usize::try_from(touch.checked_sub(self.first)?).ok()?)
    }

    /// The changes. A register that came and went within the call is none.
    #[must_use]
    pub fn settle(mut self, segments: &[Chained], state: &State) -> Changes {
        if self.steps.iter().any(|step| step.removed) {
            self.blame_tombstones(segments, state);
            self.steps.retain(|step| !step.removed || step.old.is_some());
        }
        Changes(Source::Merged { segments: segments.to_vec(), steps: self.steps })
    }

    /// Of several tombstones in one call the one that stays is the cause of what was removed.
    fn blame_tombstones(&mut self, segments: &[Chained], state: &State) {
        for index in 0..self.steps.len() {
            let Some(step) = self.steps.get(index).filter(|step| step.removed) else { continue };
            let Some((_, _, write)) = step.cause.find(segments) else { continue };
            let tombstone = state.get(&RowKey::new(schema::TOMBSTONE, write.id), 1).map(|register| register.touch);
            let cause = tombstone.and_then(|touch| self.step(touch)).map(|step| step.cause);
            if let (Some(step), Some(cause)) = (self.steps.get_mut(index), cause) {
                step.cause = cause;
            }
        }
    }
}
