//! Applying segments that fit, op by op.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabrik_op::hash::{log_start, short};
use fabrik_op::{Op, Refused};

use crate::branch::{self, Branch};
use crate::change::{Place, Trail};
use crate::claim::Claim;
use crate::growth::{Chained, Growth};
use crate::log::heads_max;
use crate::order::Standing;
use crate::replica::Replica;
use crate::row_key::RowKey;
use crate::schema::{self, class};
use crate::sheet::{At, sheets};
use crate::state::{Candidate, Effect};
use crate::validity::{self, Standpoint};

impl Replica {
    /// Refuses a list of which one segment does not fit on what is held and on those before it.
    pub(crate) fn check_fit(&self, chained: &[Chained]) -> Result<(), Refused> {
        let mut logs = BTreeMap::new();
        for (place, segment) in chained.iter().enumerate() {
            let log = (*segment.author(), segment.epoch());
            let refused = |why: String| Refused::invalid(format!("segment of {}.. epoch {} {why}", short(&log.0), log.1));
            if *segment.mesh_id() != self.genesis.mesh_id {
                return Err(refused("belongs to another mesh".to_owned()));
            }
            let growth = logs.entry(log).or_insert_with(|| Growth::new(self.logs.find(&log.0, log.1), heads_max(self.authority.names(), &log.0)));
            growth.check(segment, chained, || log_start(&self.genesis.mesh_id, &log.0, log.1)).map_err(refused)?;
            growth.add(segment, place);
        }
        Ok(())
    }

    /// Applies segments that fit: first all to the logs, so that whatever they say about who may write what is known before any of their ops is judged.
    pub(crate) fn apply(&mut self, chained: &[Chained], mut trail: Option<&mut Trail>) -> Result<(), Refused> {
        let laid = chained.iter().map(|segment| self.lay(segment)).collect::<Result<Vec<_>, _>>()?;
        self.settle_authority();
        for ((segment, (place, clock)), number) in chained.iter().zip(laid).zip(0..) {
            if let Some(trail) = trail.as_deref_mut() {
                trail.at = Place { segment: number, ..Place::default() };
            }
            self.judge(segment, place, clock, trail.as_deref_mut());
        }
        Ok(())
    }

    /// Adds a segment to its log, and notes what it says about who may write what. The index of the log, and the clock before the segment.
    fn lay(&mut self, chained: &Chained) -> Result<(u32, u64), Refused> {
        let (author, epoch) = (chained.author(), chained.epoch());
        let place = self.logs.place(author, epoch).ok_or_else(|| Refused::invalid("more than 2^32 logs"))?;
        let Some(log) = self.logs.at_mut(place) else { return Ok((place, 0)) };
        if chained.branch as usize == log.branches.len() {
            let clock = chained.base.map_or(0, |base| log.clock_at(base));
            log.branches.push(Branch::new(chained.base, clock, *chained.prev()));
            if log.branches.len() > heads_max(self.authority.names(), author) && !log.suspended {
                log.suspended = true;
                self.stale = true;
                Arc::make_mut(&mut self.authority).suspend(author, epoch);
            }
        }
        let Some(branch) = log.branches.get_mut(chained.branch as usize) else { return Ok((place, 0)) };
        let clock = branch.clock;
        branch.extend(chained.len(), chained.ops().map(|op| (op.head(), op.lamport())));
        self.ops += chained.len() as u64;
        if self.authority.watches(author, epoch, |(_, seq, mark)| chained.head_at(*seq).is_some_and(|head| branch::mark(head) == *mark)) {
            Arc::make_mut(&mut self.authority).touch();
        }
        for sheet in sheets(&self.genesis, chained, chained.branch, clock) {
            Arc::make_mut(&mut self.authority).note(author, sheet);
        }
        Ok((place, clock))
    }

    /// Works out who may write what, if something new is known, and whether that is news for what was merged.
    fn settle_authority(&mut self) {
        if !self.authority.is_dirty() {
            return;
        }
        let authority = Arc::make_mut(&mut self.authority);
        let names = authority.names().clone();
        if let Some(before) = authority.settle(&self.genesis, &self.logs) {
            self.stale |= authority.differs(&before, &names, &self.logs);
            // Who names others now, or is revoked, may have any number of heads, whatever he had before.
            let mut freed = false;
            for log in self.logs.suspended_mut() {
                if authority.names().spares(&log.author) {
                    log.suspended = false;
                    freed |= authority.resume(&log.author, log.epoch);
                }
            }
            if freed {
                self.stale = true;
                authority.settle(&self.genesis, &self.logs);
            }
        }
    }

    /// Applies what the ops of a segment mean.
    fn judge(&mut self, chained: &Chained, place: u32, mut clock: u64, mut trail: Option<&mut Trail>) {
        let author = chained.author();
        let mut sheets = Vec::new();
        let (mut applied, mut denied) = (0, 0);
        if self.logs.at(place).is_none_or(|log| log.suspended) {
            return;
        }
        let admin = self.genesis.admin;
        let standpoint = Standpoint { admin: &admin, author };
        let authority = Arc::clone(&self.authority);
        let standing = authority.standing(author);
        for (op, number) in chained.ops().zip(0..) {
            if !validity::keeps_clock(clock, op.lamport()) {
                self.voided += 1;
                continue;
            }
            clock = op.lamport();
            self.lamport = self.lamport.max(clock);
            let classes = match validity::judge(&standpoint, &op) {
                Ok(Some(classes)) => classes,
                Ok(None) => continue,
                Err(_) => {
                    self.voided += 1;
                    continue;
                }
            };
            let at = At { epoch: chained.epoch(), branch: chained.branch, seq: op.seq };
            let permitted = authority.permits(standing, author, at, classes);
            let allowed = (classes & class::MEMBER == 0).then(|| standing.allowed(at));
            if allowed.is_none() {
                sheets.push(at);
            } else if permitted {
                applied |= classes;
            } else {
                denied |= classes;
            }
            if !permitted {
                self.voided += 1;
                continue;
            }
            if let Some(trail) = trail.as_deref_mut() {
                trail.at.op = number;
            }
            let (used, refused) = self.apply_op(&standpoint, &op, allowed, place, trail.as_deref_mut());
            (applied, denied) = (applied | used, denied | refused);
        }
        drop(authority);
        if let Some(log) = self.logs.at_mut(place) {
            log.applied |= applied;
            log.denied |= denied;
        }
        for at in sheets {
            Arc::make_mut(&mut self.authority).merged(author, at);
        }
    }

    /// The classes of the later registers that it wrote, and of those that its author may not write.
    #[inline]
    fn apply_op(&mut self, standpoint: &Standpoint<'_>, op: &Op<'_>, allowed: Option<u8>, log: u32, mut trail: Option<&mut Trail>) -> (u8, u8) {
        let (mut used, mut refused) = (0, 0);
        for (write, write_index) in op.writes().zip(0..) {
            let Some(known) = validity::target(standpoint, &write) else { continue };
            if known.field.later && allowed.is_some() {
                let class = schema::class_of(known.kind_number, known.field_number);
                if !validity::permits(&known, allowed) {
                    refused |= class;
                    continue;
                }
                used |= class;
            }
            if let Some(trail) = trail.as_deref_mut() {
                trail.at.write = write_index;
            }
            if known.kind_number == schema::TOMBSTONE {
                for (gone, register) in self.state.bury(write.id) {
                    if let Some(trail) = trail.as_deref_mut() {
                        trail.removed(gone.kind(), register);
                    }
                }
            }
            let claim = if known.kind_number == schema::CLAIM { Claim::of(write.value) } else { None };
            let candidate = Candidate {
                standing: Standing {
                    fence: claim.as_ref().map_or(write.fence, |claim| Some(&claim.fence)),
                    state: claim.as_ref().map_or(0, |claim| claim.state),
                    lamport: op.lamport(),
                    digest: op.digest,
                    write_index,
                },
                field: known.field_number,
                value: write.value,
                seq: op.seq,
                wall_ms: op.wall_ms(),
                log,
                touch: trail.as_deref().map(Trail::touches),
            };
            let key = RowKey::new(known.kind_number, write.id);
            let effect = if known.kind_number == schema::TOMBSTONE {
                self.state.entomb(&key, &candidate, &self.logs)
            } else {
                self.state.join(&key, &candidate, &self.logs)
            };
            let Some(trail) = trail.as_deref_mut() else { continue };
            match effect {
                Effect::None => {}
                Effect::Inserted => trail.inserted(known.kind_number, known.field_number),
                Effect::Replaced(old) => trail.replaced(known.kind_number, old),
            }
        }
        (used, refused)
    }
}
