//! A file of a node's applied state or of its log is damaged on its disk: the node finds it, says so, sets aside the replica whose rows or
//! entries it holds, and is given a new one, while the cluster serves. Not here: rows that are whole and wrong (`warren-shard`, `audits`), nodes that are lost (`members`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/pages.rs"]
mod pages;

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use warren_client::{Cluster as Seen, Connection};
use warren_cluster::audits::all_agree;
use warren_cluster::run::{conclude, runtime};
use warren_cluster::watch::{answered, no_change, until, until_within};
use warren_cluster::{Load, Shape, connect};
use warren_testkit::process::{Cluster, NodeNumber, Options};

use pages::{figure, page};

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

/// RocksDB's files of one kind, the largest last.
fn files_of(state: &Path, kind: &str) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    for item in fs::read_dir(state.join("rocks")).unwrap() {
        let path = item.unwrap().path();
        // It may have gone just now, if its node runs.
        if let (Some(true), Ok(about)) = (path.extension().map(|it| it == kind), path.metadata()) {
            found.push((about.len(), path));
        }
    }
    found.sort();
    found
}

/// The largest file of message blocks.
fn file_of_blocks(state: &Path) -> PathBuf {
    let (bytes, path) = files_of(state, "blob")
        .pop()
        .expect("the backlog is on the disk");
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

/// Turns some bits in the middle of a file that a node has open.
fn damage_in_place(path: &Path) {
    damage_at(path, |bytes| bytes / 2);
}

fn damage_at(path: &Path, place: impl Fn(u64) -> u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let middle = place(file.metadata().unwrap().len());
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, middle).unwrap();
    bytes.iter_mut().for_each(|it| *it ^= 0x55);
    file.write_all_at(&bytes, middle).unwrap();
    file.sync_all().unwrap();
}

/// The newest file of the log that is surely full: the last two are written, or ready to be.
fn full_segment(log: &Path) -> PathBuf {
    let files = fs::read_dir(log).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|it| it.extension().is_some_and(|it| it == "segment"))
        .collect();
    files.sort();
    assert!(files.len() > 2, "the backlog is in the log: {files:?}");
    files.swap_remove(files.len() - 3)
}

fn fill(cluster: &Cluster) -> Result<()> {
    cluster.run(&["queue", "declare", "backlog"])?;
    publish(cluster, 0..BACKLOG)
}

fn publish(cluster: &Cluster, numbers: Range<usize>) -> Result<()> {
    let file = cluster.directory().join("lines");
    let line = "x".repeat(LINE_BYTES);
    let lines: Vec<String> = numbers.map(|it| format!("{it} {line}")).collect();
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

/// A cluster under load, with a backlog, whose replicas are alike.
async fn begin(cluster: &Cluster) -> Result<(Load, Vec<Connection>)> {
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
    Ok((load, all))
}

async fn play(cluster: &mut Cluster) -> Result<()> {
    let (load, all) = begin(cluster).await?;
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

async fn play_log(cluster: &mut Cluster) -> Result<()> {
    let (load, all) = begin(cluster).await?;
    let victim = VICTIM.0 as u64;
    let before = replicas(&all[0].cluster().await?, victim);
    let file = full_segment(&cluster.data_directory(VICTIM).join("log"));
    println!("damaged: {}", file.display());
    damage_in_place(&file);

    until(&all[0], "a replica is replaced", |it| {
        let now = replicas(it, victim);
        now.len() == before.len() && now != before
    })
    .await?;
    let log = fs::read_to_string(cluster.data_directory(VICTIM).join("../log"))?;
    let name = file.file_name().context("a name")?.to_string_lossy();
    let is_told = |it: &str| it.contains("log is damaged") && it.contains(&*name);
    ensure!(log.lines().any(is_told), "the log does not say which file");
    ensure!(log.contains("entries of its log cannot be read"), "why");
    // What lived in the file beside was written again: it goes, and does not stop the next start.
    let metrics = cluster.metrics_address(VICTIM);
    let damaged = || {
        let page = page(&metrics, "/metrics");
        let found = figure(&page, "warren_log_damage_found_total");
        (found, figure(&page, "warren_log_damaged_files"))
    };
    until(&all[0], "the damaged file is gone", |_| {
        damaged() == (Some(1.0), Some(0.0))
    })
    .await?;
    all_agree(&all).await?;
    cluster.kill(VICTIM)?;
    cluster.restart(VICTIM)?;
    all_agree(&all).await?;
    conclude(load, cluster.directory()).await
}

#[test]
fn damaged_log_is_found_while_the_node_runs_and_its_replica_replaced() {
    let mut cluster = Cluster::prepare(Options::default()).unwrap();
    for number in cluster.numbers() {
        for (variable, value) in [
            ("WARREN_STORAGE_LOG_SEGMENT", "1 MiB"),
            ("WARREN_STORAGE_LOG_SCRUB_EVERY", "1s"),
        ] {
            cluster.set_environment(number, variable, value);
        }
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    runtime().block_on(play_log(&mut cluster)).unwrap();
}

#[test]
fn damaged_file_is_found_and_its_replica_replaced() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime().block_on(play(&mut cluster)).unwrap();
}

fn log_of(cluster: &Cluster, node: NodeNumber) -> String {
    fs::read_to_string(cluster.data_directory(node).join("../log")).unwrap()
}

/// A table's end is damaged while its node is down: the store cannot be opened, and no replica of the node can be told from another.
async fn play_table(cluster: &mut Cluster) -> Result<()> {
    let (load, all) = begin(cluster).await?;
    let victim = VICTIM.0 as u64;
    let before = replicas(&all[0].cluster().await?, victim);
    cluster.terminate(VICTIM, Duration::from_secs(60))?;
    let data = cluster.data_directory(VICTIM);
    let (_, file) = files_of(&data.join("state"), "sst")
        .pop()
        .context("a table")?;
    println!("damaged: {}", file.display());
    damage_at(&file, |bytes| bytes - 40);
    cluster.restart(VICTIM)?;

    let log = log_of(cluster, VICTIM);
    ensure!(log.contains("is moved to its directory damaged"), "{log}");
    ensure!(data.join("damaged/state").is_dir(), "it is kept");
    until(&all[0], "all replicas of the node are new", |it| {
        let now = replicas(it, victim);
        let old = |it: &(u64, u64)| before.contains(it);
        no_change(it) && now.len() == before.len() && !now.iter().any(old)
    })
    .await?;
    all_agree(&all).await?;
    // Again: this time it is not done, or a broken disk would be filled for ever.
    cluster.terminate(VICTIM, Duration::from_secs(60))?;
    let (_, file) = files_of(&data.join("state"), "sst")
        .pop()
        .context("a table")?;
    damage_at(&file, |bytes| bytes - 40);
    let (status, log) = cluster.run_to_its_end(VICTIM, Duration::from_secs(60))?;
    ensure!(
        !status.success() && log.contains("is the disk broken?"),
        "{log}"
    );
    // What an operator does then.
    fs::remove_dir_all(&data)?;
    cluster.restart(VICTIM)?;
    until(&all[0], "all shards have three copies", |it| {
        no_change(it) && it.shards.iter().all(|it| it.replicas.len() == 3)
    })
    .await?;
    conclude(load, cluster.directory()).await
}

#[test]
fn node_whose_table_is_damaged_begins_anew_by_itself() {
    let options = Options {
        ready_within: Duration::from_secs(150),
        ..Options::default()
    };
    let mut cluster = Cluster::start(options).unwrap();
    runtime().block_on(play_table(&mut cluster)).unwrap();
}

/// Few enough for their blocks to lie in tables.
const SMALL: usize = 8;

/// Starts the node again whenever it has ended, as what runs nodes does; how often that was.
fn supervise(mut cluster: Cluster, node: NodeNumber, stop: &AtomicBool) -> (Cluster, usize) {
    let mut starts = 0;
    while !stop.load(Ordering::Relaxed) {
        if !cluster.runs(node).unwrap() {
            println!("node {} has ended: it is started again", node.0);
            starts += 1;
            cluster.restart(node).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    (cluster, starts)
}

/// A table is damaged in its middle while its node runs. Whoever meets it first finds it: an audit, then the replica whose rows they are is
/// replaced; or a compaction, then the node ends and begins anew when it is started again.
async fn play_running_table(mut cluster: Cluster) -> Result<()> {
    let (load, all) = begin(&cluster).await?;
    for from in (0..60).map(|it| it * SMALL) {
        publish(&cluster, from..from + SMALL)?;
    }
    // What it has is in tables afterwards, and none of it in memory.
    cluster.terminate(VICTIM, Duration::from_secs(60))?;
    cluster.restart(VICTIM)?;
    all_agree(&all).await?;
    let before = replicas(&all[0].cluster().await?, VICTIM.0 as u64);
    let directory = cluster.directory().to_owned();
    let data = cluster.data_directory(VICTIM);
    let (bytes, file) = files_of(&data.join("state"), "sst")
        .pop()
        .context("a table")?;
    println!("damaged: {}, {bytes} bytes", file.display());
    for tenth in 2..8 {
        damage_at(&file, |bytes| bytes * tenth / 10);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let supervisor = {
        let stop = stop.clone();
        tokio::task::spawn_blocking(move || supervise(cluster, VICTIM, &stop))
    };
    let mended = async {
        let replaced = |it: &Seen| {
            let now = replicas(it, VICTIM.0 as u64);
            no_change(it) && now.len() == before.len() && now != before
        };
        let within = Duration::from_secs(300);
        until_within(&all[0], "a replica is replaced", within, replaced).await?;
        // The node may end in this moment: the table is there as long as it holds rows of others.
        answered(async || all_agree(&all).await).await?;
        conclude(load, &directory).await
    };
    let mended = mended.await;
    stop.store(true, Ordering::Relaxed);
    let (_cluster, starts) = supervisor.await?;
    mended?;
    let log = fs::read_to_string(data.join("../log"))?;
    let is_set_aside = log.contains("a row cannot be read") && log.contains("set aside");
    let is_anew = log.contains("is moved to its directory damaged");
    println!("set aside: {is_set_aside}; begun anew: {is_anew}, started {starts} times");
    ensure!(
        is_set_aside || is_anew,
        "the log does not say what is damaged"
    );
    Ok(())
}

#[test]
fn table_that_is_damaged_while_its_node_runs_is_found_and_what_it_held_replaced() {
    let options = Options {
        ready_within: Duration::from_secs(150),
        ..Options::default()
    };
    let cluster = Cluster::start(options).unwrap();
    runtime().block_on(play_running_table(cluster)).unwrap();
}
