//! Copies of a shard come and go under load, as an operator at a terminal asks: nothing is lost, doubled or out of order, and the cluster
//! undoes none of it. Not here: nodes that come, leave or are lost (`members.rs`, `joins.rs`), every refusal (`topology`, `plan_copies.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/members.rs"]
mod members;

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use members::{SHAPE, end};
use serde_json::Value;
use warren_client::{ClusterShard, Connection};
use warren_cluster::run::runtime;
use warren_cluster::watch::{no_change, until};
use warren_cluster::{Load, connect, queue_name};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

const WITHIN: Duration = Duration::from_secs(170);

/// A command at node 1: its exit code, stdout and stderr.
async fn ask(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = cluster.warren();
    command.arg("cluster").args(arguments);
    command.args(["--server", &cluster.servers_from(NodeNumber(1))]);
    let run = tokio::task::spawn_blocking(move || run_within(command, WITHIN).unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = run.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&stdout), text(&stderr));
    println!("cluster {}: {status}\n{out}{err}", arguments.join(" "));
    (status.code(), out, err)
}

/// The same, which must end well.
async fn done(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let (code, out, err) = ask(cluster, arguments).await;
    ensure!(code == Some(0), "{arguments:?}: {code:?} {out} {err}");
    Ok(out)
}

async fn shard(connection: &Connection, number: u64) -> Result<ClusterShard> {
    let cluster = connection.cluster().await?;
    let mut shards = cluster.shards.into_iter();
    Ok(shards.find(|it| it.shard == number).unwrap())
}

/// The nodes of a shard's copies.
async fn nodes_of(connection: &Connection, number: u64) -> Result<BTreeSet<u64>> {
    let replicas = shard(connection, number).await?.replicas;
    Ok(replicas.iter().map(|it| it.node_id).collect())
}

/// The shard has so many copies, every other one three, and nothing changes.
async fn until_copies(connection: &Connection, number: u64, copies: usize) -> Result<()> {
    until(connection, &format!("{copies} copies"), |it| {
        let mut shards = it.shards.iter().filter(|it| it.shard > 0);
        no_change(it)
            && shards.all(|it| it.replicas.len() == if it.shard == number { copies } else { 3 })
    })
    .await
}

/// Counts: to five, three, one and back.
async fn play_counts(cluster: &Cluster, first: &Connection, number: u64) -> Result<()> {
    let queue = queue_name(0);
    let said = done(
        cluster,
        &["set-copies", "5", "--queue", &queue, "--dry-run"],
    )
    .await?;
    ensure!(said.contains(&format!("shard {number} would have 5 copies")));
    ensure!(nodes_of(first, number).await?.len() == 3, "only said");
    for copies in [5, 3, 1, 3] {
        let count = copies.to_string();
        let command = ["set-copies", &*count, "--queue", &*queue];
        done(cluster, &command).await?;
        until_copies(first, number, copies).await?;
        let said = done(cluster, &command).await?;
        ensure!(said.contains("already"), "{said}");
        if copies == 1 {
            play_last(cluster, first, number).await?;
        }
    }
    // Left at once, it goes on by itself.
    let command = ["set-copies", "5", "--queue", &*queue, "--within", "0.1"];
    let (code, _, err) = ask(cluster, &command).await;
    ensure!(
        code == Some(0) || code == Some(3) && err.contains("the cluster goes on"),
        "{code:?} {err}"
    );
    until_copies(first, number, 5).await?;
    done(cluster, &["set-copies", "default", "--queue", &queue]).await?;
    until_copies(first, number, 3).await
}

/// The only copy: its node is needed, and it cannot be removed.
async fn play_last(cluster: &Cluster, first: &Connection, number: u64) -> Result<()> {
    let node = nodes_of(first, number)
        .await?
        .pop_first()
        .unwrap()
        .to_string();
    let (began, told) = (Instant::now(), format!("no majority: shard {number}\n"));
    loop {
        let (code, out, _) = ask(cluster, &["critical", &node]).await;
        ensure!(code == Some(1), "{code:?}");
        if out.ends_with(&told) {
            break;
        }
        // A machine that does other work may have kept another node from answering for a second.
        ensure!(began.elapsed() < WITHIN, "{out}");
    }
    let shard = number.to_string();
    let (code, _, err) = ask(cluster, &["remove-replica", &node, "--shard", &shard]).await;
    let told = format!("error: COPIES_REFUSED: it is the last copy of shard {number}\n");
    ensure!((code, &err) == (Some(5), &told), "{code:?} {err}");
    Ok(())
}

/// Nodes by name: the leader's own copy goes, a copy comes, and both stay as they were asked for.
async fn play_nodes(cluster: &Cluster, first: &Connection, number: u64) -> Result<()> {
    let name = number.to_string();
    let before = shard(first, number).await?;
    let leader = before.leader_node_id.unwrap();
    let removed = leader.to_string();
    for _ in 0..2 {
        done(cluster, &["remove-replica", &removed, "--shard", &name]).await?;
    }
    until_copies(first, number, 2).await?;
    let now = shard(first, number).await?;
    ensure!(now.leader_node_id != Some(leader), "{now:?}");
    let on = nodes_of(first, number).await?;
    ensure!(!on.contains(&leader), "{on:?}");
    let free: Vec<u64> = (1..=5)
        .filter(|it| !on.contains(it) && *it != leader)
        .collect();
    for node in &free[..2] {
        let node = node.to_string();
        for _ in 0..2 {
            done(cluster, &["add-replica", &node, "--shard", &name]).await?;
        }
    }
    until_copies(first, number, 4).await?;
    let (code, _, err) = ask(cluster, &["add-replica", "9", "--shard", &name]).await;
    let told = "error: BAD_ARGUMENT: node_id: there is no node 9\n";
    ensure!((code, &*err) == (Some(1), told), "{code:?} {err}");
    let (code, _, err) = ask(cluster, &["add-replica", "1", "--shard", "99"]).await;
    ensure!(
        code == Some(1) && err.contains("there is no shard 99"),
        "{err}"
    );
    let (code, _, err) = ask(cluster, &["set-copies", "6", "--shard", &name]).await;
    ensure!(code == Some(1) && err.contains("1 to 5 copies"), "{err}");
    let gone = free[0].to_string();
    done(cluster, &["remove-replica", &gone, "--shard", &name]).await?;
    until_copies(first, number, 3).await?;
    // The plan is made once per second: nothing is moved back.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let now = nodes_of(first, number).await?;
    ensure!(
        now.len() == 3 && now.contains(&free[1]) && !now.contains(&leader),
        "{now:?}"
    );
    Ok(())
}

/// What is told of copies: every one has caught up, and no node is needed.
async fn play_views(cluster: &Cluster, number: u64) -> Result<()> {
    let began = Instant::now();
    loop {
        let queue = queue_name(0);
        let out = done(
            cluster,
            &["replicas", "--queue", &queue, "--output", "json"],
        )
        .await?;
        let view: Value = serde_json::from_str(&out)?;
        let told = &view["shards"][0];
        ensure!(told["shard"] == number && view["queue"] == *queue, "{view}");
        let replicas = told["replicas"].as_array().unwrap();
        let caught_up = replicas.iter().all(|it| it["caught_up"] == true);
        let spared = replicas.iter().all(|it| it["needed"] == false);
        let (code, out, _) = ask(cluster, &["critical", "2"]).await;
        let whole = code == Some(0) && out == "every shard has a majority without node 2\n";
        if caught_up && spared && whole && replicas.len() == 3 {
            break;
        }
        // A machine that does other work may have kept a node from answering for a second.
        ensure!(began.elapsed() < WITHIN, "{view}");
    }
    let text = done(cluster, &["replicas"]).await?;
    ensure!(text.contains("topology  every node"), "{text}");
    let (code, _, err) = ask(cluster, &["critical", "9"]).await;
    ensure!(
        (code, &*err) == (Some(4), "error: there is no node 9\n"),
        "{err}"
    );
    Ok(())
}

async fn run(cluster: &mut Cluster) -> Result<()> {
    let servers = cluster.numbers().into_iter();
    let servers: Vec<String> = servers.map(|it| cluster.servers_from(it)).collect();
    let load = Load::start(&servers, SHAPE).await?;
    let first = connect(&cluster.grpc_address(NodeNumber(1)))?;
    let number = first.queue_details("/", &queue_name(0)).await?.queue.shard;
    until_copies(&first, number, 3).await?;

    play_views(cluster, number).await?;
    play_counts(cluster, &first, number).await?;
    println!("after the counts: {} confirmed", load.confirmed());
    play_nodes(cluster, &first, number).await?;
    println!("after the nodes: {} confirmed", load.confirmed());

    // A copy that was asked for is replaced like any other when its node is lost.
    let mut on = nodes_of(&first, number).await?;
    on.remove(&1);
    let lost = on.pop_last().unwrap();
    cluster.kill(NodeNumber(usize::try_from(lost)?))?;
    until(&first, "all are whole without the lost node", |it| {
        let mut shards = it.shards.iter().filter(|it| it.shard > 0);
        no_change(it)
            && shards
                .all(|it| it.replicas.len() == 3 && it.replicas.iter().all(|it| it.node_id != lost))
    })
    .await?;
    cluster.restart(NodeNumber(usize::try_from(lost)?))?;
    end(cluster, load).await
}

#[test]
fn copies_come_and_go_under_load_and_nothing_is_lost_or_doubled() {
    let mut cluster = Cluster::prepare(Options {
        nodes: 5,
        ..Options::default()
    })
    .unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_CLUSTER_REPAIR_AFTER", "5s");
        cluster.set_environment(number, "WARREN_CLUSTER_LEADER_REST", "5s");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    runtime().block_on(run(&mut cluster)).unwrap();
}
