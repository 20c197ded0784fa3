//! What a publish costs the network: a body crosses it once from the node that took it to its leader, and once from there to each other
//! replica (features A10). Counted by the interfaces of the nodes, each in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use warren_cluster::network::{Network, is_inside};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const MESSAGES: usize = 400;
const BODY_BYTES: usize = 64 << 10;

/// Bytes that a node has sent to others and to its clients.
fn sent(node: NodeNumber) -> u64 {
    let all = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let name = format!("way-{}:", node.0);
    let own = all.lines().find_map(|it| it.trim().strip_prefix(&name));
    let received = own.unwrap().split_whitespace().next();
    received.unwrap().parse().unwrap()
}

fn warren(cluster: &Cluster, node: NodeNumber, arguments: &[&str], input: &[u8]) -> String {
    let mut command = cluster.warren();
    command
        .args(arguments)
        .args(["--server", &cluster.grpc_address(node)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn body_of_a_publish_crosses_the_network_once_per_hop() {
    if !is_inside("body_of_a_publish_crosses_the_network_once_per_hop") {
        return;
    }
    let mut network = Network::build(3).unwrap();
    network.heal().unwrap();
    let cluster = Cluster::start(Options {
        hosts: network.hosts(),
        ..Options::default()
    })
    .unwrap();
    let any = NodeNumber(1);
    warren(&cluster, any, &["queue", "declare", "orders"], b"");
    let shown = warren(
        &cluster,
        any,
        &["queue", "show", "orders", "--output", "json"],
        b"",
    );
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let leader = shown["leader_node"].as_u64().unwrap();
    let leader = NodeNumber(usize::try_from(leader).unwrap());
    let mut others = cluster.numbers().into_iter().filter(|it| *it != leader);
    let (door, other) = (others.next().unwrap(), others.next().unwrap());

    let line = [vec![b'x'; BODY_BYTES], vec![b'\n']].concat();
    let lines = line.repeat(MESSAGES);
    let all = [door, leader, other];
    let before = all.map(sent);
    let publish = ["publish", "--queue", "orders"];
    warren(&cluster, door, &publish, &lines);
    // What a follower has not got yet, it gets.
    std::thread::sleep(Duration::from_secs(2));
    let bytes = lines.len() as f64;
    let mut times = all
        .map(sent)
        .into_iter()
        .zip(before)
        .map(|(now, before)| (now - before) as f64 / bytes);
    let [door, leader, other] = [(); 3].map(|()| times.next().unwrap());
    println!(
        "bodies crossed {door:.2} times from the door, {leader:.2} from the leader, {other:.2} from the third"
    );
    // With headers of frames and packets, answers and heartbeats.
    assert!((0.95..1.25).contains(&door), "door to leader: {door:.2}");
    assert!(
        (1.9..2.5).contains(&leader),
        "leader to replicas: {leader:.2}"
    );
    assert!(other < 0.25, "{other:.2}");
}
