//! The topology's replicas of three nodes are compared while they work: one whose rows make another topology is told so, stops leading, and is
//! seen by all nodes. Not here: verdicts (`audit`), what the node does then (`warren-server`, `rejoin`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{Cluster, NODES, TestNode};
use warren_storage::{RowBatch, Table};
use warren_types::GroupId;

/// Takes all entries since the last snapshot out of one replica's rows, past its log. The copy in memory stays as it was.
fn forget_entries(node: &TestNode) {
    let replica = node.broker.topology().group().replica();
    let state = node.state(GroupId::TOPOLOGY, replica);
    let mut batch = RowBatch::default();
    batch.delete_range(Table::Rows, &b"e"[..], &b"f"[..]);
    let meta = state.meta().unwrap_or_default();
    state.write(batch, meta).unwrap();
}

fn leads(node: &TestNode) -> bool {
    node.broker.topology().group().lease_until().is_some()
}

fn leader(cluster: &Cluster) -> u64 {
    cluster.eventually("the topology has a leader", |it| {
        it.nodes.values().any(leads)
    });
    cluster.nodes.values().find(|it| leads(it)).unwrap().id
}

fn is_clean(node: &TestNode) -> bool {
    let view = node.broker.topology_audit().unwrap();
    view.clean_at_ms.is_some() && !view.in_doubt && node.broker.damage().is_none()
}

/// Only this node is said to be wrong, and by all.
fn is_blamed_alone(cluster: &Cluster, victim: u64) -> bool {
    cluster.nodes.values().all(|node| {
        let told = node.broker.set_aside_anywhere();
        let of_topology = told.iter().filter(|it| it.group == GroupId::TOPOLOGY);
        let nodes: Vec<u64> = of_topology.map(|it| it.node.0).collect();
        nodes == [victim] && node.broker.damage().is_some() == (node.id == victim)
    })
}

fn wrong_replica_is_told(is_leader: bool) {
    let cluster = Cluster::start(1);
    cluster.declare("orders");
    cluster.eventually("all replicas were compared once", |it| {
        it.nodes.values().all(is_clean)
    });
    let leader = leader(&cluster);
    let victim = if is_leader {
        leader
    } else {
        leader % NODES + 1
    };
    forget_entries(cluster.node(victim));
    cluster.eventually("one is wrong", |it| is_blamed_alone(it, victim));
    let cause = cluster.node(victim).broker.damage().unwrap();
    assert!(cause.contains("is not that of most"), "{cause}");
    cluster.eventually("another one leads", |it| {
        it.nodes
            .values()
            .any(|node| node.id != victim && leads(node))
    });
    cluster.declare("more");
}

#[test]
fn follower_with_another_topology_is_told() {
    wrong_replica_is_told(false);
}

#[test]
fn leader_with_another_topology_is_told_and_leads_no_more() {
    wrong_replica_is_told(true);
}

#[test]
fn two_that_differ_are_in_doubt_until_the_third_is_there() {
    let mut cluster = Cluster::start(1);
    cluster.declare("orders");
    cluster.eventually("all replicas were compared once", |it| {
        it.nodes.values().all(is_clean)
    });
    cluster.kill(3);
    forget_entries(cluster.node(1));
    cluster.eventually("the two are in doubt", |it| {
        it.nodes.values().all(|node| {
            let in_doubt = node.broker.in_doubt();
            in_doubt.contains(&GroupId::TOPOLOGY) && node.broker.damage().is_none()
        })
    });
    cluster.start_node(3, false);
    cluster.eventually("the wrong one is known", |it| is_blamed_alone(it, 1));
    cluster.eventually("nothing is in doubt", |it| {
        it.nodes
            .values()
            .all(|node| node.broker.in_doubt().is_empty())
    });
}
