//! What a golden data directory holds: how it is filled by the version that makes it, and what every later version must find in it.
//! Not here: opening them (`tests/golden.rs`), making one (`main.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

/// The only node.
pub const FIRST: NodeNumber = NodeNumber(1);
/// For a command, and for a node's end.
pub const WITHIN: Duration = Duration::from_secs(60);

/// Where the golden directories are, packed, one for each version.
#[must_use]
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// All of them, oldest first.
///
/// # Errors
/// The system's.
pub fn archives() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for item in fs::read_dir(golden())? {
        let path = item?.path();
        if path.to_string_lossy().ends_with(".tar.gz") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A cluster of one node, not started; its log's segments are small.
///
/// # Errors
/// As [`Cluster::prepare`].
pub fn one_node() -> Result<Cluster> {
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })?;
    cluster.set_environment(FIRST, "WARREN_STORAGE_LOG_SEGMENT", "4 MiB");
    Ok(cluster)
}

/// Runs a command to its good end and gives what it said.
///
/// # Errors
/// What it said, if it failed or took too long.
pub fn run(command: Command) -> Result<String> {
    let about = format!("{command:?}");
    let output = run_within(command, WITHIN)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    if !output.status.success() {
        bail!("{about}: {}\n{said}", output.status);
    }
    Ok(said)
}

fn home(cluster: &Cluster) -> Result<PathBuf> {
    let data = cluster.data_directory(FIRST);
    Ok(data.parent().context("it has a parent")?.to_owned())
}

/// Gives the node, which was never started, a golden directory as its data directory.
///
/// # Errors
/// What tar says.
pub fn unpack(archive: &Path, cluster: &Cluster) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--file"]).arg(archive);
    tar.arg("--directory").arg(home(cluster)?);
    run(tar).map(drop)
}

/// Packs the data directory of the node, which does not run.
///
/// # Errors
/// What tar says.
pub fn pack(cluster: &Cluster, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--gzip",
        "--sparse",
        "--owner=0",
        "--group=0",
        "--file",
    ]);
    tar.arg(archive).arg("--directory").arg(home(cluster)?);
    tar.arg("data");
    run(tar).map(drop)
}

/// Confirmed, and not consumed, per queue; in order.
pub type Expected = Vec<(&'static str, Vec<String>)>;

/// Lines for a queue; every tenth is long enough for a blob file.
fn lines(queue: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            let fill = if number % 10 == 9 { 20_000 } else { 40 };
            format!("{queue} {number} {}", "x".repeat(fill))
        })
        .collect()
}

/// Publishes lines to what `target` names and waits for the confirms.
fn publish(cluster: &Cluster, target: &[&str], lines: &[String]) -> Result<()> {
    let file = cluster.directory().join("lines.txt");
    fs::write(&file, lines.join("\n") + "\n")?;
    let file = file.to_string_lossy().into_owned();
    let arguments = [&["publish", "--file", &file], target].concat();
    cluster.run(&arguments).map(drop)
}

/// Everything in a queue, in order; it is acknowledged.
fn consume(cluster: &Cluster, queue: &str, count: usize) -> Result<Vec<String>> {
    let count = count.to_string();
    let arguments = [
        "consume",
        "--queue",
        queue,
        "--count",
        &count,
        "--timeout",
        "20",
    ];
    let out = cluster.run(&arguments)?;
    Ok(out.lines().map(str::to_owned).collect())
}

/// Fills the only node of a cluster with every kind of object and row that its version knows.
///
/// # Errors
/// What a command says.
pub fn fill(cluster: &Cluster) -> Result<()> {
    cluster.run(&["queue", "declare", "plain"])?;
    publish(cluster, &["--queue", "plain"], &lines("plain", 200))?;
    let taken = consume(cluster, "plain", 50)?;
    ensure!(taken == lines("plain", 50), "the first fifty in order");

    let limited = [
        "queue",
        "declare",
        "limited",
        "--argument",
        "x-max-length=30",
    ];
    cluster.run(&limited)?;
    publish(cluster, &["--queue", "limited"], &lines("limited", 50))?;

    cluster.run(&["queue", "declare", "dead"])?;
    cluster.run(&[
        "queue",
        "declare",
        "source",
        "--argument",
        "x-max-length=5",
        "--argument",
        "x-dead-letter-exchange=",
        "--argument",
        "x-dead-letter-routing-key=dead",
    ])?;
    publish(cluster, &["--queue", "source"], &lines("source", 12))?;

    cluster.run(&["exchange", "declare", "news", "--type", "topic"])?;
    cluster.run(&["queue", "declare", "sports"])?;
    let binding = [
        "binding",
        "create",
        "news",
        "sports",
        "--routing-key",
        "*.sports.#",
    ];
    cluster.run(&binding)?;
    let key = ["--exchange", "news", "--routing-key", "eu.sports.cup"];
    publish(cluster, &key, &lines("sports", 7))?;
    cluster.run(&[
        "policy",
        "set",
        "short",
        "^later",
        "--define",
        "max-length=3",
    ])?;
    Ok(())
}

/// What [`fill`] leaves.
#[must_use]
pub fn expected() -> Expected {
    let tail = |queue: &str, count: usize, kept: usize| lines(queue, count).split_off(count - kept);
    vec![
        ("plain", tail("plain", 200, 150)),
        ("limited", tail("limited", 50, 30)),
        ("dead", lines("source", 12).into_iter().take(7).collect()),
        ("source", tail("source", 12, 5)),
        ("sports", lines("sports", 7)),
    ]
}

/// Finds everything that [`fill`] made, and that it still works.
///
/// # Errors
/// What is not as it was.
pub fn check(cluster: &Cluster) -> Result<()> {
    for (queue, lines) in expected() {
        let found = consume(cluster, queue, lines.len())?;
        ensure!(
            found == lines,
            "queue {queue} holds other messages than were confirmed"
        );
    }
    // What was declared is at work: the binding, the limit of a queue, the policy for a queue to come.
    let key = ["--exchange", "news", "--routing-key", "us.sports.final.won"];
    publish(cluster, &key, &lines("new", 3))?;
    let found = consume(cluster, "sports", 3)?;
    ensure!(found == lines("new", 3), "the topic binding routes");
    cluster.run(&["queue", "declare", "later"])?;
    for (queue, limit) in [("limited", 30), ("later", 3)] {
        publish(cluster, &["--queue", queue], &lines(queue, 40))?;
        let found = consume(cluster, queue, limit)?;
        let kept = lines(queue, 40).split_off(40 - limit);
        ensure!(found == kept, "queue {queue} keeps {limit}");
    }
    Ok(())
}
