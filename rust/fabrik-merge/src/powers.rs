//! Who may do what, for one set of sheets: levels, records with effect, rotations. The steps are those of "Authority" in `merge.md`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use fabrik_op::{Digest, Genesis, Key};

use crate::record::Spot;
use crate::schema::class;
use crate::sheet::{At, Entry, Sheet, Turn};

/// Ops of one author: those of a branch up to a seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    pub epoch: u64,
    pub branch: u32,
    pub upto: u64,
}

/// Whether an op is in one of these zones of its author.
#[must_use]
#[inline]
pub fn within(at: At, zones: &[Zone]) -> bool {
    zones.iter().any(|zone| zone.epoch == at.epoch && zone.branch == at.branch && at.seq <= zone.upto)
}

/// What the ops of an author may write that write no member records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// An op must be within each.
    pub cuts: Vec<Vec<Zone>>,
    /// What is allowed to ops that are not within the zones; the latest first.
    pub roles: Vec<(u8, Vec<Zone>)>,
    /// What is allowed to all others.
    pub rest: u8,
    /// The role now; 0: not a member.
    pub role: u8,
    pub level: Option<i32>,
    pub successor: Option<Key>,
    pub revoked: bool,
}

impl Standing {
    /// Of a key that nothing with effect is known of.
    #[must_use]
    pub const fn of_nobody(rest: u8) -> Self {
        Self { cuts: Vec::new(), roles: Vec::new(), rest, role: 0, level: None, successor: None, revoked: false }
    }

    /// The classes that an op may write.
    #[must_use]
    #[inline]
    pub fn allowed(&self, at: At) -> u8 {
        if !self.cuts.iter().all(|zones| within(at, zones)) {
            return 0;
        }
        self.roles.iter().find(|(_, zones)| !within(at, zones)).map_or(self.rest, |(classes, _)| *classes)
    }

    /// Where what is allowed may change on a branch: seqs up to which something holds.
    pub fn bounds(&self, epoch: u64, branch: u32) -> impl Iterator<Item = u64> {
        let zones = self.cuts.iter().flatten().chain(self.roles.iter().flat_map(|(_, zones)| zones));
        zones.filter(move |zone| (zone.epoch, zone.branch) == (epoch, branch)).map(|zone| zone.upto)
    }
}

type Age = (u64, Digest, u32, Key, u64);

/// A record with effect.
#[derive(Debug)]
struct Effect {
    age: Age,
    /// Of its author.
    level: i32,
    role: u8,
    zones: Option<Vec<Zone>>,
    next: Option<Digest>,
}

/// The rotation of a key that counts.
#[derive(Debug)]
struct Chosen {
    new: Key,
    next: Option<Digest>,
    at: At,
    zones: Vec<Zone>,
}

/// The level of keys that have none.
const LAST: i32 = i32::MAX;

/// What sheets say together.
#[derive(Debug, Clone, Default)]
pub struct Powers {
    pub standings: BTreeMap<Key, Standing>,
    /// The ops with member records that have effect.
    pub effective: BTreeSet<(Key, At)>,
}

/// The sheets of all authors, without those of suspended logs, and the zones of spots.
pub struct Source<'a, Z> {
    pub genesis: &'a Genesis,
    pub sheets: Vec<(&'a Key, &'a Sheet)>,
    pub zones: Z,
}

impl<Z: Fn(&Key, &[Spot]) -> Vec<Zone>> Source<'_, Z> {
    /// Step by step, from the lowest level up.
    #[must_use]
    pub fn powers(&self) -> Powers {
        let levels = self.genesis.recovery.iter().map(|key| (*key, -1)).chain([(self.genesis.admin, 0)]).collect();
        let mut found = Finding { source: self, levels, records: BTreeMap::new(), chosen: BTreeMap::new(), olds: BTreeMap::new(), effective: BTreeSet::new() };
        let mut level = -1;
        while found.levels.values().any(|held| *held >= level) {
            found.rotate(level);
            found.command(level);
            level += 1;
        }
        found.rotate(LAST);
        found.into_powers()
    }
}

struct Finding<'a, Z> {
    source: &'a Source<'a, Z>,
    levels: BTreeMap<Key, i32>,
    /// By subject; in no order.
    records: BTreeMap<Key, Vec<Effect>>,
    chosen: BTreeMap<Key, Chosen>,
    /// By the new key: those that it succeeds, directly.
    olds: BTreeMap<Key, Vec<Key>>,
    effective: BTreeSet<(Key, At)>,
}

impl<Z: Fn(&Key, &[Spot]) -> Vec<Zone>> Finding<'_, Z> {
    fn level(&self, key: &Key) -> i32 {
        self.levels.get(key).copied().unwrap_or(LAST)
    }

    /// Those that it succeeds, all the way.
    fn ancestors(&self, key: &Key) -> BTreeSet<Key> {
        let mut found = BTreeSet::new();
        let mut work: Vec<&Key> = self.olds.get(key).into_iter().flatten().collect();
        while let Some(old) = work.pop() {
            if found.insert(*old) {
                work.extend(self.olds.get(old).into_iter().flatten());
            }
        }
        found
    }

    fn about(&self, key: &Key) -> impl Iterator<Item = &Effect> {
        self.records.get(key).into_iter().flatten()
    }

    /// The records about a key and those that it succeeds, with a role, the latest first; and, of those that bind, for which of the key's ops they do not.
    fn roles(&self, key: &Key, below: i32) -> Vec<(&Effect, Option<&[Zone]>)> {
        let own = self.about(key).map(|record| (record, record.zones.as_deref()));
        let ancestors = self.ancestors(key);
        let others = ancestors.iter().filter(|old| *old != key).flat_map(|old| self.about(old));
        // Their places are in the logs of the older keys.
        let others = others.map(|record| (record, record.zones.as_ref().map(|_| &[][..])));
        let mut found: Vec<_> = own.chain(others).filter(|(record, _)| record.role != 0 && record.level < below).collect();
        found.sort_unstable_by_key(|(record, _)| Reverse(record.age));
        found
    }

    fn is_root(&self, key: &Key) -> bool {
        *key == self.source.genesis.admin || self.ancestors(key).contains(&self.source.genesis.admin)
    }

    fn survives(&self, key: &Key, at: At, below: i32) -> bool {
        let mut revocations = self.about(key).filter(|record| record.role == 0 && record.level < below).filter_map(|record| record.zones.as_deref());
        revocations.all(|zones| within(at, zones))
    }

    fn on_dead_line(&self, key: &Key) -> bool {
        self.ancestors(key).iter().any(|old| self.chosen.get(old).is_some_and(|chosen| !self.survives(old, chosen.at, LAST)))
    }

    /// Step 2: in rounds, the rotation of each key of the level that has none yet.
    fn rotate(&mut self, level: i32) {
        loop {
            let mut round: BTreeMap<Key, (u64, Digest, &Sheet, &Turn)> = BTreeMap::new();
            for (old, sheet) in self.source.sheets.iter().filter(|(_, sheet)| !sheet.turns.is_empty()) {
                if self.level(old) != level || self.chosen.contains_key(*old) || !self.survives(old, sheet.at, level) {
                    continue;
                }
                for turn in sheet.turns.iter().filter(|turn| self.commits(old, &turn.rotation.commitment(), level)) {
                    let rank = (sheet.lamport, sheet.head);
                    if round.get(*old).is_none_or(|(lamport, head, ..)| rank < (*lamport, *head)) {
                        round.insert(**old, (rank.0, rank.1, sheet, turn));
                    }
                }
            }
            if round.is_empty() {
                return;
            }
            for (old, (_, _, sheet, turn)) in round {
                let rotation = &turn.rotation;
                if self.level(&rotation.new) > level {
                    self.levels.insert(rotation.new, level);
                }
                let spots: Vec<_> = rotation.keeps.iter().copied().chain([sheet.spot()]).collect();
                self.chosen.insert(old, Chosen { new: rotation.new, next: rotation.next, at: sheet.at, zones: (self.source.zones)(&old, &spots) });
                self.olds.entry(rotation.new).or_default().push(old);
            }
        }
    }

    fn commits(&self, old: &Key, commitment: &Digest, level: i32) -> bool {
        let by_line = self.olds.get(old).into_iter().flatten().filter_map(|older| self.chosen.get(older)).any(|chosen| chosen.next == Some(*commitment));
        let by_record = || self.about(old).any(|record| record.level < level && record.next == Some(*commitment));
        by_line || (*old == self.source.genesis.admin && self.source.genesis.next == Some(*commitment)) || by_record()
    }

    /// Step 3.
    fn commands(&self, key: &Key, at: At, level: i32) -> bool {
        if level == -1 {
            return true;
        }
        if !self.survives(key, at, level) || self.chosen.get(key).is_some_and(|chosen| !within(at, &chosen.zones)) {
            return false;
        }
        let roles = self.roles(key, level);
        let latest = roles.iter().find(|(_, zones)| zones.is_some_and(|zones| !within(at, zones)));
        latest.map_or_else(|| self.is_root(key), |(record, _)| record.role == 4)
    }

    /// Steps 4 to 6, and who has the next level.
    fn command(&mut self, level: i32) {
        let (mut verdicts, mut orders) = (Vec::new(), Vec::new());
        for &(key, sheet) in self.source.sheets.iter().filter(|(key, sheet)| !sheet.entries.is_empty() && self.level(key) == level) {
            let is_verdict = |entry: &Entry| entry.record.revokes() && self.level(&entry.subject) == level;
            let below = sheet.entries.iter().any(|entry| self.level(&entry.subject) < level);
            if below || (level == -1 && !sheet.records_only) || !self.commands(key, sheet.at, level) {
                continue;
            }
            if sheet.records_only && sheet.entries.iter().all(is_verdict) {
                verdicts.push((key, sheet));
            } else if !sheet.entries.iter().any(is_verdict) {
                orders.push((key, sheet));
            }
        }
        for (key, sheet) in verdicts {
            self.enact(key, sheet, level);
        }
        let dead: BTreeSet<Key> = self.levels.iter().filter(|(key, held)| **held == level && self.on_dead_line(key)).map(|(key, _)| *key).collect();
        orders.retain(|(key, sheet)| !dead.contains(*key) && self.survives(key, sheet.at, LAST));
        for (key, sheet) in orders {
            self.enact(key, sheet, level);
            for entry in sheet.entries.iter().filter(|entry| entry.record.role == 4 && entry.record.places.is_some()) {
                self.levels.entry(entry.subject).or_insert(level + 1);
            }
        }
    }

    fn enact(&mut self, key: &Key, sheet: &Sheet, level: i32) {
        self.effective.insert((*key, sheet.at));
        for entry in &sheet.entries {
            let zones = entry.record.places.as_ref().map(|places| (self.source.zones)(&entry.subject, places));
            let age = (sheet.lamport, sheet.digest, entry.index, *key, sheet.at.epoch);
            self.records.entry(entry.subject).or_default().push(Effect { age, level, role: entry.record.role, zones, next: entry.record.next });
        }
    }

    fn into_powers(self) -> Powers {
        let keys: BTreeSet<Key> = self.levels.keys().chain(self.records.keys()).chain(self.olds.keys()).chain(self.chosen.keys()).copied().collect();
        let standings = keys.into_iter().map(|key| (key, self.standing(&key))).collect();
        Powers { standings, effective: self.effective }
    }

    fn standing(&self, key: &Key) -> Standing {
        let level = self.levels.get(key).copied();
        if level == Some(-1) {
            return Standing { role: 4, level, ..Standing::of_nobody(class::ANY) };
        }
        let (chosen, dead, root) = (self.chosen.get(key), self.on_dead_line(key), self.is_root(key));
        let revocations = || self.about(key).filter(|record| record.role == 0).filter_map(|record| record.zones.as_ref());
        let roles = self.roles(key, LAST);
        let mut cuts: Vec<Vec<Zone>> = revocations().chain(chosen.map(|chosen| &chosen.zones)).cloned().collect();
        cuts.extend(dead.then(Vec::new));
        let revoked = revocations().next().is_some();
        let ends = self.about(key).filter(|record| record.role == 0).map(|record| &record.age).max();
        let latest = roles.first().filter(|(record, _)| ends.is_none_or(|end| record.age > *end)).map(|(record, _)| record.role);
        let default = if root && ends.is_none() && roles.is_empty() { 4 } else { 0 };
        Standing {
            cuts,
            rest: if root || !roles.is_empty() { class::PEER } else { 0 },
            role: if revoked || dead || chosen.is_some() { 0 } else { latest.unwrap_or(default) },
            level,
            successor: chosen.map(|chosen| chosen.new),
            revoked,
            roles: roles
                .iter()
                .filter_map(|(record, zones)| Some((class::OF_ROLE.get(usize::from(record.role)).copied()?, zones.as_ref()?.to_vec())))
                .collect(),
        }
    }
}
