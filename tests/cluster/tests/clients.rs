//! Unmodified programs with amqplib (Node) and lapin (Rust) against three real nodes, and one of each that outlives the loss of a node.
//! Needs npm and the registries. Not here: pika (`pika`), the programs (`tests/amqplib`, `tests/lapin`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/programs.rs"]
mod programs;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use programs::Program;
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

/// The programs' own time, the first time with a build.
const WITHIN: Duration = Duration::from_secs(900);

fn port(cluster: &Cluster, number: NodeNumber) -> String {
    let address = cluster.amqp_address(number);
    address.rsplit_once(':').unwrap().1.to_owned()
}

fn command(client: &str, cluster: &Cluster, nodes: &[NodeNumber]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../{client}/run.sh"));
    let ports: Vec<String> = nodes.iter().map(|number| port(cluster, *number)).collect();
    let mut command = Command::new("bash");
    command.arg(script).arg("--port").arg(ports.join(","));
    command.env("WARREN_AMQPLIB_DIR", cluster.directory().join("amqplib"));
    command
}

fn all_pass(client: &str) {
    let cluster = Cluster::start(Options::default()).unwrap();
    let command = command(client, &cluster, &cluster.numbers());
    let output = run_within(command, WITHIN).unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// The client is on one node; another, which leads some of the queues, is killed when the program is under way.
fn outlives_a_killed_node(client: &str) {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let numbers = cluster.numbers();
    let mut command = command(client, &cluster, &numbers[..1]);
    command.arg("--failover");
    let program = Program::under_way(command);
    cluster.kill(numbers[1]).unwrap();
    program.passes();
}

#[test]
fn amqplib_programs_work_against_any_node() {
    all_pass("amqplib");
}

#[test]
fn lapin_programs_work_against_any_node() {
    all_pass("lapin");
}

#[test]
fn amqplib_client_outlives_a_killed_leader() {
    outlives_a_killed_node("amqplib");
}

#[test]
fn lapin_client_outlives_a_killed_leader() {
    outlives_a_killed_node("lapin");
}
