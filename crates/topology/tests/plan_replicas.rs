//! Laws of the placement of replicas: a cluster whose nodes come, go, are lost and come back blank is played against the planner.
//! Not here: leaders (`plan_leaders.rs`), copies that somebody asks for (`plan_copies.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;
use support::*;
use warren_topology::plan::{Condition, Limits, next_changes};
use warren_topology::{
    AdmitNode, PlacementCommand, PlacementFault, Refusal, SetLeaving, TopologyReply,
};
use warren_types::{GroupId, Incarnation, NodeId, ReplicaId};
use world::{World, events, upgrade};

#[test]
fn cluster_grows_to_five_and_shrinks_to_three() {
    let mut world = World::new(3, 16);
    world.settle();
    let before = world.topology.to_parts();
    assert_eq!(
        before.next_replica,
        ReplicaId(3 + 48 + 1),
        "three nodes: nothing moves"
    );
    world.admit(4, 4);
    world.admit(5, 5);
    world.settle();
    world.check_whole();
    let voters = &world.topology.placement(GroupId::TOPOLOGY).unwrap().members;
    assert_eq!(voters.len(), 5);
    for node in [1, 2] {
        let leaving = SetLeaving {
            node: NodeId(node),
            leaving: true,
        };
        world.run(PlacementCommand::SetLeaving(leaving));
        world.settle();
        assert!(
            world.topology.node(NodeId(node)).is_none(),
            "node {node} is not forgotten"
        );
    }
    world.check_whole();
    assert_eq!(world.topology.nodes().count(), 3);
}

#[test]
fn lost_node_is_replaced_when_there_is_another_and_not_before() {
    let mut world = World::new(3, 8);
    world.nodes.insert(NodeId(2), Condition::Lost);
    world.settle();
    let moved = world
        .topology
        .placements()
        .any(|it| it.generation.0 > 1 && it.group.shard().is_some());
    assert!(!moved, "there is nowhere to go");
    let voters = |world: &World| -> Vec<NodeId> {
        let own = world.topology.placement(GroupId::TOPOLOGY).unwrap();
        own.members.iter().map(|it| it.node).collect()
    };
    assert_eq!(voters(&world).len(), 3, "a lost voter is not just dropped");
    world.admit(4, 4);
    world.settle();
    for placement in world
        .topology
        .placements()
        .filter(|it| it.group.shard().is_some())
    {
        assert!(placement.members.iter().all(|it| it.node != NodeId(2)));
        assert_eq!(placement.members.len(), 3);
    }
    assert_eq!(voters(&world), [1, 3, 4].map(NodeId));
}

#[test]
fn silent_node_is_waited_for() {
    let mut world = World::new(4, 8);
    world.nodes.insert(NodeId(2), Condition::Silent);
    let changes = next_changes(&world.topology, &world.observed(), Limits::default());
    let moves = changes
        .iter()
        .any(|it| matches!(it, PlacementCommand::MoveReplica(_)));
    assert!(!moves, "{changes:?}");
}

#[test]
fn copies_get_fewer_only_while_those_that_are_left_are_up() {
    let mut world = World::new(3, 4);
    world.run(PlacementCommand::SetLeaving(SetLeaving {
        node: NodeId(3),
        leaving: true,
    }));
    let moves = |world: &World| {
        let changes = next_changes(&world.topology, &world.observed(), Limits::default());
        let moves = changes.into_iter();
        moves
            .filter(|it| matches!(it, PlacementCommand::MoveReplica(_)))
            .count()
    };
    for condition in [Condition::Silent, Condition::Lost] {
        world.nodes.insert(NodeId(2), condition);
        assert_eq!(moves(&world), 0, "{condition:?}");
    }
    world.nodes.insert(NodeId(2), Condition::Up);
    assert_eq!(moves(&world), 2);
    world.settle();
    assert!(world.topology.node(NodeId(3)).is_none());
    world.check_whole();
}

#[test]
fn node_with_a_new_directory_gets_new_replicas_and_its_old_ones_never_come_back() {
    let mut world = World::new(3, 8);
    let before: BTreeSet<ReplicaId> = world.used.clone();
    let mut node = form(2, 1).nodes.pop().unwrap();
    upgrade(&mut node);
    let command = AdmitNode {
        node,
        replaces: None,
    };
    let mut other = command.clone();
    other.node.incarnation = Incarnation(7);
    let refused = world.run(PlacementCommand::AdmitNode(other));
    assert_eq!(
        refused,
        TopologyReply::Refused(Refusal::OtherIncarnation { node: NodeId(2) })
    );
    world.admit(2, 7);
    for placement in world.topology.placements() {
        let own = placement.on(NodeId(2)).unwrap();
        assert!(!before.contains(&own.replica));
        assert_eq!(placement.former.len(), 1);
    }
    world.settle();
    world.check_whole();
    let mut old = command;
    old.replaces = Some(Incarnation(7));
    let refused = world.run(PlacementCommand::AdmitNode(old));
    assert_eq!(
        refused,
        TopologyReply::Refused(Refusal::OtherIncarnation { node: NodeId(2) })
    );
}

#[test]
fn node_with_replicas_is_not_forgotten() {
    let mut world = World::new(4, 8);
    let node = NodeId(1);
    let forget = PlacementCommand::ForgetNode(warren_topology::ForgetNode { node });
    let fault = |reply| match reply {
        TopologyReply::Refused(Refusal::PlacementRefused { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(world.run(forget.clone())), PlacementFault::NotLeaving);
    world.run(PlacementCommand::SetLeaving(SetLeaving {
        node,
        leaving: true,
    }));
    assert_eq!(fault(world.run(forget)), PlacementFault::HasReplicas);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happened: it ends, no group that had a majority loses it, no replica id comes twice, and when all that stay are
    /// up every group is whole and nodes have as many replicas as others.
    #[test]
    fn cluster_becomes_whole_whatever_happened(nodes in 1..6_u64, shards in 1..12_u32, events in events()) {
        let mut world = World::new(nodes, shards);
        let mut next = 100;
        for event in &events {
            world.happen(event, &mut next);
        }
        let all: Vec<NodeId> = world.topology.nodes().map(|it| it.id).collect();
        for node in all {
            world.nodes.insert(node, Condition::Up);
        }
        world.settle();
        world.check_whole();
        for node in world.topology.nodes() {
            prop_assert!(!node.leaving, "node {} is still leaving", node.id);
        }
    }
}
