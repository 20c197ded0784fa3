//! Nodes leave and are lost under load: replicas go elsewhere by themselves, nothing is lost, doubled or out of order.
//! Not here: leaders (`leaders.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use warren_client::Connection;
use warren_cluster::{Load, Shape, connect};
use warren_testkit::checker::check;
use warren_testkit::process::{Cluster, NodeNumber, Options};

const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 2,
    consumers: 2,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};
const WITHIN: Duration = Duration::from_secs(180);

/// Waits until every shard has three replicas, on nodes other than `without`, and no change is under way.
async fn until_whole(connection: &Connection, without: &[u64]) -> Result<()> {
    let began = Instant::now();
    loop {
        let cluster = connection.cluster().await?;
        let whole = cluster.shards.iter().filter(|it| it.shard > 0).all(|it| {
            it.replicas.len() == 3
                && it.leader_node_id.is_some()
                && it.replicas.iter().all(|it| !without.contains(&it.node_id))
        });
        let changing = cluster.problems.iter().any(|it| it.contains("change"));
        if whole && !changing {
            println!("whole without {without:?} after {:?}", began.elapsed());
            return Ok(());
        }
        if began.elapsed() > WITHIN {
            bail!("not whole without {without:?}: {:?}", cluster.problems);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn until_forgotten(connection: &Connection, node: u64) -> Result<()> {
    let began = Instant::now();
    loop {
        let cluster = connection.cluster().await?;
        if cluster.nodes.iter().all(|it| it.node_id != node) {
            println!("node {node} forgotten after {:?}", began.elapsed());
            return Ok(());
        }
        if began.elapsed() > WITHIN {
            bail!("node {node} is not forgotten: {:?}", cluster.problems);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Five nodes: one is removed, one is lost. What is left is three whole nodes.
async fn run(cluster: &mut Cluster) -> Result<()> {
    let kept = [1, 2, 3].map(|it| cluster.grpc_address(NodeNumber(it)));
    let servers: Vec<String> = (0..3)
        .map(|first| {
            let mut all = kept.to_vec();
            all.rotate_left(first);
            all.join(",")
        })
        .collect();
    let load = Load::start(&servers, SHAPE).await?;
    let first = connect(&kept[0])?;

    first.remove_node(5).await?;
    until_forgotten(&first, 5).await?;
    until_whole(&first, &[5]).await?;
    cluster.kill(NodeNumber(5))?;
    println!("after the removal: {} confirmed", load.confirmed());

    cluster.kill(NodeNumber(4))?;
    until_whole(&first, &[4, 5]).await?;
    println!("after the loss: {} confirmed", load.confirmed());
    // It was away for long: what it has is removed, and it serves again.
    cluster.restart(NodeNumber(4))?;
    let replicas = first.cluster().await?.nodes;
    ensure!(replicas.len() == 4, "{replicas:?}");

    let gap = load.longest_gap_ms();
    let report = check(&load.finish(Duration::from_secs(90)).await?);
    println!("{report}longest time a publisher went without a confirm: {gap} ms");
    ensure!(report.is_clean(), "{report}");
    ensure!(report.confirmed > 500, "hardly anything was confirmed");
    Ok(())
}

#[test]
fn nodes_removed_and_lost_under_load_lose_and_double_nothing() {
    let options = Options {
        nodes: 5,
        ..Options::default()
    };
    let mut cluster = Cluster::prepare(options).unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_CLUSTER_REPAIR_AFTER", "5s");
        cluster.set_environment(number, "WARREN_CLUSTER_LEADER_REST", "5s");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&mut cluster)).unwrap();
}
