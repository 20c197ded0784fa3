//! A command of a later version that no gate held back: replicas stop and name the version they need, the processes and the other groups
//! go on (guarantee G23). Not here: the gates (`leader/batcher`, `tests/cluster`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{Cluster, TestNode};
use warren_raft::ReplicaHealth;
use warren_types::GroupId;

/// Why the node's replica of the topology does not run.
fn cause(node: &TestNode) -> Option<String> {
    match node.broker.topology().group().status().health {
        ReplicaHealth::Rebuilding { cause, .. } | ReplicaHealth::Failed { cause } => Some(cause),
        ReplicaHealth::Running | ReplicaHealth::Stopped => None,
    }
}

#[test]
fn replica_that_meets_an_unknown_command_stops_and_names_the_version_it_needs() {
    let cluster = Cluster::start(2);
    // format_version 1 = 1, finalized_version 2 = 9, command 8 = [field 99, empty].
    let unknown = Bytes::from_static(&[0x08, 1, 0x10, 9, 0x42, 3, 0x9a, 0x06, 0]);
    let leads = |it: &&TestNode| it.broker.topology().group().lease_until().is_some();
    let leader = cluster.nodes.values().find(leads).unwrap();
    let group = leader.broker.topology().group();
    group
        .propose(group.status().leadership.term, &unknown)
        .unwrap();
    // The leader applies it first. When it and another have stopped there is nobody to tell the third that it is committed.
    let id = leader.id;
    cluster.eventually("the leader's replica says what it needs", |it| {
        cause(it.node(id)).is_some_and(|it| {
            it.contains("command 99 is not known to this node")
                && it.contains("needs version 9 of the software")
        })
    });
    for node in cluster.nodes.values() {
        let status = node.broker.status();
        let mut shards = status.iter().filter(|it| it.group != GroupId::TOPOLOGY);
        assert!(shards.all(|it| it.health == ReplicaHealth::Running));
    }
}
