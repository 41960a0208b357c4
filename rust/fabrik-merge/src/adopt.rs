//! Taking over the content of a replica that was loaded without a log's effect.

use fabrik_op::Refused;

use crate::change::{Change, Changes};
use crate::replica::Replica;

impl Replica {
    /// Takes over the content of `fresh`, which holds the same heads and knew what is suspended when it was loaded; what changed by it, net.
    ///
    /// Refuses, changing nothing, when its heads or its suspended logs are not ours, or when it is stale itself. `fresh` is empty afterwards.
    pub fn adopt(&mut self, fresh: &mut Self) -> Result<Changes, Refused> {
        if fresh.genesis.mesh_id != self.genesis.mesh_id {
            return Err(Refused::invalid("the replica to adopt is of another mesh"));
        }
        if fresh.stale {
            return Err(Refused::invalid("the replica to adopt is stale itself: load one that knows all suspended logs"));
        }
        if !self.heads().eq(fresh.heads()) || !self.suspended().eq(fresh.suspended()) {
            return Err(Refused::invalid("the replica to adopt holds other heads"));
        }
        let changes = Change::between((&self.state, &self.logs), (&fresh.state, &fresh.logs));
        let empty = Self::new(self.genesis.clone());
        *self = std::mem::replace(fresh, empty);
        Ok(changes.into())
    }
}
