//! `warren cluster status|add|remove|drain|revive` as somebody at a terminal sees them: what they say, how they end, and that they can be
//! interrupted and repeated. Not here: what the cluster does meanwhile (`members.rs`, `joins.rs`, `leaders.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::process::Output;
use std::time::{Duration, Instant};

use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

/// A command at one node. What it says goes to stderr, results to stdout.
fn ask(cluster: &Cluster, at: usize, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cluster.warren();
    command.args(["cluster"]).args(arguments);
    command.args(["--server", &cluster.grpc_address(NodeNumber(at))]);
    let Output { status, stderr, .. } = run_within(command, Duration::from_secs(170)).unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    println!("cluster {}: {status}\n{said}", arguments.join(" "));
    (status.code(), said)
}

fn status(cluster: &Cluster, at: usize) -> serde_json::Value {
    let mut command = cluster.warren();
    command.args(["cluster", "status", "--output", "json", "--server"]);
    command.arg(cluster.grpc_address(NodeNumber(at)));
    let output = run_within(command, Duration::from_secs(10)).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn node(status: &serde_json::Value, id: u64) -> Option<serde_json::Value> {
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|it| it["node_id"] == id).cloned()
}

/// Until the node is in that state, as another sees it.
fn until_state(cluster: &Cluster, id: u64, state: &str) {
    let began = Instant::now();
    loop {
        let now = node(&status(cluster, 1), id).unwrap();
        if now["state"] == state {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{now}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn cluster_commands_say_what_they_do_and_can_be_repeated() {
    let mut cluster = Cluster::prepare(Options {
        spare: 1,
        ..Options::default()
    })
    .unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_CLUSTER_LEADER_REST", "2s");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    drain_and_revive(&cluster);
    add_and_remove(&mut cluster);
}

/// The worst case: the node that is left led everything and goes on leading, in vain.
#[test]
fn status_is_not_ready_while_there_is_no_majority() {
    let mut cluster = Cluster::prepare(Options::default()).unwrap();
    for number in cluster.numbers() {
        cluster.set_environment(number, "WARREN_CLUSTER_LEADER_REST", "600s");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    until(&cluster, "node 1 leads all", |it| {
        let elsewhere = it.iter().filter(|it| it["leader_node"] != 1);
        for shard in elsewhere.map(|it| it["shard"].to_string()) {
            // One that is refused now is asked for again.
            ask(&cluster, 1, &["transfer-leader", &shard, "1"]);
        }
        it.iter().all(|it| it["leader_node"] == 1)
    });
    for lost in [2, 3] {
        cluster.kill(NodeNumber(lost)).unwrap();
    }
    until(&cluster, "no group has a majority", |it| {
        it.iter().all(|it| it["has_quorum"] == false)
    });
    let now = status(&cluster, 1);
    assert_eq!(now["ready"], false);
    let problems = now["problems"].as_array().unwrap();
    let told = problems.iter().any(|it| it == "group 0 has no majority");
    assert!(told, "{problems:?}");
    let (code, said) = ask(&cluster, 1, &["status"]);
    assert_eq!(code, Some(3));
    assert!(said.contains("no majority"), "{said}");
    for lost in [2, 3] {
        cluster.spawn(NodeNumber(lost)).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    until(&cluster, "every group has a majority again", |it| {
        it.iter().all(|it| it["has_quorum"] == true)
    });
}

/// Until the shards are so, as node 1 sees them.
fn until(cluster: &Cluster, what: &str, is_so: impl Fn(&[serde_json::Value]) -> bool) {
    let began = Instant::now();
    loop {
        let now = status(cluster, 1);
        if is_so(now["shards"].as_array().unwrap()) {
            println!("{what}: after {:.1?}", began.elapsed());
            return;
        }
        let within = Duration::from_secs(30);
        assert!(began.elapsed() < within, "not in time: {what}: {now}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Node 3 is drained by way of node 1, twice.
fn drain_and_revive(cluster: &Cluster) {
    for _ in 0..2 {
        let (code, said) = ask(cluster, 1, &["drain", "3", "--within", "60"]);
        assert_eq!(code, Some(0));
        assert!(said.ends_with("node 3 leads 0 shards\n"), "{said}");
    }
    until_state(cluster, 3, "draining");
    for _ in 0..2 {
        let (code, said) = ask(cluster, 2, &["revive", "3"]);
        assert_eq!((code, &*said), (Some(0), "node 3 takes leaders again\n"));
    }
    until_state(cluster, 3, "up");
    for verb in ["drain", "revive"] {
        let (code, said) = ask(cluster, 1, &[verb, "9"]);
        assert_eq!((code, &*said), (Some(4), "error: there is no node 9\n"));
    }
}

/// Node 4 comes and goes. A command that is left early, or for its time limit, has changed nothing of what goes on.
fn add_and_remove(cluster: &mut Cluster) {
    let (code, said) = ask(cluster, 1, &["add", "4", "--within", "1"]);
    assert_eq!(code, Some(3));
    assert!(
        said.contains("node 4 is not a member yet: start it"),
        "{said}"
    );
    assert!(said.contains("has not got its share in time"), "{said}");
    cluster.spawn(NodeNumber(4)).unwrap();
    for _ in 0..2 {
        let (code, said) = ask(cluster, 1, &["add", "4", "--within", "160"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("node 4 is up: "), "{said}");
        assert!(said.ends_with("node 4 has its share\n"), "{said}");
    }
    let (code, said) = ask(cluster, 2, &["remove", "4", "--within", "0.2"]);
    assert_eq!(code, Some(3));
    assert!(
        said.contains("node 4 is not empty in time; the cluster goes on"),
        "{said}"
    );
    let (code, said) = ask(cluster, 3, &["remove", "4", "--cancel"]);
    assert_eq!((code, &*said), (Some(0), "node 4 stays\n"));
    assert!(node(&status(cluster, 1), 4).is_some());
    for _ in 0..2 {
        let (code, said) = ask(cluster, 1, &["remove", "4", "--within", "160"]);
        assert_eq!(code, Some(0), "{said}");
        let told = "node 4 is not part of the cluster any more: it can be stopped\n";
        assert!(said.ends_with(told), "{said}");
    }
    assert!(node(&status(cluster, 1), 4).is_none());
    let (code, said) = ask(cluster, 1, &["remove", "4", "--cancel"]);
    let told = "error: BAD_ARGUMENT: node_id: there is no node 4\n";
    assert_eq!((code, &*said), (Some(1), told));
}
