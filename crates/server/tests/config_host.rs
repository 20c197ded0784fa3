//! Settings that depend on where a node runs: its host's name, addresses, levels. Not here: files and sources (`config.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use warren_server::config::{Config, Inputs};

fn load(hostname: Option<&str>, flags: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let flags = [("node.data_dir", "/data")].iter().chain(flags);
    let inputs = Inputs {
        flags: flags
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        hostname: hostname.map(str::to_owned),
        ..Inputs::default()
    };
    match Config::load(&inputs) {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => Err(error.problems().iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn node_id_comes_from_the_hosts_name_if_asked_for() {
    let peers = (
        "cluster.peers",
        "1=warren-0.nodes:7201,3=warren-2.nodes:7201",
    );
    let on = |hostname| load(hostname, &[("node.id", "from-hostname"), peers]);
    assert_eq!(on(Some("warren-2")).unwrap().node.id.0, 3);
    let given = load(Some("elsewhere"), &[("node.id", "1"), peers]);
    assert_eq!(given.unwrap().node.id.0, 1);
    assert_eq!(
        on(Some("warren-1")).unwrap_err(),
        [
            "--cluster-peers: cluster.peers: does not name this node, 2; one that is to join later needs advertise.node instead"
        ]
    );
    assert_eq!(
        on(Some("laptop")).unwrap_err(),
        [
            "--node-id: node.id: the host is called \"laptop\", which does not end in a number such as warren-0"
        ]
    );
    assert_eq!(
        on(None).unwrap_err(),
        ["--node-id: node.id: the host has no name to take it from"]
    );
}

#[test]
fn levels_and_guard_rails_are_read_and_checked() {
    let limits = |memory, disk, connections| {
        load(
            None,
            &[
                ("node.id", "1"),
                ("limits.memory_watermark", memory),
                ("limits.disk_free_min", disk),
                ("limits.grpc_connection_max", connections),
            ],
        )
    };
    let good = limits("40%", "1 GiB, 10%", "5").unwrap().limits;
    assert_eq!(good.memory_watermark.of(1_000), 400);
    assert_eq!(good.disk_free_min.of(100 << 30), 10 << 30);
    assert_eq!(good.grpc_connection_max, 5);
    assert_eq!(
        limits("1 MiB", "lots", "0").unwrap_err(),
        [
            "--limits-disk-free-min: limits.disk_free_min: \"lots\" is not a size such as \"2 GiB\", a share such as \"5%\", or both with a comma: the greater counts",
            "--limits-memory-watermark: limits.memory_watermark: is 1MiB, less than an idle node may take: it needs at least 128MiB",
            "--limits-grpc-connection-max: limits.grpc_connection_max: is 0; allowed are 1 to 1000000",
        ]
    );
}

#[test]
fn address_that_nobody_can_connect_to_is_no_peer_and_not_advertised() {
    let flags = [
        ("node.id", "1"),
        ("cluster.peers", "1=0.0.0.0:7201"),
        ("advertise.grpc", "[::]:7101"),
    ];
    let problems = load(None, &flags).unwrap_err().join("\n");
    let found = problems
        .matches("is no address that anyone can connect to")
        .count();
    assert_eq!(found, 2, "{problems}");
}
