//! The cluster and its nodes, as the topology knows them. Not here: whether a node is alive (`raft::Peers`), where shards are (`placement`).

use warren_types::{ClusterId, ClusterVersion, Incarnation, KnownVersions, NodeId};

/// The cluster as it was formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub id: ClusterId,
    pub name: Box<str>,
    /// What needs a later version is not proposed. All nodes know this one, and it never goes back.
    pub finalised_version: ClusterVersion,
    /// Copies each shard is to have; fewer if there are fewer nodes.
    pub replication_factor: u32,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub incarnation: Incarnation,
    pub addresses: Addresses,
    /// Failure domain; empty = none given.
    pub zone: Box<str>,
    /// It is to have no replicas, and then to be forgotten.
    pub leaving: bool,
    /// The incarnations of its directories that were replaced, oldest first: none of them is taken in again.
    pub former: Vec<Incarnation>,
    /// As it said when it last started.
    pub software: Software,
}

/// What a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Software {
    pub versions: KnownVersions,
    /// For people; empty = never told.
    pub name: Box<str>,
}

impl Default for Software {
    /// Of a node that never told.
    fn default() -> Self {
        Self {
            versions: KnownVersions::FIRST,
            name: "".into(),
        }
    }
}

/// Where a node listens, as `host:port` that others can reach; empty = not served.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Addresses {
    /// For other nodes.
    pub node: Box<str>,
    /// For gRPC clients.
    pub grpc: Box<str>,
    /// For AMQP clients.
    pub amqp: Box<str>,
}
