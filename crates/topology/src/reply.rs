//! What a topology command is answered: equal on all replicas. Not here: wire codes (`gateway`, one function per protocol).

use std::fmt;

use thiserror::Error;
use warren_types::{
    ClusterId, ClusterVersion, ExchangeId, ExchangeName, KnownVersions, NodeId, QueueId, QueueName,
    ShardId, UserName, VhostId, VhostName,
};

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
    /// Whether there is such a queue.
    ConsumerNoted {
        existed: bool,
    },
    PolicySet(Declared),
    /// Whether there was such a policy.
    PolicyDeleted {
        existed: bool,
    },
    Refused(Refusal),
    VhostCreated {
        vhost: VhostId,
        declared: Declared,
    },
    UserCreated(Declared),
    /// Of the commands that set, replace or remove something of a vhost or user: whether anything is different now.
    Done {
        changed: bool,
    },
    /// One per command of the batch, in its order.
    Batch(Vec<TopologyReply>),
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
    Vhost,
    User,
    Permission,
    Parameter,
    Policy,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Binding => "binding",
            Self::Vhost => "vhost",
            Self::User => "user",
            Self::Permission => "permission",
            Self::Parameter => "parameter",
            Self::Policy => "policy",
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
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
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
    /// 530.
    #[error("vhost '{vhost}' not found")]
    NoVhostNamed { vhost: VhostName },
    #[error("no user '{user}'")]
    NoSuchUser { user: UserName },
    #[error("user '{user}' exists already, and is another")]
    UserExists { user: UserName },
    #[error("vhost '{vhost}' is protected from deletion")]
    VhostProtected { vhost: VhostName },
    /// 406. The vhost's own limit.
    #[error("vhost '{vhost}' may have no more than {limit} objects of the kind {object}")]
    VhostLimitReached {
        vhost: VhostName,
        object: ObjectKind,
        limit: u64,
    },
    #[error(
        "a batch holds a batch, forms the cluster, or has more than {} commands",
        crate::Batch::COMMANDS_MAX
    )]
    BatchInvalid,
    #[error("nodes or replicas cannot be changed so: {reason}")]
    PlacementRefused { reason: PlacementFault },
    #[error(
        "version {version} cannot be finalised: the software of node {node} knows {knows} only"
    )]
    VersionNotKnown {
        version: ClusterVersion,
        node: NodeId,
        knows: KnownVersions,
    },
    #[error(
        "version {version} cannot be finalised: the cluster has finalised version {finalised}, and never goes back"
    )]
    VersionGoesBack {
        version: ClusterVersion,
        finalised: ClusterVersion,
    },
    #[error(
        "the software of node {node} knows {knows} only, and the cluster has finalised version {finalised}: start the node with newer software"
    )]
    SoftwareNotFit {
        node: NodeId,
        knows: KnownVersions,
        finalised: ClusterVersion,
    },
}

/// What is wrong with a [`crate::PlacementCommand`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Hash)]
pub enum PlacementFault {
    #[error("there is no such group")]
    NoSuchGroup,
    #[error("there is no such replica")]
    NoSuchReplica,
    /// Decided by an older placement.
    #[error("the placement has changed meanwhile")]
    Stale,
    #[error("a change of the group is under way")]
    Changing,
    #[error("the node has or had a replica there")]
    HasReplicas,
    #[error("the node is leaving")]
    Leaving,
    #[error("the node is not leaving")]
    NotLeaving,
    #[error("no other node would be left")]
    LastNode,
    #[error("there are enough nodes")]
    TooManyNodes,
    #[error("zero is no node's number")]
    NodeNumber,
    #[error("nothing would be left, or nothing is asked for")]
    Nothing,
    #[error(
        "the node's directory was replaced too often: remove the node, and add it under another number"
    )]
    TooManyDirectories,
    #[error("a shard has as many copies as there can be nodes, and one at least")]
    Copies,
}

impl PlacementFault {
    /// All of them, each at the place that is its number between nodes; only added to at the end.
    pub const ALL: [Self; 13] = [
        Self::NoSuchGroup,
        Self::NoSuchReplica,
        Self::Stale,
        Self::Changing,
        Self::HasReplicas,
        Self::Leaving,
        Self::NotLeaving,
        Self::LastNode,
        Self::TooManyNodes,
        Self::NodeNumber,
        Self::Nothing,
        Self::TooManyDirectories,
        Self::Copies,
    ];
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
    #[error("the software of a node does not know the version")]
    Version,
}
