//! Queues as declared, with the shard they were given. Not here: their messages (`warren-queue`).

use std::fmt;

use warren_types::{NodeId, QueueId, QueueName, Run, ShardId, Table, TopologyIndex, VhostId};

/// A queue's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its identity: never reused, so a name declared again never meets its past.
    pub id: QueueId,
    pub vhost: VhostId,
    pub name: QueueName,
    pub shard: ShardId,
    pub queue_type: QueueType,
    /// Stored and compared; every queue is replicated.
    pub durable: bool,
    pub auto_delete: bool,
    /// Whose it is, if it is exclusive.
    pub owner: Option<QueueOwner>,
    /// As declared, with the defaults that were injected.
    pub arguments: Table,
    /// The index of the command that declared it.
    pub declared_at: TopologyIndex,
    /// The index of the last declare that counted as a use of it; only kept where idle queues expire (features B28).
    pub renewed_at: TopologyIndex,
    /// It has had a consumer; only kept where it goes with its last one (features B25).
    pub had_consumer: bool,
}

impl Queue {
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.owner.is_some()
    }

    /// One consumer is served at a time (`x-single-active-consumer`, features B33).
    #[must_use]
    pub fn is_single_active(&self) -> bool {
        self.arguments.get_bool("x-single-active-consumer") == Some(true)
    }

    /// Whether `user` may use, bind, redeclare or delete it (AMQP 0-9-1: else 405 RESOURCE_LOCKED).
    #[must_use]
    pub fn is_open_to(&self, user: Option<&QueueOwner>) -> bool {
        self.owner.is_none() || self.owner.as_ref() == user
    }
}

/// The declared type (argument `x-queue-type`). Both are the same replicated queue; stored, reported and compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum QueueType {
    #[default]
    Classic,
    Quorum,
}

impl QueueType {
    pub const ALL: [Self; 2] = [Self::Classic, Self::Quorum];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

impl fmt::Display for QueueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose an exclusive queue is: one AMQP connection, or one gRPC client by the id it gives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum QueueOwner {
    Connection {
        node: NodeId,
        run: Run,
        /// Unique within the run of the node.
        connection: u64,
    },
    Client(Box<str>),
}
