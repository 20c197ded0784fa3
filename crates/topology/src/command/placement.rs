//! Commands about nodes and where replicas are. Not here: what they do (`apply/placement`), which are wanted (`plan`).
//!
//! A placement says how a group is to be; the group's leader makes its membership so and says when it is done. Replica ids are given
//! out when a command is applied, and never again.

use warren_types::{ClusterVersion, Generation, GroupId, Incarnation, NodeId, ReplicaId};

use crate::{cluster::Node, placement::Copies};

/// Stored for ever: never change what a command means, add a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementCommand {
    AdmitNode(AdmitNode),
    SetLeaving(SetLeaving),
    ForgetNode(ForgetNode),
    MoveReplica(MoveReplica),
    SetTopologyVoters(SetTopologyVoters),
    PlacementSettled(PlacementSettled),
    SetCopies(SetCopies),
    UndoMove(UndoMove),
}

impl PlacementCommand {
    pub(super) fn since(&self) -> ClusterVersion {
        match self {
            Self::AdmitNode(_)
            | Self::SetLeaving(_)
            | Self::ForgetNode(_)
            | Self::MoveReplica(_)
            | Self::SetTopologyVoters(_)
            | Self::PlacementSettled(_) => ClusterVersion::FIRST,
            Self::SetCopies(_) => SetCopies::SINCE,
            Self::UndoMove(_) => UndoMove::SINCE,
        }
    }
}

/// A node joins: it gets a replica of the topology that learns. A known node with a new directory gets new replicas in the place of
/// those that are lost with the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmitNode {
    pub node: Node,
    /// The incarnation that is gone for good; `None`: the node is new.
    pub replaces: Option<Incarnation>,
}

/// A node is to have no replicas, so that it can be forgotten; or is to stay after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetLeaving {
    pub node: NodeId,
    pub leaving: bool,
}

/// A node that leaves and has no replicas but one of the topology that learns is a member no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetNode {
    pub node: NodeId,
}

/// A replica of a shard is added, removed, or both at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveReplica {
    pub group: GroupId,
    /// The placement this was decided by; another one = refused.
    pub generation: Generation,
    pub add: Option<NodeId>,
    pub remove: Option<ReplicaId>,
}

/// Which nodes vote on the topology; the others learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetTopologyVoters {
    /// The placement this was decided by; another one = refused.
    pub generation: Generation,
    pub voters: Vec<NodeId>,
}

/// The group's membership is as its placement says: what is kept of former replicas can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementSettled {
    pub group: GroupId,
    pub generation: Generation,
}

/// How many copies a shard is to have; and one that comes or goes for it now, on a node that somebody has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCopies {
    pub group: GroupId,
    /// The placement this was decided by; another one = refused.
    pub generation: Generation,
    pub copies: Copies,
    pub add: Option<NodeId>,
    /// While a replica is on its way, only that one.
    pub remove: Option<ReplicaId>,
}

impl SetCopies {
    pub(crate) const SINCE: ClusterVersion = ClusterVersion(2);
}

/// A replica that was to go votes on, instead of one that may never come: while the group's change is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoMove {
    pub group: GroupId,
    /// The placement this was decided by; another one = refused.
    pub generation: Generation,
    /// The one that goes.
    pub gone: ReplicaId,
    /// The one that stays after all.
    pub back: ReplicaId,
}

impl UndoMove {
    pub(crate) const SINCE: ClusterVersion = ClusterVersion(2);
}
