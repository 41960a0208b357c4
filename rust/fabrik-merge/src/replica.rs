//! Heads and registers in memory.

use std::sync::Arc;

use fabrik_op::limits::EPOCH_MAX;
use fabrik_op::{Digest, Genesis, Key, RawSegment, Refused, SigningKey, Tip, VerifiedSegment};

use crate::authority::Authority;
use crate::chaining::{self, ChainOutcome, Offer};
use crate::change::{Changes, Trail};
use crate::draft::Draft;
use crate::growth::Chained;
use crate::log::{Log, Logs};
use crate::state::State;

/// After so many touches they are numbered from 1 again. Leaves more room for one call than memory does.
const TOUCHES_MAX: u32 = 1 << 31;

/// A full replica of one mesh. The life of foreign bytes: [`Replica::verify`], [`Replica::chain`], persist, [`Replica::merge`].
#[derive(Debug)]
pub struct Replica {
    pub(crate) genesis: Genesis,
    pub(crate) logs: Logs,
    pub(crate) state: State,
    pub(crate) lamport: u64,
    pub(crate) ops: u64,
    pub(crate) voided: u64,
    pub(crate) stale: bool,
    /// Registers that merge calls touched so far, and one: what [`Trail`] numbers them by.
    pub(crate) touches: u32,
    /// Who may write what. Shared with drafts.
    pub(crate) authority: Arc<Authority>,
}

/// What became of our own stored segments.
#[derive(Debug, Default)]
pub struct LoadOutcome {
    /// New ops.
    pub ops: u64,
    /// Place in the input of what is no segment of this mesh (any more), and why.
    pub damaged: Vec<(usize, Refused)>,
    /// Places in the input of sound segments whose op before the first is missing.
    pub stranded: Vec<usize>,
}

impl Replica {
    /// An empty replica.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        let authority = Arc::new(Authority::new(&genesis));
        Self { genesis, logs: Logs::default(), state: State::default(), lamport: 0, ops: 0, voided: 0, stale: false, touches: 1, authority }
    }

    /// An empty replica that knows that these logs have too many heads: their ops will be held without effect. The genesis admin's are left out.
    #[must_use]
    pub fn with_suspended(genesis: Genesis, suspended: impl IntoIterator<Item = (Key, u64)>) -> Self {
        let admin = genesis.admin;
        let mut replica = Self::new(genesis);
        for (author, epoch) in suspended.into_iter().filter(|(author, _)| *author != admin) {
            if let Some(log) = replica.logs.place(&author, epoch).and_then(|place| replica.logs.at_mut(place)) {
                log.suspended = true;
                Arc::make_mut(&mut replica.authority).suspend(&author, epoch);
            }
        }
        replica
    }

    /// An empty replica that knows what is suspended, and who may write what: for the ops that this one holds, on the branches that this one has.
    #[must_use]
    pub fn anew(&self) -> Self {
        let mut replica = Self::with_suspended(self.genesis.clone(), self.suspended());
        replica.authority = Arc::new(self.authority.anew());
        replica
    }

    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The highest clock-valid lamport of any op that may have effect: suspended logs do not count (until [`Replica::adopt`] those of a stale replica do).
    #[must_use]
    pub fn lamport(&self) -> u64 {
        self.lamport
    }

    /// All ops that are held, on all branches; also of suspended logs.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// Ops without effect because they break a rule. Ops of unknown kinds and of suspended logs are not counted.
    #[must_use]
    pub fn voided(&self) -> u64 {
        self.voided
    }

    #[must_use]
    pub fn registers(&self) -> usize {
        self.state.registers()
    }

    /// What was merged would be judged otherwise now: a log was suspended, or somebody may not have written what he wrote, or may. The registers show it still.
    #[must_use]
    pub fn stale(&self) -> bool {
        self.stale
    }

    /// Decodes, hashes and checks one segment. Needs no lock: it reads the mesh id only.
    pub fn verify(mesh_id: &Digest, segment: RawSegment) -> Result<VerifiedSegment, Refused> {
        segment.decode()?.verify(mesh_id)
    }

    /// Fits segments onto our branches and onto each other, in order. Changes nothing.
    ///
    /// Refuses segments that were verified for another mesh.
    pub fn chain(&self, verified: &[VerifiedSegment], admit_all: bool) -> Result<ChainOutcome, Refused> {
        chaining::chain(self, verified.iter().enumerate().map(|(index, segment)| Offer { index, segment, branch: None }), admit_all)
    }

    /// Applies segments, in order, and returns what changed. Refuses, changing nothing, when one does not fit on the heads.
    pub fn merge(&mut self, chained: &[Chained]) -> Result<Changes, Refused> {
        self.check_fit(chained)?;
        if self.touches > TOUCHES_MAX {
            self.state.forget_touches();
            self.touches = 1;
        }
        let mut trail = Trail::new(self.touches);
        let applied = self.apply(chained, Some(&mut trail));
        self.touches = trail.touches().1;
        applied?;
        Ok(trail.settle(chained, &self.state))
    }

    /// Chains and applies our own stored segments as far as they verified. What is damaged or follows what is missing is left out and named.
    ///
    /// `branches` says which branch each was stored on, if it is not empty. What would now get another number (because the first segment of a branch
    /// before it is damaged) is stranded, so that ours stay those of the store.
    pub fn load(&mut self, verified: Vec<Result<VerifiedSegment, Refused>>, branches: &[u32]) -> Result<LoadOutcome, Refused> {
        let mut outcome = LoadOutcome::default();
        let mut sound = Vec::with_capacity(verified.len());
        for (index, segment) in verified.into_iter().enumerate() {
            match segment {
                Ok(segment) => sound.push((index, segment)),
                Err(refused) => outcome.damaged.push((index, refused)),
            }
        }
        let offers = sound.iter().map(|(index, segment)| Offer { index: *index, segment, branch: branches.get(*index).copied() });
        let fitted = chaining::chain(self, offers, true)?;
        outcome.stranded = fitted.gaps.iter().map(|gap| gap.index).collect();
        let before = self.ops;
        self.apply(&fitted.chained, None)?;
        outcome.ops = self.ops - before;
        Ok(outcome)
    }

    /// Starts local ops at the end of branch 0 of the key's own log. Refuses an epoch outside 1..2^53-1, and a suspended log.
    pub fn draft(&self, key: SigningKey, epoch: u64) -> Result<Draft, Refused> {
        if !(1..=EPOCH_MAX).contains(&epoch) {
            return Err(Refused::invalid(format!("epoch {epoch} is not within 1..2^53-1")));
        }
        let author = key.public();
        let log = self.logs.find(&author, epoch);
        if log.is_some_and(|log| log.suspended) {
            return Err(Refused::invalid(format!("the log of epoch {epoch} has too many heads and is suspended; open a new epoch")));
        }
        let mut tip = Tip::start(&self.genesis.mesh_id, &author, epoch);
        let mut clock = 0;
        if let Some(branch) = log.and_then(|log| log.branches.first()) {
            (tip.seq, tip.head, clock) = (branch.seq, branch.head, branch.clock);
        }
        Ok(Draft::new(key, self.genesis.clone(), Arc::clone(&self.authority), tip, clock, self.lamport))
    }

    pub(crate) fn log(&self, author: &Key, epoch: u64) -> Option<&Log> {
        self.logs.find(author, epoch)
    }
}
