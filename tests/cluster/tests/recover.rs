//! Two of three nodes are lost for good: what the third one has becomes the cluster, and blank nodes join it. Not here: nodes that come
//! back with what they had (`faults.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use warren_client::{Connection, ConsumerOptions, Message, PublisherOptions, QueueSpec, Target};
use warren_cluster::connect;
use warren_cluster::run::runtime;
use warren_cluster::watch::{no_change, until};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

const QUEUES: [&str; 4] = ["a", "b", "c", "d"];
const EACH: usize = 50;
const WITHIN: Duration = Duration::from_secs(60);

/// The command on the directory of node 1.
fn recover(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cluster.warren();
    command.args(["cluster", "recover-majority", "--config"]);
    command.arg(cluster.directory().join("node-1/config.toml"));
    command.args(arguments);
    let output = run_within(command, WITHIN).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    println!(
        "recover-majority {}: {}\n{said}",
        arguments.join(" "),
        output.status
    );
    (output.status.code(), said)
}

fn body(queue: &str, number: usize) -> String {
    format!("{queue}-{number}")
}

/// Publishes numbers to every queue; each is confirmed when it returns.
async fn publish(connection: &Connection, numbers: std::ops::Range<usize>) -> Result<()> {
    let publisher = connection.publisher(PublisherOptions::default());
    for queue in QUEUES {
        for number in numbers.clone() {
            let message = Message::new(body(queue, number));
            let outcome = publisher
                .publish(&Target::queue(queue), message)
                .await?
                .await?;
            ensure!(outcome.is_success(), "{outcome:?}");
        }
    }
    Ok(())
}

/// Everything that is in the queues, and acknowledges it.
async fn drained(connection: &Connection, count: usize) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for queue in QUEUES {
        let mut stream = connection.consume(ConsumerOptions::queue(queue)).await?;
        for _ in 0..count {
            let next = tokio::time::timeout(WITHIN, stream.next()).await??;
            let delivery = next.unwrap();
            let new = found.insert(String::from_utf8(delivery.message.body.to_vec())?);
            ensure!(new, "delivered twice: {:?}", delivery.message.body);
            ensure!(stream.ack(&delivery).await?.await?.is_done());
        }
    }
    Ok(found)
}

fn all(numbers: std::ops::Range<usize>) -> BTreeSet<String> {
    let queues = QUEUES.into_iter();
    queues
        .flat_map(|queue| numbers.clone().map(move |number| body(queue, number)))
        .collect()
}

/// The node says what was done, by whom, and what was kept.
async fn is_told(first: &Connection) -> Result<()> {
    let told = first.cluster().await?.recoveries;
    ensure!(told.len() == 1, "{told:?}");
    ensure!(told[0].lost_nodes == [2, 3] && told[0].by.contains("(uid "));
    ensure!(told[0].node_id == 1 && told[0].at.is_some(), "{told:?}");
    ensure!(told[0].groups.len() == 17, "{told:?}");
    Ok(())
}

async fn run(cluster: &mut Cluster) -> Result<()> {
    let nodes: Vec<NodeNumber> = cluster.numbers();
    let first = connect(&cluster.grpc_address(nodes[0]))?;
    for queue in QUEUES {
        first.declare_queue(&QueueSpec::durable(queue)).await?;
    }
    // Without node 3 everything that is confirmed is on node 1, too.
    cluster.kill(nodes[2])?;
    publish(&first, 0..EACH).await?;
    drop(first);

    let (code, said) = recover(cluster, &["--dry-run"]);
    ensure!(
        code == Some(5) && said.contains("stop the node first"),
        "{said}"
    );
    cluster.kill(nodes[0])?;
    let (code, said) = recover(cluster, &["--dry-run"]);
    ensure!(code == Some(0), "{said}");
    ensure!(
        said.contains("lost for good: nodes 2, 3") && said.contains("shard 16: "),
        "{said}"
    );
    let (code, said) = recover(cluster, &["--lost", "2"]);
    ensure!(
        code == Some(5) && said.contains("say so with --lost 2,3"),
        "{said}"
    );
    // Node 2 still runs.
    let (code, said) = recover(cluster, &["--lost", "2,3"]);
    ensure!(
        code == Some(5) && said.contains("node 2 answers at"),
        "{said}"
    );

    cluster.kill(nodes[1])?;
    for node in &nodes[1..] {
        fs::remove_dir_all(cluster.data_directory(*node))?;
    }
    let (code, said) = recover(cluster, &["--lost", "2,3"]);
    ensure!(code == Some(0), "{said}");
    let (code, said) = recover(cluster, &["--lost", "2,3"]);
    ensure!(
        code == Some(5) && said.contains("node 1 is the only member"),
        "{said}"
    );
    cluster.restart(nodes[0])?;
    let first = connect(&cluster.grpc_address(nodes[0]))?;
    publish(&first, EACH..EACH + 10).await?;
    println!("node 1 serves alone");
    is_told(&first).await?;

    cluster.spawn(nodes[1])?;
    cluster.spawn(nodes[2])?;
    cluster.wait_all_ready()?;
    until(&first, "all shards have three copies", |it| {
        let whole = it.shards.iter().all(|it| it.replicas.len() == 3);
        no_change(it) && whole && it.nodes.len() == 3
    })
    .await?;
    // The one that had everything goes: the new copies have it, too.
    cluster.kill(nodes[0])?;
    let second = connect(&cluster.grpc_address(nodes[1]))?;
    let found = drained(&second, EACH + 10).await?;
    ensure!(found == all(0..EACH + 10), "{} are there", found.len());
    cluster.restart(nodes[0])?;
    Ok(())
}

#[test]
fn two_of_three_nodes_lost_for_good_third_becomes_the_cluster() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime().block_on(run(&mut cluster)).unwrap();
}
