//! What a topology command is answered: equal on all replicas. Not here: wire codes (`gateway`, one function per protocol).

use std::fmt;

use thiserror::Error;
use warren_types::{
    ClusterId, ExchangeId, ExchangeName, NodeId, QueueId, QueueName, ShardId, VhostId, VhostName,
};

use crate::exchange::ExchangeKind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyReply {
    ClusterFormed(Declared),
    NodeUpdated,
    ExchangeDeclared {
        exchange: ExchangeId,
        declared: Declared,
    },
    /// `None`: there was none.
    ExchangeDeleted {
        exchange: Option<ExchangeId>,
    },
    QueueDeclared {
        queue: QueueId,
        shard: ShardId,
        /// The server's choice if it was left to it.
        name: QueueName,
        declared: Declared,
    },
    /// `None`: there was none.
    QueueDeleted {
        queue: Option<(QueueId, ShardId)>,
    },
    Bound(Declared),
    /// Whether there was such a binding.
    Unbound {
        existed: bool,
    },
    Refused(Refusal),
}

/// Whether a declare made something or found it there, equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Declared {
    Created,
    Existed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ObjectKind {
    Exchange,
    Queue,
    Binding,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Binding => "binding",
        })
    }
}

/// Why a command changed nothing. The number in front is AMQP 0-9-1's reply code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// 541: not yet.
    #[error("the cluster is not formed yet")]
    ClusterNotFormed,
    #[error("the node belongs to the cluster {cluster} already")]
    ClusterFormedOtherwise { cluster: ClusterId },
    #[error("a cluster cannot be formed so: {reason}")]
    ClusterInvalid { reason: ClusterFault },
    #[error("node {node} is not a member of the cluster")]
    NoSuchNode { node: NodeId },
    #[error("node {node} is known under another identity: its data directory was replaced")]
    OtherIncarnation { node: NodeId },
    /// 530.
    #[error("no vhost {vhost}")]
    NoSuchVhost { vhost: VhostId },
    /// 404.
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    NoSuchExchange {
        vhost: VhostName,
        exchange: ExchangeName,
    },
    /// 404.
    #[error("no queue '{queue}' in vhost '{vhost}'")]
    NoSuchQueue { vhost: VhostName, queue: QueueName },
    /// 403.
    #[error("{object} name '{name}' contains reserved prefix 'amq.*'")]
    NameReserved { object: ObjectKind, name: Box<str> },
    /// 403.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// 406.
    #[error("exchange type '{kind}' is not available")]
    ExchangeTypeUnavailable { kind: ExchangeKind },
    /// 406.
    #[error("queue type '{name}' is not available")]
    QueueTypeUnavailable { name: Box<str> },
    /// 406.
    #[error(
        "inequivalent arg '{argument}' for {object} '{name}' in vhost '{vhost}': received {received} but current is {current}"
    )]
    InequivalentArgument {
        object: ObjectKind,
        name: Box<str>,
        vhost: VhostName,
        argument: Box<str>,
        received: Box<str>,
        current: Box<str>,
    },
    /// 406.
    #[error("invalid arg '{argument}' for {object} '{name}': {reason}")]
    InvalidArgument {
        object: ObjectKind,
        name: Box<str>,
        argument: Box<str>,
        reason: Box<str>,
    },
    /// 405.
    #[error(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}': it belongs to another connection"
    )]
    ResourceLocked { vhost: VhostName, queue: QueueName },
    /// 406.
    #[error("an exclusive queue needs an owner")]
    ExclusiveWithoutOwner,
    /// 406.
    #[error("exchange '{exchange}' in vhost '{vhost}' in use")]
    ExchangeInUse {
        vhost: VhostName,
        exchange: ExchangeName,
    },
    /// 406.
    #[error("no more than {limit} objects of the kind {object} are allowed")]
    LimitReached { object: ObjectKind, limit: u64 },
}

/// What is wrong with a [`crate::FormCluster`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Hash)]
pub enum ClusterFault {
    #[error("there are no nodes")]
    NoNodes,
    #[error("a node is named twice, or is zero")]
    NodeNumbers,
    #[error("the number of shards is out of range")]
    Shards,
    #[error("the replication factor is zero")]
    ReplicationFactor,
    #[error("a topology replica is named twice, is zero, or is on an unknown node")]
    TopologyMembers,
}
