//! Forming the cluster, placement, members (replication section 6). Not here: exchanges, queues, bindings (`behaviour.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod support;

use support::*;
use warren_topology::{
    Addresses, ClusterFault, Declared, Refusal, Software, Topology, TopologyCommand, TopologyReply,
    UpdateNode,
};
use warren_types::{ClusterVersion, GroupId, Incarnation, NodeId, ReplicaId, ShardId};

fn refused(reply: TopologyReply) -> Refusal {
    match reply {
        TopologyReply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn form_cluster_places_every_shard_on_three_nodes_and_spreads_leaders() {
    let mut topology = Topology::new();
    let command = TopologyCommand::FormCluster(form(5, 10));
    let reply = run(&mut topology, command.clone());
    assert_eq!(reply, TopologyReply::ClusterFormed(Declared::Created));
    assert_eq!(topology.shards().count(), 10);

    let mut replicas = std::collections::BTreeSet::new();
    let mut per_node = std::collections::BTreeMap::<NodeId, (u32, u32)>::new();
    for placement in topology.placements() {
        for (place, member) in placement.members.iter().enumerate() {
            assert!(replicas.insert(member.replica), "a replica id came twice");
            if placement.group != GroupId::TOPOLOGY {
                let load = per_node.entry(member.node).or_default();
                load.0 += 1;
                load.1 += u32::from(place == 0);
            }
        }
    }
    let shard = topology.placement(ShardId(3).into()).unwrap();
    assert_eq!(shard.members.len(), 3);
    assert!(
        per_node.values().all(|load| *load == (6, 2)),
        "uneven: {per_node:?}"
    );
    assert_eq!(
        replicas.iter().copied().collect::<Vec<_>>(),
        (1..=35).map(ReplicaId).collect::<Vec<_>>()
    );

    let again = run(&mut topology, command);
    assert_eq!(again, TopologyReply::ClusterFormed(Declared::Existed));
    let mut other = form(3, 4);
    other.cluster = warren_types::ClusterId(8);
    assert!(matches!(
        refused(run(&mut topology, TopologyCommand::FormCluster(other))),
        Refusal::ClusterFormedOtherwise { .. }
    ));
}

#[test]
fn form_cluster_with_zones_puts_replicas_into_distinct_zones() {
    let mut command = form(6, 8);
    for (at, node) in command.nodes.iter_mut().enumerate() {
        node.zone = ["a", "a", "a", "b", "b", "c"][at].into();
    }
    let mut topology = Topology::new();
    run(&mut topology, TopologyCommand::FormCluster(command));
    for placement in topology.placements().filter(|it| it.group.0 != 0) {
        let zones: std::collections::BTreeSet<_> = placement
            .members
            .iter()
            .map(|it| topology.node(it.node).unwrap().zone.clone())
            .collect();
        assert_eq!(zones.len(), 3);
    }
}

#[test]
fn form_cluster_with_nonsense_is_refused_and_changes_nothing() {
    for (change, fault) in [
        (
            Box::new(|it: &mut warren_topology::FormCluster| it.nodes.clear())
                as Box<dyn Fn(&mut warren_topology::FormCluster)>,
            ClusterFault::NoNodes,
        ),
        (
            Box::new(|it| it.nodes[1].id = NodeId(1)),
            ClusterFault::NodeNumbers,
        ),
        (Box::new(|it| it.shards = 0), ClusterFault::Shards),
        (
            Box::new(|it| it.replication_factor = 0),
            ClusterFault::ReplicationFactor,
        ),
        (
            Box::new(|it| it.topology_members[0].node = NodeId(9)),
            ClusterFault::TopologyMembers,
        ),
        (
            Box::new(|it| it.version = ClusterVersion(2)),
            ClusterFault::Version,
        ),
    ] {
        let mut command = form(3, 4);
        change(&mut command);
        let mut topology = Topology::new();
        let reply = run(&mut topology, TopologyCommand::FormCluster(command));
        assert_eq!(refused(reply), Refusal::ClusterInvalid { reason: fault });
        assert!(topology.cluster().is_none());
    }
}

#[test]
fn declare_before_the_cluster_is_formed_is_refused() {
    let mut topology = Topology::new();
    let reply = run(&mut topology, declare_queue("q"));
    assert_eq!(refused(reply), Refusal::ClusterNotFormed);
    assert_eq!(topology.index().0, 1);
}

#[test]
fn update_node_of_another_incarnation_is_refused() {
    let mut topology = formed();
    let mut command = UpdateNode {
        node: NodeId(2),
        incarnation: Incarnation(102),
        addresses: Addresses {
            node: "h:1".into(),
            grpc: "h:2".into(),
            amqp: "h:3".into(),
        },
        zone: "z".into(),
        software: Software::default(),
    };
    let reply = run(&mut topology, TopologyCommand::UpdateNode(command.clone()));
    assert_eq!(reply, TopologyReply::NodeUpdated);
    assert_eq!(&*topology.node(NodeId(2)).unwrap().addresses.amqp, "h:3");
    command.incarnation = Incarnation(5);
    let reply = run(&mut topology, TopologyCommand::UpdateNode(command.clone()));
    assert_eq!(
        refused(reply),
        Refusal::OtherIncarnation { node: NodeId(2) }
    );
    command.node = NodeId(9);
    let reply = run(&mut topology, TopologyCommand::UpdateNode(command));
    assert_eq!(refused(reply), Refusal::NoSuchNode { node: NodeId(9) });
}
