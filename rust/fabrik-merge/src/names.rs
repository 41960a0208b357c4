//! Whose logs are taken, and whose are never suspended: "Who is named" in `merge.md`. The sets only grow.

use std::collections::BTreeSet;

use fabrik_op::{Genesis, Key};

use crate::sheet::Sheet;

/// The keys that are named, those of them that name others, and those that one of these put out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    named: BTreeSet<Key>,
    naming: BTreeSet<Key>,
    judged: BTreeSet<Key>,
}

impl Names {
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let naming: BTreeSet<Key> = genesis.recovery.into_iter().chain([genesis.admin]).collect();
        Self { named: naming.clone(), naming, judged: BTreeSet::new() }
    }

    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.named.contains(key)
    }

    /// Whether those whom it gives a role are named.
    #[must_use]
    pub fn names(&self, key: &Key) -> bool {
        self.naming.contains(key)
    }

    /// Whether its logs may have any number of heads: it names others, or one that does wrote a revocation of it, whether that has effect or not.
    #[must_use]
    pub fn spares(&self, key: &Key) -> bool {
        self.names(key) || self.judged.contains(key)
    }

    /// Takes the sheets of `author`, and of those who name by them, into account. `sheets` gives those of a key. Whether the sets are larger now.
    pub fn spread<'s, L: Iterator<Item = &'s Sheet>>(&mut self, author: &Key, sheets: impl Fn(&Key) -> L) -> bool {
        let mut work = vec![*author];
        let before = (self.named.len(), self.naming.len(), self.judged.len());
        while let Some(key) = work.pop() {
            if !self.has(&key) {
                continue;
            }
            let names = self.naming.contains(&key);
            for sheet in sheets(&key) {
                self.judged.extend(sheet.entries.iter().filter(|entry| names && entry.record.revokes()).map(|entry| entry.subject));
                let records = sheet.entries.iter().filter(|entry| names && entry.record.role != 0);
                let subjects = records.map(|entry| (entry.subject, entry.record.role == 4 && entry.record.places.is_some()));
                for (subject, naming) in subjects.chain(sheet.turns.iter().map(|turn| (turn.rotation.new, names))) {
                    let more = self.named.insert(subject) | (naming && self.naming.insert(subject));
                    work.extend(Some(subject).filter(|_| more));
                }
            }
        }
        before != (self.named.len(), self.naming.len(), self.judged.len())
    }

    /// All keys that are named.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.named.iter()
    }
}
