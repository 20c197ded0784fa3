//! Unmodified pika programs against three real nodes (`tests/pika`). Needs Python 3 with `venv` and its package index.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use warren_client::{Connection, ConnectionOptions, Vhost, parse_addresses};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

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

#[test]
fn pika_programs_work_against_any_node() {
    let cluster = Cluster::start(Options::default()).unwrap();
    make_live_vhost(&cluster);
    let ports: Vec<String> = cluster
        .numbers()
        .into_iter()
        .map(|number| {
            cluster
                .amqp_address(number)
                .rsplit_once(':')
                .unwrap()
                .1
                .to_owned()
        })
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pika/run.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg("--port").arg(ports.join(","));
    command.args(["--live-vhost", LIVE_VHOST]);
    command.env("WARREN_PIKA_VENV", cluster.directory().join("pika-venv"));
    let output = run_within(command, Duration::from_secs(300)).unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
