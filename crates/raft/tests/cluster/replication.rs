//! Three nodes over loopback: the same commands on all, nothing lost when a leader goes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::common::{Cluster, eventually, propose};
use bytes::Bytes;
use warren_raft::ProposeError;
use warren_types::{GroupId, Term};

const GROUP: GroupId = GroupId(1);

fn payload(number: u64, size: usize) -> Bytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(size.max(8), b'x');
    bytes.into()
}

#[test]
fn proposals_ten_thousand_are_applied_alike_on_all() {
    let cluster = Cluster::start(3, 1, |_| {});
    cluster.leader(GROUP);
    for number in 0..10_000 {
        propose(&cluster, GROUP, &payload(number, 100));
    }
    cluster.agree(GROUP, 10_000);
}

#[test]
fn proposals_in_another_term_or_elsewhere_are_refused() {
    let cluster = Cluster::start(3, 1, |_| {});
    let leader = cluster.leader(GROUP);
    let (group, _) = cluster.node(leader).group(GROUP).unwrap();
    let term = group.leadership().borrow().term;
    let other = Term(term.0 + 1);
    assert_eq!(
        group.propose(other, &payload(1, 8)),
        Err(ProposeError::NotLeader(other))
    );
    let follower = cluster.live().find(|node| node.id != leader).unwrap();
    let (group, _) = follower.group(GROUP).unwrap();
    assert_eq!(
        group.propose(term, &payload(1, 8)),
        Err(ProposeError::NotLeader(term))
    );
}

#[test]
fn leader_killed_is_replaced_at_once_and_nothing_applied_is_lost() {
    let mut cluster = Cluster::start(3, 1, |_| {});
    let leader = cluster.leader(GROUP);
    for node in cluster.live() {
        node.group(GROUP).unwrap().1.keep_payloads();
    }
    for number in 0..2_000 {
        propose(&cluster, GROUP, &payload(number, 100));
    }
    let view = cluster.node(leader).group(GROUP).unwrap().1.clone();
    eventually("the leader to apply some", || view.count() > 500);

    let killed = Instant::now();
    cluster.kill(leader);
    let confirmed: BTreeSet<Bytes> = view.payloads().into_iter().collect();
    let next = cluster.leader(GROUP);
    let elapsed = killed.elapsed();
    println!("new leader after {elapsed:?}");
    assert_ne!(next, leader);
    assert!(elapsed < Duration::from_secs(2), "took {elapsed:?}");

    propose(&cluster, GROUP, &payload(1_000_000, 100));
    for node in cluster.live() {
        let view = node.group(GROUP).unwrap().1;
        eventually("the last command", || {
            view.payloads().last() == Some(&payload(1_000_000, 100))
        });
        let payloads = view.payloads();
        let has: BTreeSet<Bytes> = payloads.iter().cloned().collect();
        assert_eq!(has.len(), payloads.len(), "a command was applied twice");
        assert!(confirmed.is_subset(&has), "an applied command is lost");
    }
}

#[test]
fn leader_transferred_hands_over_within_its_lease() {
    let cluster = Cluster::start(3, 1, |_| {});
    let leader = cluster.leader(GROUP);
    let node = cluster.node(leader);
    let (group, _) = node.group(GROUP).unwrap();
    for number in 0..100 {
        propose(&cluster, GROUP, &payload(number, 100));
    }
    let started = Instant::now();
    node.block_on(group.transfer_leader(None)).unwrap();
    assert!(group.lease_until().is_none());
    let next = cluster.leader(GROUP);
    println!("transferred after {:?}", started.elapsed());
    assert_ne!(next, leader);
    propose(&cluster, GROUP, &payload(7, 100));
    cluster.agree(GROUP, 101);
}

#[test]
fn read_index_covers_what_was_applied_before() {
    let cluster = Cluster::start(3, 1, |_| {});
    let leader = cluster.leader(GROUP);
    propose(&cluster, GROUP, &payload(1, 100));
    cluster.agree(GROUP, 1);
    let node = cluster.node(leader);
    let (group, _) = node.group(GROUP).unwrap();
    let applied = group.applied().borrow().unwrap().index;
    assert!(node.block_on(group.read_index()).unwrap() >= applied);
    let follower = cluster.live().find(|node| node.id != leader).unwrap();
    let (group, _) = follower.group(GROUP).unwrap();
    assert!(follower.block_on(group.read_index()).is_err());
}

#[test]
fn groups_share_syncs() {
    let cluster = Cluster::start(3, 8, |_| {});
    for group in 1..=8 {
        cluster.leader(GroupId(group));
    }
    let before = cluster.node(1).log.stats();
    for number in 0..500 {
        for group in 1..=8 {
            propose(&cluster, GroupId(group), &payload(number, 200));
        }
    }
    for group in 1..=8 {
        cluster.agree(GroupId(group), 500);
    }
    let after = cluster.node(1).log.stats();
    let (syncs, records) = (after.syncs - before.syncs, after.records - before.records);
    println!("{records} records in {syncs} syncs");
    assert!(records >= 4_000 && syncs < records / 2);
}

#[test]
fn cluster_stopped_and_started_goes_on_where_it_was() {
    let mut cluster = Cluster::start(3, 2, |_| {});
    for group in [GroupId(1), GroupId(2)] {
        cluster.leader(group);
        for number in 0..1_000 {
            propose(&cluster, group, &payload(number, 300));
        }
        cluster.agree(group, 1_000);
    }
    for id in 1..=3 {
        if id == 2 {
            cluster.kill(id)
        } else {
            cluster.stop(id)
        }
    }
    for id in 1..=3 {
        cluster.start_node(id);
    }
    for group in [GroupId(1), GroupId(2)] {
        cluster.leader(group);
        propose(&cluster, group, &payload(5_000, 300));
        cluster.agree(group, 1_001);
    }
}
