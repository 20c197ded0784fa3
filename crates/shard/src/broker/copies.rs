//! Changes how many copies a shard has, or where, as somebody who runs the cluster asks any node. Not here: what can be asked and what becomes
//! of it (`warren_topology::plan`), carrying it out (`members`).

use std::sync::Arc;

use thiserror::Error;
use tracing::info;
use warren_topology::plan::{CopiesRefused, CopiesWish, copies_change};
use warren_topology::{
    PlacementCommand, PlacementFault, Refusal, SetCopies, Topology, TopologyCommand, TopologyReply,
};
use warren_types::GroupId;

use super::Broker;
use crate::topology::handle::TopologyError;

/// The cluster changes placements by itself, too: what was decided by an old one is decided anew so often.
const ATTEMPTS_MAX: usize = 5;

/// Why copies stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CopiesError {
    #[error(transparent)]
    Refused(#[from] CopiesRefused),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// What was seen had changed when it was proposed.
    #[error(transparent)]
    Placement(Refusal),
}

impl Broker {
    /// What would be proposed, by a fresh copy of the topology, which is given as well; `None`: it is so already. Changes nothing.
    ///
    /// # Errors
    /// It cannot be.
    pub async fn plan_copies(
        &self,
        group: GroupId,
        wish: CopiesWish,
    ) -> Result<(Arc<Topology>, Option<SetCopies>), CopiesError> {
        let topology = self.inner.topology.fresh().await?;
        let change = copies_change(&topology, &self.observe(), group, wish)?;
        if let Some(change) = &change {
            self.inner.topology.check_version(&command(change))?;
        }
        Ok((topology, change))
    }

    /// Has the copies of a shard changed: the topology knows it when this returns, the cluster does it then. False: it is so already.
    ///
    /// # Errors
    /// Nothing was changed, unless it is [`TopologyError::OutcomeUnknown`].
    pub async fn change_copies(
        &self,
        group: GroupId,
        wish: CopiesWish,
    ) -> Result<bool, CopiesError> {
        let mut attempt = 1;
        loop {
            let (_, change) = self.plan_copies(group, wish).await?;
            let Some(change) = change else {
                return Ok(false);
            };
            let reply = self.inner.topology.propose(command(&change), "").await?;
            let TopologyReply::Refused(refusal) = reply else {
                info!(?change, "copies of a shard change, as asked");
                return Ok(true);
            };
            let reason = PlacementFault::Stale;
            if refusal != (Refusal::PlacementRefused { reason }) || attempt == ATTEMPTS_MAX {
                return Err(CopiesError::Placement(refusal));
            }
            attempt += 1;
        }
    }
}

fn command(change: &SetCopies) -> TopologyCommand {
    TopologyCommand::Placement(PlacementCommand::SetCopies(change.clone()))
}
