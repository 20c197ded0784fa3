//! Nodes join a running cluster and come back with a blank directory, under load: they get replicas with numbers of their own, vote when
//! they have caught up, and nothing is lost, doubled or out of order. Not here: nodes that leave or are lost (`members.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/members.rs"]
mod members;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use members::{SHAPE, end};
use warren_client::{Connection, ReplicaRole};
use warren_cluster::run::runtime;
use warren_cluster::watch::{no_change, until};
use warren_cluster::{Load, connect};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const FROZEN_FOR: Duration = Duration::from_secs(8);

fn cluster(options: Options) -> Cluster {
    let mut cluster = Cluster::prepare(options).unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_CLUSTER_LEADER_REST", "5s");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    cluster
}

async fn start_load(cluster: &Cluster) -> Result<Load> {
    let servers = cluster.numbers().into_iter();
    let servers: Vec<String> = servers.map(|it| cluster.servers_from(it)).collect();
    Load::start(&servers, SHAPE).await
}

/// The groups in which a node votes, by the word of those that have a replica of each.
async fn votes(all: &[Connection], node: u64) -> Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for connection in all {
        for shard in connection.cluster().await?.shards {
            let voter = |role| matches!(role, ReplicaRole::Follower | ReplicaRole::Leader);
            let mut replicas = shard.replicas.iter();
            if replicas.any(|it| it.node_id == node && voter(it.role)) {
                found.insert(shard.shard);
            }
        }
    }
    Ok(found)
}

async fn run_join(cluster: &mut Cluster) -> Result<()> {
    let load = start_load(cluster).await?;
    let numbers = cluster.numbers().into_iter();
    let all: Result<Vec<Connection>> = numbers
        .map(|it| connect(&cluster.grpc_address(it)))
        .collect();
    let all = all?;
    let new = NodeNumber(4);

    cluster.spawn(new)?;
    until(&all[0], "node 4 is a member", |it| it.nodes.len() == 4).await?;
    cluster.pause(new)?;
    // What was under way at that moment ends.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = votes(&all, 4).await?;
    tokio::time::sleep(FROZEN_FOR).await;
    let after = votes(&all, 4).await?;
    println!("frozen: votes in {after:?}");
    ensure!(
        before == after,
        "a frozen node came to vote: {before:?} {after:?}"
    );
    ensure!(after.len() < 13, "nothing was left to do: {after:?}");
    cluster.resume(new)?;

    until(&all[0], "node 4 has its share", |it| {
        let on = |node: u64| {
            let shards = it.shards.iter().filter(|it| it.shard > 0);
            let here = shards.filter(|it| it.replicas.iter().any(|it| it.node_id == node));
            here.count()
        };
        no_change(it) && (1..=4).all(|node| on(node) == 12)
    })
    .await?;
    ensure!(votes(&all, 4).await?.len() >= 12);
    println!("after the join: {} confirmed", load.confirmed());
    // It can be lost like any other, and comes back with what it has.
    cluster.kill(new)?;
    cluster.restart(new)?;
    let fourth = connect(&cluster.grpc_address(new))?;
    until(&fourth, "node 4 is back", |it| {
        it.nodes.len() == 4 && no_change(it)
    })
    .await?;
    end(cluster, load).await
}

#[test]
fn node_joins_under_load_and_votes_only_when_caught_up() {
    let mut cluster = cluster(Options {
        spare: 1,
        ..Options::default()
    });
    runtime().block_on(run_join(&mut cluster)).unwrap();
}

/// All replica numbers of a node.
async fn replicas(connection: &Connection, node: u64) -> Result<BTreeSet<u64>> {
    let shards = connection.cluster().await?.shards.into_iter();
    let all = shards.flat_map(|it| it.replicas);
    Ok(all
        .filter(|it| it.node_id == node)
        .map(|it| it.replica_id)
        .collect())
}

async fn run_blank(cluster: &mut Cluster) -> Result<()> {
    let load = start_load(cluster).await?;
    let numbers = cluster.numbers().into_iter();
    let all: Result<Vec<Connection>> = numbers
        .map(|it| connect(&cluster.grpc_address(it)))
        .collect();
    let all = all?;
    let (first, lost) = (&all[0], NodeNumber(2));
    let before = replicas(first, 2).await?;
    ensure!(before.len() == 17, "{before:?}");

    cluster.kill(lost)?;
    let (home, aside) = (
        cluster.data_directory(lost),
        cluster.directory().join("aside"),
    );
    fs::rename(&home, &aside)?;
    cluster.restart(lost)?;
    until(first, "node 2 has new replicas", |it| {
        let whole = it.shards.iter().all(|it| it.replicas.len() == 3);
        no_change(it) && whole
    })
    .await?;
    let after = replicas(first, 2).await?;
    ensure!(after.len() == 17, "{after:?}");
    let highest = before.iter().max().unwrap();
    ensure!(
        after.iter().all(|it| it > highest),
        "a number came back: {before:?} {after:?}"
    );
    ensure!(votes(&all, 2).await?.len() == 17);
    println!("after the blank return: {} confirmed", load.confirmed());

    // The old disk again: nobody takes its word, and the rest goes on.
    cluster.kill(lost)?;
    let newer = cluster.directory().join("newer");
    fs::rename(&home, &newer)?;
    fs::rename(&aside, &home)?;
    cluster.spawn(lost)?;
    let confirmed = load.confirmed();
    let since = Instant::now();
    while load.confirmed() < confirmed + 500 {
        ensure!(since.elapsed() < Duration::from_secs(60), "no confirms");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if cluster.wait_ready(lost).is_ok() {
        bail!("a node serves with a directory that was replaced");
    }
    // Ended by itself, or still without a cluster.
    let _ = cluster.kill(lost);
    fs::rename(&home, cluster.directory().join("old"))?;
    fs::rename(&newer, &home)?;
    cluster.restart(lost)?;
    until(first, "node 2 is back", no_change).await?;
    ensure!(replicas(first, 2).await? == after);
    end(cluster, load).await
}

#[test]
fn node_with_a_blank_directory_gets_new_replicas_and_its_old_directory_is_refused() {
    let mut cluster = cluster(Options {
        ready_within: Duration::from_secs(40),
        ..Options::default()
    });
    runtime().block_on(run_blank(&mut cluster)).unwrap();
}
