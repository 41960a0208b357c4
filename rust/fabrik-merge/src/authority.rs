//! Rule 5 of "Op validity": who may write what, kept up with the ops that say so.
//!
//! What arrives is only noted. When something was noted, or a place that a record names is found, all is worked out again from what was noted ([`Source::powers`]), which is
//! little beside what it is about. Then the replica asks whether anything that was merged before would be judged otherwise: see [`Authority::differs`].

use std::collections::{BTreeMap, BTreeSet};

use fabrik_op::{Genesis, Key};

use crate::log::Logs;
use crate::names::Names;
use crate::powers::{Powers, Source, Standing, Zone};
use crate::record::Spot;
use crate::schema::class;
use crate::sheet::{At, Sheet, SpotName};

/// The path to an op: up to which seq it is on which branches.
type Path = Vec<(u32, u64)>;

/// Who may write what.
#[derive(Debug, Clone)]
pub struct Authority {
    sheets: BTreeMap<Key, Vec<Sheet>>,
    names: Names,
    /// Of the spots that are named and held. A path never changes, so that those of a replica hold for one that is loaded anew from the same rows.
    paths: BTreeMap<(Key, SpotName), Path>,
    /// Spots that are named and not held.
    missing: BTreeMap<(Key, u64), Vec<SpotName>>,
    /// Logs whose sheets count for names only.
    suspended: BTreeSet<(Key, u64)>,
    powers: Powers,
    /// Something was noted since all was worked out.
    dirty: bool,
}

impl Authority {
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        let (sheets, paths, missing, suspended) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut new = Self { sheets, names: Names::new(genesis), paths, missing, suspended, powers: Powers::default(), dirty: true };
        new.settle(genesis, &Logs::default());
        new
    }

    /// The same for a replica of the same ops in which nothing is merged yet.
    #[must_use]
    pub fn anew(&self) -> Self {
        let mut anew = self.clone();
        anew.sheets.values_mut().flatten().for_each(|sheet| sheet.merged = false);
        anew
    }

    /// Of a snapshot: what was noted and is merged, and which logs are suspended.
    #[must_use]
    pub fn restore(genesis: &Genesis, logs: &Logs, sheets: BTreeMap<Key, Vec<Sheet>>) -> Self {
        let mut restored = Self { sheets, dirty: true, ..Self::new(genesis) };
        restored.suspended = logs.ordered().filter(|log| log.suspended).map(|log| (log.author, log.epoch)).collect();
        restored.settle(genesis, logs);
        restored
    }

    /// All that was noted, by author.
    pub fn sheets(&self) -> impl Iterator<Item = (&Key, &Sheet)> {
        self.sheets.iter().flat_map(|(author, sheets)| sheets.iter().map(move |sheet| (author, sheet)))
    }

    /// The sheets of one author.
    pub fn sheets_of<'a>(&'a self, author: &Key) -> impl Iterator<Item = &'a Sheet> + use<'a> {
        self.sheets.get(author).into_iter().flatten()
    }

    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Takes a sheet in; one that is there changes nothing.
    pub fn note(&mut self, author: &Key, sheet: Sheet) {
        let held = self.sheets.entry(*author).or_default();
        if let Err(place) = held.binary_search_by(|one| one.at.cmp(&sheet.at)) {
            self.dirty |= self.names.names(author) || !sheet.turns.is_empty();
            held.insert(place, sheet);
        }
    }

    /// Whether somebody named one of these ops of a log that were not held.
    #[must_use]
    #[inline]
    pub fn watches(&self, author: &Key, epoch: u64, has: impl Fn(&SpotName) -> bool) -> bool {
        !self.missing.is_empty() && self.missing.get(&(*author, epoch)).is_some_and(|spots| spots.iter().any(has))
    }

    /// A spot that was missing is there.
    pub const fn touch(&mut self) {
        self.dirty = true;
    }

    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// What a log says counts for names only from now on.
    pub fn suspend(&mut self, author: &Key, epoch: u64) {
        self.dirty |= self.suspended.insert((*author, epoch)) && self.sheets.contains_key(author);
    }

    /// What it says counts again. Whether it did not.
    pub fn resume(&mut self, author: &Key, epoch: u64) -> bool {
        let resumed = self.suspended.remove(&(*author, epoch));
        self.dirty |= resumed;
        resumed
    }

    /// Works everything out again if something was noted. What it was before, if so.
    pub fn settle(&mut self, genesis: &Genesis, logs: &Logs) -> Option<Powers> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let sheets = std::mem::take(&mut self.sheets);
        for author in sheets.keys() {
            self.names.spread(author, |key| sheets.get(key).into_iter().flatten());
        }
        self.find(&sheets, logs);
        let counts = |author: &Key, sheet: &Sheet| has_part(&self.names, author, sheet) && !self.suspended.contains(&(*author, sheet.at.epoch));
        let all = sheets.iter().flat_map(|(author, sheets)| sheets.iter().map(move |sheet| (author, sheet)));
        let zones = |key: &Key, spots: &[Spot]| self.zones(key, spots);
        let powers = Source { genesis, sheets: all.filter(|(author, sheet)| counts(author, sheet)).collect(), zones }.powers();
        self.sheets = sheets;
        Some(std::mem::replace(&mut self.powers, powers))
    }

    /// Looks for the spots that are named and were not found yet.
    fn find(&mut self, sheets: &BTreeMap<Key, Vec<Sheet>>, logs: &Logs) {
        self.missing.clear();
        let all = sheets.iter().flat_map(|(author, sheets)| sheets.iter().map(move |sheet| (author, sheet)));
        for (author, sheet) in all.filter(|(author, sheet)| has_part(&self.names, author, sheet)) {
            let own = [sheet.spot()];
            let turns = sheet.turns.iter().flat_map(|turn| turn.rotation.keeps.iter().chain(&own)).map(|spot| (author, spot));
            let records = sheet.entries.iter().flat_map(|entry| entry.record.places.iter().flatten().map(move |spot| (&entry.subject, spot)));
            for (key, name) in turns.chain(records).filter_map(|(key, spot)| Some((*key, spot.name()?))) {
                if self.paths.contains_key(&(key, name)) {
                    continue;
                }
                let (epoch, seq, mark) = name;
                match logs.find(&key, epoch).and_then(|log| log.path_to(seq, &mark)) {
                    Some(path) => drop(self.paths.insert((key, name), path)),
                    None => self.missing.entry((key, epoch)).or_default().push(name),
                }
            }
        }
    }

    fn zones(&self, key: &Key, spots: &[Spot]) -> Vec<Zone> {
        let found = spots.iter().filter_map(|spot| Some((spot.epoch, self.paths.get(&(*key, spot.name()?))?)));
        found.flat_map(|(epoch, path)| path.iter().map(move |&(branch, upto)| Zone { epoch, branch, upto })).collect()
    }

    /// What the ops of an author may write that write no member records.
    #[must_use]
    pub fn standing(&self, author: &Key) -> &Standing {
        standing(&self.powers, &self.names, author)
    }

    /// Whether a sound op that writes registers of these classes has effect.
    #[must_use]
    #[inline]
    pub fn permits(&self, standing: &Standing, author: &Key, at: At, classes: u8) -> bool {
        if classes & class::MEMBER == 0 { classes & !standing.allowed(at) == 0 } else { self.powers.effective.contains(&(*author, at)) }
    }

    /// Whether ops that were merged by other powers would be judged otherwise now.
    #[must_use]
    pub fn differs(&self, before: &Powers, names: &Names, logs: &Logs) -> bool {
        let moved = |author: &Key, sheet: &Sheet| {
            sheet.merged && !sheet.entries.is_empty() && before.effective.contains(&(*author, sheet.at)) != self.powers.effective.contains(&(*author, sheet.at))
        };
        if self.sheets().any(|(author, sheet)| moved(author, sheet)) {
            return true;
        }
        let mut keys = before.standings.keys().chain(self.powers.standings.keys()).chain(self.names.all());
        keys.any(|key| {
            let (old, new) = (standing(before, names, key), self.standing(key));
            old != new && logs.of(key).any(|log| log.would_differ(old, new))
        })
    }

    /// What was noted since the last merge is merged now.
    pub fn merged(&mut self, author: &Key, at: At) {
        let sheets = self.sheets.get_mut(author);
        let place = sheets.as_ref().and_then(|sheets| sheets.binary_search_by(|one| one.at.cmp(&at)).ok());
        if let Some(sheet) = sheets.zip(place).and_then(|(sheets, place)| sheets.get_mut(place)) {
            sheet.merged = true;
        }
    }

    /// The same after an op that is written now; none if it would have no effect.
    #[must_use]
    pub fn with(&self, genesis: &Genesis, author: &Key, sheet: Sheet) -> Option<Self> {
        let at = sheet.at;
        let mut trial = self.clone();
        trial.note(author, sheet);
        trial.settle(genesis, &Logs::default());
        trial.powers.effective.contains(&(*author, at)).then_some(trial)
    }
}

static NOBODY: Standing = Standing::of_nobody(0);
static STRANGER: Standing = Standing::of_nobody(class::PEER);

fn standing<'a>(powers: &'a Powers, names: &Names, author: &Key) -> &'a Standing {
    if names.has(author) { powers.standings.get(author).unwrap_or(&NOBODY) } else { &STRANGER }
}

/// Records of a key that names nobody can not have effect, whatever comes.
fn has_part(names: &Names, author: &Key, sheet: &Sheet) -> bool {
    names.names(author) || !sheet.turns.is_empty()
}
