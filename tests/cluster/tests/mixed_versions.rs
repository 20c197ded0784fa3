//! A cluster is upgraded node by node under load, taken back, upgraded again and finalised (guarantee G23): nothing is lost, doubled or
//! out of order, and what only the next version knows is refused until it is finalised. The next version is this one with one command
//! and one field more (feature `next-version`; `scripts/test.sh` builds it). Not here: data directories of releases (`tests/upgrade`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use warren_cluster::run::{conclude, runtime};
use warren_cluster::{Load, Shape};
use warren_testkit::process::{
    Cluster, NodeNumber, Options, next_warren_binary, run_within, warren_binary,
};

const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 2,
    consumers: 2,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};
const WITHIN: Duration = Duration::from_secs(60);
/// An argument of queues that the next version has and this one does not.
const NOTED: [&str; 5] = ["queue", "declare", "noted", "--argument", "x-next-note=7"];

/// A command at one node: how it ended, and everything it said.
fn ask(cluster: &Cluster, at: usize, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cluster.warren();
    command.args(arguments);
    command.args(["--server", &cluster.grpc_address(NodeNumber(at))]);
    said(command)
}

fn said(command: Command) -> (Option<i32>, String) {
    let about = format!("{command:?}");
    let output = run_within(command, WITHIN).unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    println!("{about}: {}\n{text}", output.status);
    (output.status.code(), text)
}

/// Until the node's status says so.
fn until_status(cluster: &Cluster, at: usize, says: &str) {
    let began = Instant::now();
    loop {
        let (_, text) = ask(cluster, at, &["cluster", "status"]);
        if text.contains(says) {
            return;
        }
        assert!(began.elapsed() < WITHIN, "not {says:?} but\n{text}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Stops the node in good order and starts it with another binary, while the load goes on.
async fn roll(cluster: &mut Cluster, number: usize, binary: &Path, load: &Load) -> Result<()> {
    let node = NodeNumber(number);
    let before = load.confirmed();
    let status = cluster.terminate(node, WITHIN)?;
    ensure!(status.success(), "node {number}: {status}");
    cluster.set_binary(node, binary);
    cluster.restart(node)?;
    let began = Instant::now();
    let after = load.confirmed();
    while load.confirmed() < after + 200 {
        ensure!(began.elapsed() < WITHIN, "nothing is confirmed any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let confirmed = load.confirmed() - before;
    println!(
        "node {number} runs {}: {confirmed} confirmed meanwhile",
        binary.display()
    );
    Ok(())
}

async fn run(cluster: &mut Cluster, next: &Path) -> Result<()> {
    let this = warren_binary();
    let numbers = cluster.numbers();
    let servers: Vec<String> = numbers.iter().map(|it| cluster.servers_from(*it)).collect();
    let load = Load::start(&servers, SHAPE).await?;

    // One node, then two, then all know the next version, and nothing of it may be used.
    for number in 1..=3 {
        roll(cluster, number, next, &load).await?;
        let (code, text) = ask(cluster, 1, &NOTED);
        ensure!(code == Some(5), "{text}");
        ensure!(
            text.contains("needs version 3, and the cluster has finalised version 2"),
            "{text}"
        );
        if number < 3 {
            let former = format!("node {} knows versions 1 to 2 only", number + 1);
            let (code, text) = ask(cluster, 1, &["cluster", "finalise", "3"]);
            ensure!(code == Some(5) && text.contains(&former), "{text}");
            until_status(cluster, 3, "an upgrade is under way");
        }
    }
    until_status(
        cluster,
        2,
        "all nodes know version 3, which waits to be finalised",
    );
    let (code, text) = ask(cluster, 2, &["cluster", "finalise", "--dry-run"]);
    ensure!(
        code == Some(0) && text.contains("version 3 would be"),
        "{text}"
    );

    // A queue that the version before made with an argument that meant nothing to it: the next version's leader proposes no more.
    for number in [3, 1, 2] {
        roll(cluster, number, &this, &load).await?;
    }
    until_status(cluster, 1, "version 2 is finalised\n");
    let old = NOTED.map(|it| if it == "noted" { "old" } else { it });
    let (code, text) = ask(cluster, 1, &old);
    ensure!(code == Some(0), "it means nothing to this version: {text}");

    for number in [2, 3, 1] {
        roll(cluster, number, next, &load).await?;
    }
    until_status(
        cluster,
        3,
        "all nodes know version 3, which waits to be finalised",
    );
    for _ in 0..2 {
        let (code, text) = ask(cluster, 3, &["cluster", "finalise"]);
        ensure!(
            code == Some(0) && text.contains("version 3 is finalised"),
            "{text}"
        );
    }
    for at in 1..=3 {
        until_status(cluster, at, "version 3 is finalised\n");
    }
    let (code, text) = ask(cluster, 2, &NOTED);
    ensure!(code == Some(0), "{text}");

    refused_to_start(cluster, &this)?;
    roll(cluster, 1, next, &load).await?;
    conclude(load, cluster.directory()).await?;
    commands_in_the_log(cluster, next, &this)
}

/// From now on there is no way back: a node with the former software ends and says what it needs.
fn refused_to_start(cluster: &mut Cluster, this: &Path) -> Result<()> {
    let node = NodeNumber(1);
    cluster.terminate(node, WITHIN)?;
    cluster.set_binary(node, this);
    let (status, log) = cluster.run_to_its_end(node, WITHIN)?;
    println!("node 1 with the version before: {status}");
    ensure!(status.code() == Some(5), "{status}\n{log}");
    let says = "has finalised version 3, and this software knows versions 1 to 2 only";
    ensure!(log.contains(says), "{log}");
    // `roll` stops a node that runs.
    cluster.set_binary(node, &next_warren_binary());
    cluster.restart(node)
}

/// The next version's command is in the log, and tells older software which version it needs.
fn commands_in_the_log(cluster: &mut Cluster, next: &Path, this: &Path) -> Result<()> {
    cluster.terminate(NodeNumber(1), WITHIN)?;
    let data = cluster.data_directory(NodeNumber(1));
    let dump = |binary: &Path| {
        let mut command = Command::new(binary);
        command
            .args(["data", "dump", "--entries", "--full"])
            .arg(&data);
        let output = run_within(command, WITHIN).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let known = dump(next);
    ensure!(known.contains("Note(Note"), "no note is in the log");
    let unknown = dump(this);
    let says = "command 1000 is not known to this node";
    ensure!(unknown.contains(says) && unknown.contains("needs version 3 of the software"));
    ensure!(!unknown.contains("Note(Note"));
    Ok(())
}

/// The binary of the next version.
fn next_version() -> PathBuf {
    let next = next_warren_binary();
    assert!(
        next.is_file(),
        "no binary at {}: scripts/test.sh builds it (build_next in scripts/lib.sh)",
        next.display()
    );
    next
}

#[test]
fn nodes_are_upgraded_taken_back_and_upgraded_for_good_under_load() {
    let next = next_version();
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime().block_on(run(&mut cluster, &next)).unwrap();
}

#[test]
fn version_that_all_nodes_have_known_for_a_while_is_finalised() {
    let next = next_version();
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let node = NodeNumber(1);
    cluster.set_environment(node, "WARREN_CLUSTER_FINALISE_AFTER", "2s");
    cluster.restart(node).unwrap();
    cluster.terminate(node, WITHIN).unwrap();
    cluster.set_binary(node, &next);
    cluster.restart(node).unwrap();
    until_status(&cluster, 1, "version 3 is finalised\n");
    let (code, text) = ask(&cluster, 1, &NOTED);
    assert_eq!(code, Some(0), "{text}");
}
