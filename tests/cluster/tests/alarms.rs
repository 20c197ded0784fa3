//! A node of three that is short of something: publishes that need it are held back with the reason, all else runs on, and it is over
//! when it has enough again. What it is short of is planted by its watermark: of disk by its configuration, of memory while it runs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/pages.rs"]
mod pages;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pages::{figure, page};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

const NONE_SHORT: NodeNumber = NodeNumber(1);
const SHORT: NodeNumber = NodeNumber(3);
const DISK_FREE_MIN: &str = "WARREN_LIMITS_DISK_FREE_MIN";
/// The lowest watermark there may be.
const MEMORY_MIN: f64 = 134_217_728.0;
const TOLD_WITHIN: Duration = Duration::from_secs(30);

fn warren(cluster: &Cluster, node: NodeNumber, arguments: &[&str]) -> Output {
    let mut command = cluster.warren();
    let server = cluster.grpc_address(node);
    command.args(arguments).args(["--server", &server]);
    run_within(command, Duration::from_secs(30)).unwrap()
}

/// One message; the client tries again as long as it may.
fn publish(cluster: &Cluster, node: NodeNumber, queue: &str) -> Output {
    let file = cluster.directory().join("message");
    std::fs::write(&file, "one\n").unwrap();
    let file = file.to_str().unwrap();
    warren(
        cluster,
        node,
        &[
            "publish",
            "--queue",
            queue,
            "--file",
            file,
            "--timeout",
            "2",
        ],
    )
}

/// How many publishes over gRPC a node has refused for this reason.
fn held_back(cluster: &Cluster, node: NodeNumber, reason: &str) -> u64 {
    let metrics = page(&cluster.metrics_address(node), "/metrics");
    let name =
        format!("warren_publishes_held_back_total{{protocol=\"grpc\",reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + TOLD_WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts the node again with this variable.
fn restart_with(cluster: &mut Cluster, node: NodeNumber, variable: &str, value: &str) {
    cluster.terminate(node, Duration::from_secs(60)).unwrap();
    cluster.set_environment(node, variable, value);
    cluster.restart(node).unwrap();
}

#[test]
fn node_short_of_disk_holds_back_what_it_would_store_and_nothing_else() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    assert!(
        warren(&cluster, NONE_SHORT, &["queue", "declare", "orders"])
            .status
            .success()
    );
    assert!(publish(&cluster, NONE_SHORT, "orders").status.success());

    restart_with(&mut cluster, SHORT, DISK_FREE_MIN, "100%");
    until("the others hear of it", || {
        let status = said(&warren(&cluster, NONE_SHORT, &["cluster", "status"]));
        status.contains("node 3 is short of disk")
    });
    assert!(!publish(&cluster, NONE_SHORT, "orders").status.success());
    assert!(held_back(&cluster, NONE_SHORT, "disk") > 0);
    let metrics = page(&cluster.metrics_address(SHORT), "/metrics");
    assert!(
        metrics.contains("\nrabbitmq_alarms_free_disk_space_watermark 1\n"),
        "{metrics}"
    );
    // An alarm is no reason to take the node away from its clients.
    assert!(page(&cluster.http_address(SHORT), "/livez").starts_with("HTTP/1.1 200 "));
    assert!(page(&cluster.http_address(SHORT), "/readyz").starts_with("HTTP/1.1 200 "));
    // What frees disk goes on, through the node that is short, too.
    let taken = warren(
        &cluster,
        SHORT,
        &["consume", "--queue", "orders", "--count", "1"],
    );
    assert!(taken.status.success(), "{}", said(&taken));
    blocked_over_amqp(&cluster);

    restart_with(&mut cluster, SHORT, DISK_FREE_MIN, "16 MiB");
    until("the others hear that it is over", || {
        publish(&cluster, NONE_SHORT, "orders").status.success()
    });
}

/// A pika program publishes and is told that it is blocked, and why, within a second.
fn blocked_over_amqp(cluster: &Cluster) {
    let (_, port) = {
        let address = cluster.amqp_address(NONE_SHORT);
        let (host, port) = address.rsplit_once(':').unwrap();
        (host.to_owned(), port.to_owned())
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pika/run.sh");
    let mut command = Command::new("bash");
    command
        .arg(script)
        .args(["--port", &port, "--blocked", "low on disk"]);
    command.env("WARREN_PIKA_VENV", cluster.directory().join("pika-venv"));
    let told = run_within(command, Duration::from_secs(300)).unwrap();
    assert!(told.status.success(), "{}", said(&told));
}

/// How many shards a node leads, as another sees it.
fn led_by(cluster: &Cluster, node: NodeNumber) -> usize {
    let status = warren(
        cluster,
        NONE_SHORT,
        &["cluster", "status", "--output", "json"],
    );
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let shards = status["shards"].as_array().unwrap();
    let led = shards
        .iter()
        .filter(|it| it["shard"] != 0 && it["leader_node"] == node.0);
    led.count()
}

/// Fills queues until the node takes so much memory.
fn fill(cluster: &Cluster, node: NodeNumber, bytes: f64) {
    for _ in 0..8 {
        let mut perf = cluster.warren();
        perf.args(["perf", "--consumers", "0", "--keep", "--publishers", "4"])
            .args(["--queues", "20", "--messages", "20000", "--size", "8192"])
            .args(["--server", &cluster.servers_from(NONE_SHORT)]);
        let filled = run_within(perf, Duration::from_secs(120)).unwrap();
        assert!(filled.status.success(), "{}", said(&filled));
        let metrics = page(&cluster.metrics_address(node), "/metrics");
        let resident = figure(&metrics, "rabbitmq_process_resident_memory_bytes").unwrap();
        println!("resident: {resident}");
        if resident > bytes {
            return;
        }
    }
    panic!("the node does not fill");
}

#[test]
fn node_short_of_memory_holds_back_what_enters_there_and_gives_its_leaders_to_others() {
    let mut cluster = Cluster::prepare(Options::default()).unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_CLUSTER_LEADER_REST", "2s");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    until("leaders are spread", || led_by(&cluster, SHORT) > 3);
    fill(&cluster, SHORT, 1.3 * MEMORY_MIN);
    // While it runs.
    let number = SHORT.0.to_string();
    let set = |level: &str| {
        let arguments = ["cluster", "watermarks", &number, "--memory", level];
        let set = warren(&cluster, NONE_SHORT, &arguments);
        assert!(set.status.success(), "{}", said(&set));
        said(&set)
    };
    let refused = warren(
        &cluster,
        NONE_SHORT,
        &["cluster", "watermarks", &number, "--memory", "64MiB"],
    );
    assert!(said(&refused).contains("128 MiB"), "{}", said(&refused));
    assert!(set("128 MiB").contains("above 128MiB"));
    until("the node refuses", || {
        !publish(&cluster, SHORT, "perf-0").status.success()
            && held_back(&cluster, SHORT, "memory") > 0
    });
    until("its leaders go to others", || led_by(&cluster, SHORT) == 0);
    for queue in 0..20 {
        let queue = format!("perf-{queue}");
        let sent = publish(&cluster, NONE_SHORT, &queue);
        assert!(sent.status.success(), "{queue}: {}", said(&sent));
    }
    set("90%");
    until("the node takes messages again", || {
        publish(&cluster, SHORT, "perf-0").status.success()
    });
    until("it leads again", || led_by(&cluster, SHORT) > 3);
}
