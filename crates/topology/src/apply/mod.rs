//! Applies committed commands to the topology. Not here: IO, clocks, randomness, logging, failure; who may do it.
//! Same topology, index and command give the same reply and the same topology on every node. One file per command.

mod bind;
mod change;
mod declare_exchange;
mod declare_queue;
mod delete_exchange;
mod delete_policy;
mod delete_queue;
mod finalise_version;
mod form_cluster;
mod note_consumer;
mod placement;
mod set_policy;
mod tenancy;
mod unbind;
mod update_node;

use warren_types::{ExchangeName, QueueName, TopologyIndex, VhostId};

use crate::{
    command::TopologyCommand,
    exchange::Exchange,
    queue::{Queue, QueueOwner},
    reply::{Refusal, TopologyReply},
    topology::{Space, Topology},
};

/// More queues, exchanges or bindings than these are refused: the topology is in the memory of every node.
pub(crate) const QUEUES_MAX: usize = 1_000_000;
pub(crate) const EXCHANGES_PER_VHOST_MAX: usize = 100_000;
pub(crate) const BINDINGS_MAX: usize = 4_000_000;

impl Topology {
    /// Runs one committed command. A command that makes no sense (any more) is a refusal, and changes nothing but the index.
    pub fn apply(&mut self, at: TopologyIndex, command: TopologyCommand) -> TopologyReply {
        self.advance(at);
        let reply = match command {
            TopologyCommand::FormCluster(it) => form_cluster::apply(self, it),
            TopologyCommand::UpdateNode(it) => update_node::apply(self, it),
            TopologyCommand::DeclareExchange(it) => declare_exchange::apply(self, it),
            TopologyCommand::DeleteExchange(it) => delete_exchange::apply(self, it),
            TopologyCommand::DeclareQueue(it) => declare_queue::apply(self, it),
            TopologyCommand::DeleteQueue(it) => delete_queue::apply(self, it),
            TopologyCommand::Bind(it) => bind::apply(self, it),
            TopologyCommand::Unbind(it) => unbind::apply(self, it),
            TopologyCommand::Tenancy(it) => tenancy::apply(self, it),
            TopologyCommand::Placement(it) => placement::apply(self, it),
            TopologyCommand::Batch(it) => tenancy::batch::apply(self, at, it),
            TopologyCommand::NoteConsumer(it) => note_consumer::apply(self, it),
            TopologyCommand::SetPolicy(it) => set_policy::apply(self, it),
            TopologyCommand::DeletePolicy(it) => delete_policy::apply(self, it),
            TopologyCommand::FinaliseVersion(it) => finalise_version::apply(self, it),
        };
        reply.unwrap_or_else(TopologyReply::Refused)
    }

    /// What `command` would be answered if it were applied now. Changes nothing; ids in the answer are not promised.
    #[must_use]
    pub fn check(&self, command: TopologyCommand) -> TopologyReply {
        let mut copy = self.clone();
        copy.apply(self.index, command)
    }

    pub(crate) fn formed(&self) -> Result<(), Refusal> {
        self.cluster
            .is_some()
            .then_some(())
            .ok_or(Refusal::ClusterNotFormed)
    }

    fn space(&self, vhost: VhostId) -> Result<&Space, Refusal> {
        self.vhosts
            .get(&vhost)
            .ok_or(Refusal::NoSuchVhost { vhost })
    }
}

impl Space {
    fn exchange(&self, name: &ExchangeName) -> Result<&Exchange, Refusal> {
        let found = self.exchanges.get(name).map(|it| &**it);
        found.ok_or_else(|| Refusal::NoSuchExchange {
            vhost: self.vhost.name.clone(),
            exchange: name.clone(),
        })
    }

    /// The queue, if there is one and it is open to `requester`.
    fn queue(&self, name: &QueueName, requester: Option<&QueueOwner>) -> Result<&Queue, Refusal> {
        match self.queues.get(name) {
            Some(queue) if queue.is_open_to(requester) => Ok(queue),
            Some(_) => Err(Refusal::ResourceLocked {
                vhost: self.vhost.name.clone(),
                queue: name.clone(),
            }),
            None => Err(Refusal::NoSuchQueue {
                vhost: self.vhost.name.clone(),
                queue: name.clone(),
            }),
        }
    }
}

/// Names that only the broker gives (features B2, C22, C25).
fn is_reserved(name: &str) -> bool {
    name.starts_with("amq.")
}
