//! The section "Authority" of `merge.md`, step by step, on a set of ops. For the tests to compare [`crate::authority`] with: the order and the words are those of the page.

use std::collections::{BTreeMap, BTreeSet};

use fabrik_op::{Digest, Genesis, Key};

use crate::record::{Record, Rotation, Spot};
use crate::schema::class;

/// `(author, epoch, seq, h)`.
pub type OpId = (Key, u64, u64, Digest);

/// A sound op that writes member records or rotations.
#[derive(Debug)]
pub struct Sheet {
    pub id: OpId,
    pub lamport: u64,
    pub digest: Digest,
    /// Index, subject and record of each member write.
    pub records: Vec<(usize, Key, Record)>,
    /// It writes no other registers of version 1.
    pub records_only: bool,
    /// Those whose signature verifies.
    pub rotations: Vec<Rotation>,
    pub suspended: bool,
}

/// A record with effect.
#[derive(Debug, Clone)]
struct Effect {
    subject: Key,
    record: Record,
    /// Of its author.
    level: i32,
    age: (u64, Digest, usize, Key, u64),
}

#[derive(Debug, Clone)]
struct Chosen {
    id: OpId,
    rotation: Rotation,
}

/// The answer for one set of ops. `parents`: the op before each; none for the first of a log.
#[derive(Debug)]
pub struct NaiveAuthority<'a> {
    genesis: &'a Genesis,
    parents: &'a BTreeMap<OpId, Option<OpId>>,
    sheets: &'a [Sheet],
    pub named: BTreeSet<Key>,
    pub naming: BTreeSet<Key>,
    /// Their logs are never suspended.
    pub spared: BTreeSet<Key>,
    pub levels: BTreeMap<Key, i32>,
    effects: Vec<Effect>,
    chosen: BTreeMap<Key, Chosen>,
    /// The ops with member records that have effect.
    pub effective: BTreeSet<OpId>,
}

impl<'a> NaiveAuthority<'a> {
    pub fn new(genesis: &'a Genesis, parents: &'a BTreeMap<OpId, Option<OpId>>, sheets: &'a [Sheet]) -> Self {
        let levels = genesis.recovery.iter().map(|key| (*key, -1)).chain([(genesis.admin, 0)]).collect();
        let mut all = Self {
            genesis,
            parents,
            sheets,
            named: BTreeSet::new(),
            naming: BTreeSet::new(),
            spared: BTreeSet::new(),
            levels,
            effects: Vec::new(),
            chosen: BTreeMap::new(),
            effective: BTreeSet::new(),
        };
        all.name();
        let mut level = -1;
        while all.levels.values().any(|held| *held >= level) {
            all.rotate(level);
            all.command(level);
            level += 1;
        }
        all.rotate(i32::MAX);
        all
    }

    fn name(&mut self) {
        let mut naming: BTreeSet<Key> = self.levels.keys().copied().collect();
        self.named.clone_from(&naming);
        loop {
            let before = (self.named.len(), naming.len());
            for sheet in self.sheets {
                let author = sheet.id.0;
                for (_, subject, record) in sheet.records.iter().filter(|(_, _, record)| record.role != 0) {
                    if naming.contains(&author) {
                        self.named.insert(*subject);
                        if record.role == 4 && record.places.is_some() {
                            naming.insert(*subject);
                        }
                    }
                }
                for rotation in &sheet.rotations {
                    if self.named.contains(&author) {
                        self.named.insert(rotation.new);
                    }
                    if naming.contains(&author) {
                        naming.insert(rotation.new);
                    }
                }
            }
            if (self.named.len(), naming.len()) == before {
                let verdicts = self.sheets.iter().filter(|sheet| naming.contains(&sheet.id.0)).flat_map(|sheet| &sheet.records);
                self.spared = verdicts.filter(|(_, _, record)| record.revokes()).map(|(_, subject, _)| *subject).chain(naming.iter().copied()).collect();
                self.naming = naming;
                return;
            }
        }
    }

    fn level(&self, key: &Key) -> i32 {
        self.levels.get(key).copied().unwrap_or(i32::MAX)
    }

    /// Whether the op is within one of these places of its author.
    fn within(&self, id: &OpId, spots: &[Spot]) -> bool {
        spots.iter().filter(|spot| spot.head != [0; 32]).any(|spot| {
            let marked = |op: &&OpId| (op.0, op.1, op.2) == (id.0, spot.epoch, spot.seq) && op.3.get(..16) == spot.head.get(..16);
            let mut at = self.parents.keys().find(marked).copied();
            while let Some(op) = at {
                if op == *id {
                    return true;
                }
                at = self.parents.get(&op).copied().flatten();
            }
            false
        })
    }

    /// The keys that it succeeds, all the way.
    fn predecessors(&self, key: &Key) -> BTreeSet<Key> {
        let mut found = BTreeSet::new();
        let mut work = vec![*key];
        while let Some(new) = work.pop() {
            let olds = self.chosen.iter().filter(|(_, chosen)| chosen.rotation.new == new).map(|(old, _)| *old);
            work.extend(olds.filter(|old| found.insert(*old)));
        }
        found
    }

    fn is_root(&self, key: &Key) -> bool {
        *key == self.genesis.admin || self.predecessors(key).contains(&self.genesis.admin)
    }

    /// The records about a key, and about those that it succeeds, of authors below a level; the latest last.
    fn records(&self, key: &Key, below: i32) -> Vec<&Effect> {
        let olds = self.predecessors(key);
        let about = |effect: &&Effect| effect.subject == *key || (effect.record.role != 0 && olds.contains(&effect.subject));
        let mut found: Vec<_> = self.effects.iter().filter(|effect| effect.level < below).filter(about).collect();
        found.sort_by_key(|effect| effect.age);
        found
    }

    fn revocations(&self, key: &Key, below: i32) -> Vec<&Effect> {
        self.effects.iter().filter(|effect| effect.subject == *key && effect.level < below && effect.record.revokes()).collect()
    }

    fn within_revocations(&self, id: &OpId, below: i32) -> bool {
        self.revocations(&id.0, below).iter().all(|effect| self.within(id, effect.record.places.as_deref().unwrap_or_default()))
    }

    fn within_rotation(&self, id: &OpId) -> bool {
        self.chosen.get(&id.0).is_none_or(|chosen| {
            let own = Spot { epoch: chosen.id.1, seq: chosen.id.2, head: chosen.id.3 };
            self.within(id, &[own]) || self.within(id, &chosen.rotation.keeps)
        })
    }

    fn on_dead_line(&self, key: &Key) -> bool {
        self.predecessors(key).iter().filter_map(|old| self.chosen.get(old)).any(|chosen| !self.within_revocations(&chosen.id, i32::MAX))
    }

    /// Step 2.
    fn rotate(&mut self, level: i32) {
        loop {
            let mut round: BTreeMap<Key, (u64, Digest, Chosen)> = BTreeMap::new();
            for sheet in self.sheets.iter().filter(|sheet| !sheet.suspended) {
                let old = sheet.id.0;
                if self.level(&old) != level || self.chosen.contains_key(&old) || !self.within_revocations(&sheet.id, level) {
                    continue;
                }
                let mut commitments: BTreeSet<Digest> =
                    self.chosen.values().filter(|chosen| chosen.rotation.new == old).filter_map(|chosen| chosen.rotation.next).collect();
                commitments.extend(self.genesis.next.filter(|_| old == self.genesis.admin));
                commitments.extend(self.effects.iter().filter(|effect| effect.subject == old && effect.level < level).filter_map(|effect| effect.record.next));
                for rotation in sheet.rotations.iter().filter(|rotation| commitments.contains(&rotation.commitment())) {
                    let rank = (sheet.lamport, sheet.id.3);
                    if round.get(&old).is_none_or(|(lamport, head, _)| rank < (*lamport, *head)) {
                        round.insert(old, (rank.0, rank.1, Chosen { id: sheet.id, rotation: rotation.clone() }));
                    }
                }
            }
            if round.is_empty() {
                return;
            }
            for (old, (_, _, chosen)) in round {
                if self.level(&chosen.rotation.new) > level {
                    self.levels.insert(chosen.rotation.new, level);
                }
                self.chosen.insert(old, chosen);
            }
        }
    }

    /// Step 3.
    fn commands(&self, id: &OpId, level: i32) -> bool {
        if level == -1 {
            return true;
        }
        let latest = self
            .records(&id.0, level)
            .into_iter()
            .rfind(|effect| effect.record.role != 0 && effect.record.places.as_ref().is_some_and(|places| !self.within(id, places)));
        self.within_revocations(id, level) && self.within_rotation(id) && latest.map_or_else(|| self.is_root(&id.0), |effect| effect.record.role == 4)
    }

    /// Steps 4 to 6, and who has the next level.
    fn command(&mut self, level: i32) {
        let (mut verdicts, mut orders) = (Vec::new(), Vec::new());
        for sheet in self.sheets.iter().filter(|sheet| !sheet.suspended && !sheet.records.is_empty() && self.level(&sheet.id.0) == level) {
            let is_verdict = |record: &(usize, Key, Record)| record.2.revokes() && self.level(&record.1) == level;
            if !self.commands(&sheet.id, level)
                || sheet.records.iter().any(|(_, subject, _)| self.level(subject) < level)
                || (level == -1 && !sheet.records_only)
            {
                continue;
            }
            if sheet.records_only && sheet.records.iter().all(is_verdict) {
                verdicts.push(sheet);
            } else if !sheet.records.iter().any(is_verdict) {
                orders.push(sheet);
            }
        }
        for sheet in verdicts {
            self.enact(sheet, level);
        }
        orders.retain(|sheet| self.within_revocations(&sheet.id, i32::MAX) && !self.on_dead_line(&sheet.id.0));
        for sheet in &orders {
            self.enact(sheet, level);
        }
        for (_, subject, record) in orders.iter().flat_map(|sheet| &sheet.records) {
            if record.role == 4 && record.places.is_some() && self.level(subject) > level {
                self.levels.insert(*subject, level + 1);
            }
        }
    }

    fn enact(&mut self, sheet: &Sheet, level: i32) {
        self.effective.insert(sheet.id);
        for (index, subject, record) in &sheet.records {
            let age = (sheet.lamport, sheet.digest, *index, sheet.id.0, sheet.id.1);
            self.effects.push(Effect { subject: *subject, record: record.clone(), level, age });
        }
    }

    /// What an op without member records may write.
    pub fn allowed(&self, id: &OpId) -> u8 {
        let key = &id.0;
        if self.level(key) == -1 {
            return class::ANY;
        }
        if !self.named.contains(key) {
            return class::PEER;
        }
        if !self.within_revocations(id, i32::MAX) || !self.within_rotation(id) || self.on_dead_line(key) {
            return 0;
        }
        let mut records = self.records(key, i32::MAX);
        records.retain(|effect| effect.record.role != 0);
        let latest = records.iter().rfind(|effect| effect.record.places.as_ref().is_some_and(|places| !self.within(id, places)));
        match latest {
            Some(effect) => class::OF_ROLE.get(usize::from(effect.record.role)).copied().unwrap_or(0),
            None if self.is_root(key) || !records.is_empty() => class::PEER,
            None => 0,
        }
    }

    /// The role of a key now.
    #[must_use]
    pub fn role(&self, key: &Key) -> u8 {
        if self.level(key) == -1 {
            return 4;
        }
        if !self.revocations(key, i32::MAX).is_empty() || self.chosen.contains_key(key) || self.on_dead_line(key) {
            return 0;
        }
        self.records(key, i32::MAX).last().map_or_else(|| if self.is_root(key) { 4 } else { 0 }, |effect| effect.record.role)
    }
}
