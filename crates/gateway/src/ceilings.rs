//! How many queues, exchanges and vhosts the cluster may have, as this node is told (feature D34): what its clients declare beyond that is
//! refused. Not here: limits of a vhost or a user (the topology holds them), connections and channels (`places`).
//!
//! Counted in this node's copy of the topology: declares that come at the same moment may exceed a limit by as many. What the broker
//! makes by itself is counted and not refused.

use warren_topology::{
    CreateVhost, DeclareExchange, DeclareQueue, NewQueueName, ObjectKind, Refusal, TenancyCommand,
    Topology, TopologyCommand,
};

/// `None` = as many as the topology holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ceilings {
    /// Queues of all vhosts.
    pub queues: Option<u64>,
    /// Exchanges of all vhosts, without those that every vhost has.
    pub exchanges: Option<u64>,
    pub vhosts: Option<u64>,
}

/// Objects that a command would add.
#[derive(Default)]
struct Added {
    queues: u64,
    exchanges: u64,
    vhosts: u64,
}

impl Ceilings {
    /// Whether a client's command stays within them. One that adds nothing does.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`].
    pub(crate) fn check(
        self,
        topology: &Topology,
        command: &TopologyCommand,
    ) -> Result<(), Refusal> {
        if self == Self::default() {
            return Ok(());
        }
        let mut added = Added::default();
        added.count(topology, command);
        let own = topology
            .vhosts()
            .map(|it| topology.own_exchange_count(it.id));
        let checks = [
            (
                ObjectKind::Queue,
                self.queues,
                added.queues,
                topology.queue_count(),
            ),
            (
                ObjectKind::Exchange,
                self.exchanges,
                added.exchanges,
                own.sum(),
            ),
            (
                ObjectKind::Vhost,
                self.vhosts,
                added.vhosts,
                topology.vhosts().count(),
            ),
        ];
        for (object, limit, added, there) in checks {
            let Some(limit) = limit.filter(|_| added > 0) else {
                continue;
            };
            let there = u64::try_from(there).unwrap_or(u64::MAX);
            if there.saturating_add(added) > limit {
                return Err(Refusal::LimitReached { object, limit });
            }
        }
        Ok(())
    }
}

impl Added {
    fn count(&mut self, topology: &Topology, command: &TopologyCommand) {
        match command {
            TopologyCommand::DeclareQueue(DeclareQueue { vhost, name, .. }) => {
                let is_there = match name {
                    NewQueueName::Named(name) => topology.queue(*vhost, name.as_str()).is_some(),
                    NewQueueName::Generated { .. } => false,
                };
                self.queues += u64::from(!is_there);
            }
            TopologyCommand::DeclareExchange(DeclareExchange { vhost, name, .. }) => {
                let is_there = topology.exchange(*vhost, name.as_str()).is_some();
                self.exchanges += u64::from(!is_there);
            }
            TopologyCommand::Tenancy(TenancyCommand::CreateVhost(CreateVhost { name, .. })) => {
                self.vhosts += u64::from(topology.vhost(name.as_str()).is_none());
            }
            TopologyCommand::Batch(batch) => {
                for command in &batch.commands {
                    self.count(topology, command);
                }
            }
            TopologyCommand::FormCluster(_)
            | TopologyCommand::UpdateNode(_)
            | TopologyCommand::DeleteExchange(_)
            | TopologyCommand::DeleteQueue(_)
            | TopologyCommand::Bind(_)
            | TopologyCommand::Unbind(_)
            | TopologyCommand::Tenancy(_)
            | TopologyCommand::Placement(_)
            | TopologyCommand::NoteConsumer(_)
            | TopologyCommand::SetPolicy(_)
            | TopologyCommand::DeletePolicy(_)
            | TopologyCommand::FinaliseVersion(_) => {}
        }
    }
}
