//! A cluster of one node for unit tests. Not here: clusters at work (`tests/`).

use warren_topology::{Addresses, FormCluster, Node, Software, TopologyCommand};
use warren_types::{
    ClusterId, ClusterVersion, Incarnation, KnownVersions, Member, NodeId, ReplicaId,
};

/// `newest`: of the versions that the node knows.
pub(crate) fn form_cluster(newest: u32) -> TopologyCommand {
    let node = Node {
        id: NodeId(1),
        incarnation: Incarnation(1),
        addresses: Addresses::default(),
        zone: "".into(),
        leaving: false,
        former: Vec::new(),
        software: Software {
            versions: KnownVersions {
                oldest: ClusterVersion::FIRST,
                newest: ClusterVersion(newest),
            },
            ..Software::default()
        },
    };
    let member = Member {
        replica: ReplicaId(1),
        node: node.id,
    };
    TopologyCommand::FormCluster(FormCluster {
        cluster: ClusterId(1),
        name: "test".into(),
        version: ClusterVersion::FIRST,
        nodes: vec![node],
        topology_members: vec![member],
        shards: 1,
        replication_factor: 1,
    })
}
