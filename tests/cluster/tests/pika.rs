//! Unmodified pika programs against three real nodes (`tests/pika`). Needs Python 3 with `venv` and its package index.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/programs.rs"]
mod programs;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use programs::Program;
use warren_client::{Connection, ConnectionOptions, Vhost, parse_addresses};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

/// The programs' own time, the first time with the client's installation.
const WITHIN: Duration = Duration::from_secs(900);
/// A node that ends, or what ends with it.
const END_WITHIN: Duration = Duration::from_secs(60);
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

/// Features C10: whoever is connected to a node that stops is told so, with 320.
#[test]
fn connections_are_closed_with_320_when_their_node_stops() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let numbers = cluster.numbers();
    let mut command = command(&cluster, &numbers);
    command.arg("--stopped");
    let program = Program::under_way(command);
    let status = cluster.terminate(numbers[0], END_WITHIN).unwrap();
    assert!(status.success(), "{status}");
    program.passes();
}

fn is_there(cluster: &Cluster, queue: &str, asked: NodeNumber) -> bool {
    let mut command = cluster.warren();
    command.args(["queue", "show", queue, "--server"]);
    command.arg(cluster.grpc_address(asked));
    let shown = run_within(command, END_WITHIN).unwrap();
    shown.status.success()
}

fn until_gone(cluster: &Cluster, queue: &str, asked: NodeNumber, within: Duration) -> Duration {
    let began = Instant::now();
    while is_there(cluster, queue, asked) {
        assert!(began.elapsed() < within, "{queue} is there still");
        std::thread::sleep(Duration::from_millis(250));
    }
    began.elapsed()
}

/// Features B24: the connection of an exclusive queue cannot come back if its node runs anew, or is gone for a minute.
#[test]
fn exclusive_queues_of_an_earlier_run_or_of_a_node_that_is_gone_are_deleted() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let [gone, asked, again] = cluster.numbers()[..] else {
        panic!("three nodes")
    };
    let leave = |cluster: &Cluster, node, queue: &str| {
        let mut command = command(cluster, &[node]);
        command.args(["--left", queue]);
        let program = Program::under_way(command);
        assert!(is_there(cluster, queue, asked));
        program
    };
    let program = leave(&cluster, again, "of-an-earlier-run");
    cluster.kill(again).unwrap();
    program.passes();
    assert!(is_there(&cluster, "of-an-earlier-run", asked));
    cluster.restart(again).unwrap();
    let took = until_gone(&cluster, "of-an-earlier-run", asked, END_WITHIN);
    println!("deleted {took:.1?} after its node was ready again");

    let program = leave(&cluster, gone, "of-a-node-that-is-gone");
    cluster.kill(gone).unwrap();
    program.passes();
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(40) {
        assert!(
            is_there(&cluster, "of-a-node-that-is-gone", asked),
            "too early"
        );
        std::thread::sleep(Duration::from_secs(2));
    }
    let took = until_gone(&cluster, "of-a-node-that-is-gone", asked, END_WITHIN);
    println!("deleted {took:.1?} after 40 s without its node");
}
