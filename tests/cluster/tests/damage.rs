//! A file of a node's applied state is damaged on its disk: the node finds it, says so, sets aside the replica whose rows it holds, and is given a new
//! one, while the cluster serves. Not here: rows that are whole and wrong (`warren-shard`, `audits`), nodes that are lost (`members`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use warren_client::{Cluster as Seen, Connection};
use warren_cluster::audits::all_agree;
use warren_cluster::run::{conclude, runtime};
use warren_cluster::watch::until;
use warren_cluster::{Load, Shape, connect};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const SHAPE: Shape = Shape {
    queues: 2,
    publishers: 2,
    consumers: 2,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};
const VICTIM: NodeNumber = NodeNumber(2);
/// Enough for blocks of one shard to fill most of a file.
const BACKLOG: usize = 4_000;
const LINE_BYTES: usize = 1_000;

/// The largest file of message blocks.
fn file_of_blocks(state: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut open = vec![state.to_owned()];
    while let Some(directory) = open.pop() {
        for item in fs::read_dir(directory).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == "blob") {
                found.push((path.metadata().unwrap().len(), path));
            }
        }
    }
    let (bytes, path) = found.into_iter().max().expect("the backlog is on the disk");
    assert!(bytes > 1 << 20, "most of it is the backlog: {bytes} bytes");
    path
}

/// Turns some bits in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8]
        .iter_mut()
        .for_each(|it| *it ^= 0x55);
    fs::write(path, bytes).unwrap();
}

fn fill(cluster: &Cluster) -> Result<()> {
    cluster.run(&["queue", "declare", "backlog"])?;
    let file = cluster.directory().join("lines");
    let line = "x".repeat(LINE_BYTES);
    let lines: Vec<String> = (0..BACKLOG).map(|it| format!("{it} {line}")).collect();
    fs::write(&file, lines.join("\n"))?;
    let file = file.to_str().context("the path is text")?;
    cluster.run(&["publish", "--queue", "backlog", "--file", file])?;
    Ok(())
}

/// The replicas of a node, by shard.
fn replicas(seen: &Seen, node: u64) -> Vec<(u64, u64)> {
    let shards = seen.shards.iter();
    let all = shards.flat_map(|it| it.replicas.iter().map(move |replica| (it.shard, replica)));
    let own = all.filter(|(_, replica)| replica.node_id == node);
    own.map(|(shard, replica)| (shard, replica.replica_id))
        .collect()
}

async fn play(cluster: &mut Cluster) -> Result<()> {
    let numbers = cluster.numbers().into_iter();
    let servers: Vec<String> = numbers.map(|it| cluster.servers_from(it)).collect();
    let load = Load::start(&servers, SHAPE).await?;
    fill(cluster)?;
    let numbers = cluster.numbers().into_iter();
    let all: Result<Vec<Connection>> = numbers
        .map(|it| connect(&cluster.grpc_address(it)))
        .collect();
    let all = all?;
    all_agree(&all).await?;
    let victim = VICTIM.0 as u64;
    let before = replicas(&all[0].cluster().await?, victim);

    cluster.terminate(VICTIM, Duration::from_secs(60))?;
    let file = file_of_blocks(&cluster.data_directory(VICTIM).join("state"));
    println!("damaged: {}", file.display());
    damage(&file);
    cluster.restart(VICTIM)?;

    until(&all[0], "a replica is replaced", |it| {
        let now = replicas(it, victim);
        now.len() == before.len() && now != before
    })
    .await?;
    all_agree(&all).await?;
    let log = fs::read_to_string(cluster.data_directory(VICTIM).join("../log"))?;
    // RocksDB names table files, but not files of large values.
    let said = log.contains("set aside") && log.contains("Blob CRC mismatch");
    ensure!(said, "the log does not say what is damaged");
    conclude(load, cluster.directory()).await
}

#[test]
fn damaged_file_is_found_and_its_replica_replaced() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime().block_on(play(&mut cluster)).unwrap();
}
