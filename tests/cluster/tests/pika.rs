//! Unmodified pika programs against three real nodes (`tests/pika`). Needs Python 3 with `venv` and its package index.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use warren_testkit::process::{Cluster, Options, run_within};

#[test]
fn pika_programs_work_against_any_node() {
    let cluster = Cluster::start(Options::default()).unwrap();
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
    command.env("WARREN_PIKA_VENV", cluster.directory().join("pika-venv"));
    let output = run_within(command, Duration::from_secs(300)).unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
