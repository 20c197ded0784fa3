//! Unmodified pika programs against three real nodes (`tests/pika`). Needs Python 3 with `venv` and its package index.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/programs.rs"]
mod programs;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use programs::Program;
use warren_client::{Connection, ConnectionOptions, Vhost, parse_addresses};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

/// The programs' own time, the first time with the client's installation.
const WITHIN: Duration = Duration::from_secs(900);
/// A vhost where basic.qos changes consumers that are there (features C32).
const LIVE_VHOST: &str = "live";

fn make_live_vhost(cluster: &Cluster) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let servers = parse_addresses(&cluster.servers_from(NodeNumber(1))).unwrap();
        let connection = Connection::new(&servers, ConnectionOptions::default()).unwrap();
        let vhost = Vhost {
            name: LIVE_VHOST.to_owned(),
            live_prefetch: true,
            ..Vhost::default()
        };
        let made = connection.create_vhost(&vhost).await.unwrap();
        assert!(made.live_prefetch);
    });
}

fn command(cluster: &Cluster, nodes: &[NodeNumber]) -> Command {
    let ports: Vec<String> = nodes
        .iter()
        .map(|number| {
            let address = cluster.amqp_address(*number);
            address.rsplit_once(':').unwrap().1.to_owned()
        })
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pika/run.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg("--port").arg(ports.join(","));
    command.env("WARREN_PIKA_VENV", cluster.directory().join("pika-venv"));
    command
}

#[test]
fn pika_programs_work_against_any_node() {
    let cluster = Cluster::start(Options::default()).unwrap();
    make_live_vhost(&cluster);
    let mut command = command(&cluster, &cluster.numbers());
    command.args(["--live-vhost", LIVE_VHOST]);
    let output = run_within(command, WITHIN).unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Features C44: the client is on one node; the others, which lead most of the queues, are killed one after the other.
#[test]
fn transactions_are_whole_when_leaders_are_killed_in_the_middle() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let numbers = cluster.numbers();
    let mut command = command(&cluster, &numbers[..1]);
    command.arg("--killed");
    let program = Program::under_way(command);
    for number in &numbers[1..] {
        cluster.kill(*number).unwrap();
        cluster.restart(*number).unwrap();
    }
    program.passes();
}
