//! Replicas that fail are opened again, but not for ever; nodes know of each other's life.

use std::time::Duration;

use bytes::Bytes;
use warren_raft::{ReplicaHealth, Role};
use warren_types::{GroupId, NodeId};

use crate::common::{Cluster, eventually, propose};

const GROUP: GroupId = GroupId(1);

#[test]
fn machine_that_panics_once_is_opened_again_and_catches_up() {
    let cluster = Cluster::start(3, 1, |_| {});
    let leader = cluster.leader(GROUP);
    let failing = leader % 3 + 1;
    propose(&cluster, GROUP, &Bytes::from_static(b"before"));
    cluster.agree(GROUP, 1);
    let (group, view) = cluster.node(failing).group(GROUP).unwrap();
    view.panic_times(1);
    for _ in 0..20 {
        propose(&cluster, GROUP, &Bytes::from_static(b"after"));
    }
    cluster.agree(GROUP, 21);
    eventually("the replica to run", || {
        group.status().health == ReplicaHealth::Running
    });
}

#[test]
fn machine_that_panics_for_ever_is_taken_out_and_the_others_go_on() {
    let cluster = Cluster::start(3, 1, |_| {});
    let leader = cluster.leader(GROUP);
    let failing = leader % 3 + 1;
    let (group, view) = cluster.node(failing).group(GROUP).unwrap();
    view.panic_times(1_000);
    propose(&cluster, GROUP, &Bytes::from_static(b"poison"));
    eventually("the replica to be given up", || {
        matches!(group.status().health, ReplicaHealth::Failed { .. })
    });
    assert_eq!(group.status().role, Role::Down);
    propose(&cluster, GROUP, &Bytes::from_static(b"more"));
    eventually("the others to apply", || {
        let applied = |id| cluster.node(id).group(GROUP).unwrap().1.count();
        (1..=3)
            .filter(|id| *id != failing)
            .all(|id| applied(id) == 2)
    });
}

#[test]
fn machine_that_finds_damage_is_not_opened_again() {
    let cluster = Cluster::start(3, 1, |_| {});
    let damaged = cluster.leader(GROUP) % 3 + 1;
    let (group, view) = cluster.node(damaged).group(GROUP).unwrap();
    assert_eq!(group.damage(), None);
    view.find_damage();
    propose(&cluster, GROUP, &Bytes::from_static(b"one"));
    eventually("the replica to be given up", || {
        let health = group.status().health;
        matches!(health, ReplicaHealth::Failed { cause } if cause == "row 7")
    });
    assert_eq!(group.damage().as_deref(), Some("row 7"));
}

#[test]
fn peers_know_who_lives_and_what_their_clocks_say() {
    let mut cluster = Cluster::start(3, 1, |_| {});
    let within = Duration::from_millis(600);
    eventually("nodes to hear each other", || {
        cluster.live().all(|node| {
            let offset = |id: &NodeId| node.peers.heard(*id).wall_clock_offset_ms;
            let live = node.peers.live(within);
            live.len() == 2
                && live
                    .iter()
                    .all(|id| offset(id).is_some_and(|ms| ms.abs() < 500))
        })
    });
    cluster.kill(2);
    let gone = || {
        cluster
            .live()
            .all(|node| node.peers.heard(NodeId(2)).refused)
    };
    eventually("node 2 to be seen gone", gone);
    cluster.start_node(2);
    eventually("node 2 to be seen again", || {
        cluster.live().all(|node| {
            node.id == 2
                || (!node.peers.heard(NodeId(2)).refused && node.peers.live(within).len() == 2)
        })
    });
}
