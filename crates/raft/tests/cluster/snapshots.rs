//! A follower whose log was purged away gets the leader's rows.

use std::time::Duration;

use crate::common::flipping::FlippingRoad;
use crate::common::{Cluster, eventually, propose};
use bytes::Bytes;
use warren_raft::{RaftOptions, ReplicaHealth};
use warren_types::GroupId;

const GROUP: GroupId = GroupId(1);

fn purge_soon(options: &mut RaftOptions) {
    options.compaction.every = Duration::from_millis(200);
    options.compaction.keep_entries = 10;
    // A follower that is away is not waited for.
    options.compaction.follower_seen_within = Duration::from_millis(500);
}

fn fill(cluster: &Cluster, commands: u64) {
    for number in 0..commands {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(1_000, b'y');
        propose(cluster, GROUP, &Bytes::from(payload));
    }
}

fn wait_purged(cluster: &Cluster, beyond: u64) {
    eventually("logs to be purged", || {
        cluster.live().all(|node| {
            let status = node.group(GROUP).unwrap().0.status();
            status.purged.is_some_and(|index| index.0 > beyond)
        })
    });
}

/// A follower that is away has 200 entries, and the others have 3,000 more and purged what follows its own.
fn behind_a_purge() -> (Cluster, u64) {
    let mut cluster = Cluster::start(3, 1, purge_soon);
    let leader = cluster.leader(GROUP);
    let away = leader % 3 + 1;
    fill(&cluster, 200);
    cluster.agree(GROUP, 200);
    cluster.stop(away);
    fill(&cluster, 3_000);
    wait_purged(&cluster, 2_000);
    (cluster, away)
}

#[test]
fn follower_behind_a_purge_catches_up_by_snapshot() {
    let (mut cluster, away) = behind_a_purge();

    cluster.start_node(away);
    cluster.agree(GROUP, 3_200);
    let view = cluster.node(away).group(GROUP).unwrap().1.clone();
    assert!(view.restored() > 0, "no snapshot was installed");

    // What was installed is there after a restart, and the replica goes on.
    fill(&cluster, 50);
    cluster.agree(GROUP, 3_250);
    cluster.kill(away);
    cluster.start_node(away);
    fill(&cluster, 50);
    cluster.agree(GROUP, 3_300);
}

#[test]
fn snapshot_with_a_flipped_bit_is_refused_and_sent_again() {
    let (mut cluster, away) = behind_a_purge();

    let road = FlippingRoad::to(cluster.address(away));
    cluster.lead_by(away, road.address);
    cluster.start_node(away);
    // What is on its way is what the sender read, or nothing of it is used.
    cluster.agree(GROUP, 3_200);
    assert!(road.has_flipped(), "no row of a snapshot passed");
    assert_eq!(cluster.node(away).raft.snapshots_refused(), 1);
    let view = cluster.node(away).group(GROUP).unwrap().1.clone();
    assert!(view.restored() > 0, "no snapshot was installed");
    let others = cluster.live().filter(|node| node.id != away);
    assert!(
        others
            .map(|it| it.raft.snapshots_refused())
            .all(|it| it == 0)
    );
}

/// openraft issue 2116: a snapshot that is taken while applies are queued trims log ids that they still look up.
#[test]
fn snapshot_while_apply_is_blocked_waits_for_it() {
    let cluster = Cluster::start(3, 1, purge_soon);
    let leader = cluster.leader(GROUP);
    let away = leader % 3 + 1;
    fill(&cluster, 100);
    cluster.agree(GROUP, 100);

    // The follower's log goes on while its machine stands still; then it misses what is purged.
    cluster.node(away).gate.close();
    fill(&cluster, 500);
    cluster.isolate(away);
    fill(&cluster, 2_000);
    eventually("the leader to purge", || {
        let status = cluster.node(leader).group(GROUP).unwrap().0.status();
        status.purged.is_some_and(|index| index.0 > 1_500)
    });
    cluster.join(away);
    // Time enough for the snapshot to be sent and to wait for apply.
    std::thread::sleep(Duration::from_millis(1_500));
    cluster.node(away).gate.open();
    cluster.agree(GROUP, 2_600);
    let (group, view) = cluster.node(away).group(GROUP).unwrap();
    assert_eq!(group.status().health, ReplicaHealth::Running);
    assert!(view.restored() > 0, "no snapshot was installed");
}

#[test]
fn log_of_large_entries_is_kept_by_its_bytes() {
    let cluster = Cluster::start(3, 1, |options| {
        purge_soon(options);
        options.compaction.keep_entries = 1_000_000;
        options.compaction.keep_bytes = 200_000;
    });
    cluster.leader(GROUP);
    fill(&cluster, 1_000);
    cluster.agree(GROUP, 1_000);
    wait_purged(&cluster, 700);
    // About two hundred entries of a thousand bytes are left for who lags.
    for node in cluster.live() {
        let purged = node.group(GROUP).unwrap().0.status().purged.unwrap();
        assert!(purged.0 < 900, "{purged}");
    }
}
