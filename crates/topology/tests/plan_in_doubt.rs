//! Replicas of groups in doubt are not moved: of replicas that differ the one that goes might be the only right one. Not here: what is
//! moved otherwise (`plan_replicas.rs`).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::collections::BTreeSet;

use support::*;
use warren_topology::plan::{Condition, Limits, Observed, next_changes};
use warren_topology::{
    AdmitNode, PlacementCommand, SetLeaving, Topology, TopologyCommand, TopologyReply,
};
use warren_types::{GroupId, Incarnation, NodeId};

const SHARDS: u32 = 8;

/// Three nodes with a replica of each shard, and a fourth with nothing yet.
fn cluster() -> Topology {
    let mut topology = Topology::new();
    let formed = TopologyCommand::FormCluster(form(3, SHARDS));
    run(&mut topology, formed);
    let mut node = form(4, 1).nodes.pop().unwrap();
    node.incarnation = Incarnation(44);
    let admit = AdmitNode {
        node,
        replaces: None,
    };
    change(&mut topology, PlacementCommand::AdmitNode(admit));
    topology
}

fn change(topology: &mut Topology, command: PlacementCommand) {
    let reply = run(topology, TopologyCommand::Placement(command));
    assert_eq!(reply, TopologyReply::Done { changed: true });
}

fn moves(topology: &Topology, node_2: Condition, in_doubt: &[u32]) -> Vec<PlacementCommand> {
    let nodes = (1..=4).map(|it| (NodeId(it), Condition::Up));
    let mut observed = Observed {
        nodes: nodes.collect(),
        leaders: topology
            .placements()
            .map(|it| (it.group, NodeId(1)))
            .collect(),
        in_doubt: in_doubt.iter().copied().map(GroupId).collect(),
        ..Observed::default()
    };
    observed.nodes.insert(NodeId(2), node_2);
    let limits = Limits { changes_max: 100 };
    let mut changes = next_changes(topology, &observed, limits);
    changes.retain(|it| matches!(it, PlacementCommand::MoveReplica(_)));
    changes
}

fn moved(topology: &Topology, node_2: Condition, in_doubt: &[u32]) -> BTreeSet<u32> {
    let moves = moves(topology, node_2, in_doubt).into_iter();
    let groups = moves.filter_map(|it| match it {
        PlacementCommand::MoveReplica(it) => Some(it.group.0),
        _ => None,
    });
    groups.collect()
}

#[test]
fn replicas_of_groups_in_doubt_do_not_go_to_a_node_that_has_fewer() {
    let topology = cluster();
    let all = moved(&topology, Condition::Up, &[]);
    assert!(all.len() > 3, "{all:?}");
    let doubtful: Vec<u32> = all.iter().copied().take(2).collect();
    let now = moved(&topology, Condition::Up, &doubtful);
    assert!(!now.is_empty() && doubtful.iter().all(|it| !now.contains(it)));
}

#[test]
fn replicas_of_groups_in_doubt_on_a_lost_or_leaving_node_stay() {
    let mut topology = cluster();
    let all: BTreeSet<u32> = (1..=SHARDS).collect();
    let rest: BTreeSet<u32> = (2..=SHARDS).collect();
    assert_eq!(moved(&topology, Condition::Lost, &[]), all);
    assert_eq!(moved(&topology, Condition::Lost, &[1]), rest);
    let leaving = SetLeaving {
        node: NodeId(3),
        leaving: true,
    };
    change(&mut topology, PlacementCommand::SetLeaving(leaving));
    assert_eq!(moved(&topology, Condition::Up, &[]), all);
    assert_eq!(moved(&topology, Condition::Up, &[1]), rest);
}

#[test]
fn voters_of_a_topology_in_doubt_stay() {
    let topology = cluster();
    let voters = |in_doubt: &[u32]| {
        let mut observed = Observed {
            nodes: (1..=4).map(|it| (NodeId(it), Condition::Up)).collect(),
            in_doubt: in_doubt.iter().copied().map(GroupId).collect(),
            ..Observed::default()
        };
        observed.nodes.insert(NodeId(2), Condition::Lost);
        let limits = Limits { changes_max: 100 };
        let changes = next_changes(&topology, &observed, limits).into_iter();
        changes
            .filter(|it| matches!(it, PlacementCommand::SetTopologyVoters(_)))
            .count()
    };
    assert_eq!(voters(&[]), 1, "node 4 votes instead of the lost one");
    assert_eq!(voters(&[GroupId::TOPOLOGY.0]), 0);
}
