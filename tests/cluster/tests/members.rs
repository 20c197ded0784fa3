//! Nodes leave and are lost under load: replicas go elsewhere by themselves, nothing is lost, doubled or out of order.
//! Not here: leaders (`leaders.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/members.rs"]
mod members;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use members::{SHAPE, end};
use warren_client::Cluster as View;
use warren_cluster::run::runtime;
use warren_cluster::watch::{no_change, until};
use warren_cluster::{Load, connect};
use warren_testkit::process::{Cluster, NodeNumber, Options};

/// Every shard has so many replicas, on nodes other than `without`, and nothing changes.
fn is_whole(cluster: &View, copies: usize, without: &[u64]) -> bool {
    let mut shards = cluster.shards.iter().filter(|it| it.shard > 0);
    no_change(cluster)
        && shards.all(|it| {
            let mut replicas = it.replicas.iter();
            it.replicas.len() == copies && replicas.all(|it| !without.contains(&it.node_id))
        })
}

fn is_forgotten(cluster: &View, node: u64) -> bool {
    cluster.nodes.iter().all(|it| it.node_id != node)
}

fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::prepare(Options {
        nodes,
        ..Options::default()
    })
    .unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_CLUSTER_REPAIR_AFTER", "5s");
        cluster.set_environment(number, "WARREN_CLUSTER_LEADER_REST", "5s");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    cluster
}

/// Clients of these nodes alone: the others are to go.
async fn start_load(cluster: &Cluster, kept: &[usize]) -> Result<Load> {
    let mut kept: Vec<String> = kept
        .iter()
        .map(|it| cluster.grpc_address(NodeNumber(*it)))
        .collect();
    let mut servers = Vec::new();
    for _ in 0..kept.len() {
        servers.push(kept.join(","));
        kept.rotate_left(1);
    }
    Load::start(&servers, SHAPE).await
}

/// Five nodes: one is removed, one is lost. What is left is three whole nodes.
async fn run_shrink(cluster: &mut Cluster) -> Result<()> {
    let load = start_load(cluster, &[1, 2, 3]).await?;
    let first = connect(&cluster.grpc_address(NodeNumber(1)))?;

    first.remove_node(5).await?;
    until(&first, "node 5 is forgotten", |it| is_forgotten(it, 5)).await?;
    until(&first, "all are whole without node 5", |it| {
        is_whole(it, 3, &[5])
    })
    .await?;
    cluster.kill(NodeNumber(5))?;
    // Started again with what it has, it says why it cannot be, and ends.
    let (code, log) = cluster.run_to_its_end(NodeNumber(5), Duration::from_secs(60))?;
    println!("the removed node, started again, ends with {code}");
    ensure!(code.code() == Some(5), "{code}: {log}");
    let told = "error: node 5 was removed from cluster";
    ensure!(
        log.contains(told) && log.contains("empty the directory"),
        "{log}"
    );
    println!("after the removal: {} confirmed", load.confirmed());

    cluster.kill(NodeNumber(4))?;
    until(&first, "all are whole without nodes 4 and 5", |it| {
        is_whole(it, 3, &[4, 5])
    })
    .await?;
    println!("after the loss: {} confirmed", load.confirmed());
    // It was away for long: what it has is removed, and it serves again. Replicas go to it, and it is lost in the middle of that: those
    // that were to go stay after all, for there is no other node.
    cluster.restart(NodeNumber(4))?;
    let coming = |it: &View| {
        let mut told = it.problems.iter();
        told.any(|it| it.contains("change: to nodes") && it.contains("4, away"))
    };
    until(&first, "a replica is on its way to node 4", coming).await?;
    cluster.kill(NodeNumber(4))?;
    until(&first, "all are whole without node 4 again", |it| {
        is_whole(it, 3, &[4, 5])
    })
    .await?;
    cluster.restart(NodeNumber(4))?;
    let nodes = first.cluster().await?.nodes;
    ensure!(nodes.len() == 4, "{nodes:?}");
    end(cluster, load).await
}

#[test]
fn nodes_removed_and_lost_under_load_lose_and_double_nothing() {
    let mut cluster = cluster(5);
    runtime().block_on(run_shrink(&mut cluster)).unwrap();
}

/// Three nodes become one, and no copy goes before those that are left are there.
async fn run_down_to_one(cluster: &mut Cluster) -> Result<()> {
    let load = start_load(cluster, &[1]).await?;
    let first = connect(&cluster.grpc_address(NodeNumber(1)))?;

    cluster.kill(NodeNumber(2))?;
    first.remove_node(3).await?;
    // Nothing may go while node 2 is away, or all would stand still: the cluster serves on.
    let (confirmed, since) = (load.confirmed(), Instant::now());
    while since.elapsed() < Duration::from_secs(10) || load.confirmed() < confirmed + 500 {
        ensure!(since.elapsed() < Duration::from_secs(60), "no confirms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = first.cluster().await?;
    ensure!(!is_forgotten(&now, 3));
    ensure!(
        now.shards.iter().all(|it| it.replicas.len() == 3),
        "{:?}",
        now.shards
    );
    cluster.restart(NodeNumber(2))?;
    until(&first, "node 3 is forgotten", |it| is_forgotten(it, 3)).await?;
    until(&first, "two copies are left", |it| is_whole(it, 2, &[3])).await?;
    cluster.kill(NodeNumber(3))?;

    first.remove_node(2).await?;
    until(&first, "node 2 is forgotten", |it| is_forgotten(it, 2)).await?;
    until(&first, "one copy is left", |it| is_whole(it, 1, &[2, 3])).await?;
    cluster.kill(NodeNumber(2))?;
    let error = first.remove_node(1).await.unwrap_err();
    println!("the last node: {error}");
    end(cluster, load).await
}

#[test]
fn last_copies_are_never_removed_and_none_while_another_is_away() {
    let mut cluster = cluster(3);
    runtime().block_on(run_down_to_one(&mut cluster)).unwrap();
}
