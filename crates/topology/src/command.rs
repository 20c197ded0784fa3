//! What the topology group's log tells the topology. Not here: what a command does (`apply`, one file per command), its bytes (`codec`).
//!
//! Commands are idempotent by content: a repeated declare finds its object, a repeated delete finds nothing.

mod placement;
mod tenancy;

pub use placement::{
    AdmitNode, ForgetNode, MoveReplica, PlacementCommand, PlacementSettled, SetCopies, SetLeaving,
    SetTopologyVoters, UndoMove,
};
pub use tenancy::{
    Batch, ClearParameter, ClearPermission, ClearTopicPermission, CreateUser, CreateVhost,
    DeleteUser, DeleteVhost, PasswordChange, SetParameter, SetPermission, SetTopicPermission,
    SetVhostLimits, TenancyCommand, UpdateUser, UpdateVhost,
};

use warren_types::{
    ClusterId, ClusterVersion, ExchangeName, Incarnation, Member, NodeId, QueueId, QueueName,
    RoutingKey, Table, VhostId,
};

use crate::{
    cluster::{Addresses, Node, Software},
    exchange::ExchangeKind,
    policy::{ApplyTo, PolicyKind},
    queue::QueueOwner,
};

/// Stored for ever: never change what a command means, add a new one.
#[derive(Clone, Debug, PartialEq)]
pub enum TopologyCommand {
    FormCluster(FormCluster),
    UpdateNode(UpdateNode),
    DeclareExchange(DeclareExchange),
    DeleteExchange(DeleteExchange),
    DeclareQueue(DeclareQueue),
    DeleteQueue(DeleteQueue),
    Bind(Bind),
    Unbind(Unbind),
    Tenancy(TenancyCommand),
    Placement(PlacementCommand),
    Batch(Batch),
    NoteConsumer(NoteConsumer),
    SetPolicy(SetPolicy),
    DeletePolicy(DeletePolicy),
    FinaliseVersion(FinaliseVersion),
}

impl TopologyCommand {
    /// The version that a cluster must have finalised before this is proposed. A new command, or a new field of one, needs a new
    /// version.
    #[must_use]
    pub fn since(&self) -> ClusterVersion {
        match self {
            #[cfg(feature = "next-version")]
            Self::DeclareQueue(it) if it.arguments.get(NEXT_NOTE).is_some() => ClusterVersion(3),
            Self::FormCluster(_)
            | Self::UpdateNode(_)
            | Self::DeclareExchange(_)
            | Self::DeleteExchange(_)
            | Self::DeclareQueue(_)
            | Self::DeleteQueue(_)
            | Self::Bind(_)
            | Self::Unbind(_)
            | Self::NoteConsumer(_)
            | Self::SetPolicy(_)
            | Self::DeletePolicy(_)
            | Self::FinaliseVersion(_) => ClusterVersion::FIRST,
            Self::Tenancy(it) => it.since(),
            Self::Placement(it) => it.since(),
            Self::Batch(it) => {
                let needed = it.commands.iter().map(Self::since).max();
                needed.unwrap_or(ClusterVersion::FIRST)
            }
        }
    }
}

/// An argument of queues that the next version adds, as far as tests of upgrades are concerned.
#[cfg(feature = "next-version")]
const NEXT_NOTE: &str = "x-next-note";

/// Names the members and places all shards. Once in a cluster's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormCluster {
    pub cluster: ClusterId,
    pub name: Box<str>,
    /// The version the cluster begins with.
    pub version: ClusterVersion,
    pub nodes: Vec<Node>,
    /// The topology group's replicas, which exist before anything can be applied. Other replicas get higher ids.
    pub topology_members: Vec<Member>,
    pub shards: u32,
    pub replication_factor: u32,
}

/// A node says where it listens now, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateNode {
    pub node: NodeId,
    /// Must be the member's: a wiped disk cannot speak for the old one.
    pub incarnation: Incarnation,
    pub addresses: Addresses,
    pub zone: Box<str>,
    /// Must know the version that the cluster has finalised.
    pub software: Software,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclareExchange {
    pub vhost: VhostId,
    pub name: ExchangeName,
    pub kind: ExchangeKind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteExchange {
    pub vhost: VhostId,
    pub name: ExchangeName,
    /// Refuse if it has bindings.
    pub if_unused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclareQueue {
    pub vhost: VhostId,
    pub name: NewQueueName,
    pub durable: bool,
    pub auto_delete: bool,
    /// It becomes `requester`'s.
    pub exclusive: bool,
    pub arguments: Table,
    /// Who asks; foreign exclusive queues are closed to it.
    pub requester: Option<QueueOwner>,
}

/// What a queue is to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewQueueName {
    Named(QueueName),
    /// Named by the server: the prefix, then `token` in letters and digits. The proposer draws the token at random, so that the
    /// same command proposed twice makes one queue.
    Generated {
        /// At most [`NewQueueName::PREFIX_BYTES_MAX`]; `None` = [`NewQueueName::PREFIX`].
        prefix: Option<QueueName>,
        token: u128,
    },
}

impl NewQueueName {
    pub const PREFIX: &'static str = "amq.gen-";
    pub const PREFIX_BYTES_MAX: usize = 64;
}

/// A missing queue is a success. Whether it is in use or empty is its shard leader's to say, before this is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteQueue {
    pub vhost: VhostId,
    pub name: QueueName,
    /// Only this one: a queue declared anew under the name stays.
    pub only: Option<QueueId>,
    pub requester: Option<QueueOwner>,
}

/// What a binding is to lead to, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindTo {
    Queue(QueueName),
    Exchange(ExchangeName),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub vhost: VhostId,
    pub source: ExchangeName,
    pub to: BindTo,
    pub routing_key: RoutingKey,
    pub arguments: Table,
    pub requester: Option<QueueOwner>,
}

/// A missing binding, exchange or queue is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbind {
    pub vhost: VhostId,
    pub source: ExchangeName,
    pub to: BindTo,
    pub routing_key: RoutingKey,
    pub arguments: Table,
    pub requester: Option<QueueOwner>,
}

/// An auto-delete queue has had a consumer: from now on it goes with the last one. One that is gone is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteConsumer {
    pub queue: QueueId,
}

/// Creates a policy or replaces the one of its kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPolicy {
    pub vhost: VhostId,
    pub kind: PolicyKind,
    pub name: Box<str>,
    pub pattern: Box<str>,
    pub apply_to: ApplyTo,
    pub priority: i32,
    pub definition: Table,
}

/// A missing one is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletePolicy {
    pub vhost: VhostId,
    pub kind: PolicyKind,
    pub name: Box<str>,
}

/// Features up to this version may be used. Every member must know it; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinaliseVersion {
    pub version: ClusterVersion,
}
