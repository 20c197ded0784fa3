//! The cluster and its nodes, as the topology knows them. Not here: whether a node is alive (`raft::Peers`), where shards are (`placement`).

use warren_types::{ClusterId, Incarnation, NodeId};

/// The cluster as it was formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub id: ClusterId,
    pub name: Box<str>,
    /// The version all nodes are known to speak; formats of later ones are not written.
    pub finalised_version: u32,
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
