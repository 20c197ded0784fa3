//! The guest comes in from the machine of its node and from nowhere else (features E8). Not here: users (`tenancy`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/amqp.rs"]
mod amqp;

use std::net::{IpAddr, UdpSocket};

use amqp::{Amqp, Heard};
use warren_client::{Connection, ConnectionOptions, Error, parse_addresses};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const NODE: NodeNumber = NodeNumber(1);

/// An address of this machine that is not loopback: what connects to it comes from it. Nothing is sent.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn connect(server: &str) -> Connection {
    let servers = parse_addresses(server).unwrap();
    Connection::new(&servers, ConnectionOptions::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_is_let_in_from_loopback_and_refused_from_another_address() {
    let Some(elsewhere) = other_address() else {
        println!("skipped: this machine has no address but loopback");
        return;
    };
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let (grpc, amqp) = (cluster.grpc_address(NODE), cluster.amqp_address(NODE));
    for (door, address) in [("GRPC", &grpc), ("AMQP", &amqp)] {
        let everywhere = address.replace("127.0.0.1", "0.0.0.0");
        cluster.set_environment(NODE, &format!("WARREN_LISTEN_{door}"), &everywhere);
        cluster.set_environment(NODE, &format!("WARREN_ADVERTISE_{door}"), address);
    }
    cluster.restart(NODE).unwrap();

    let from_here = connect(&grpc);
    assert_eq!(from_here.who_am_i().await.unwrap().user.name, "guest");
    let there = grpc.replace("127.0.0.1", &elsewhere.to_string());
    let refused = connect(&there).who_am_i().await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(it) if it.reason == "BAD_CREDENTIALS"),
        "{refused}"
    );

    let there = amqp.replace("127.0.0.1", &elsewhere.to_string());
    let logins = tokio::task::spawn_blocking(move || {
        let guest = b"\0guest\0guest";
        Amqp::login(&amqp, "PLAIN", guest)
            .unwrap()
            .open("/")
            .unwrap();
        let refused = Amqp::login(&there, "PLAIN", guest).unwrap_err();
        assert_eq!(refused, Heard::ConnectionClosed { code: 403 });
    });
    logins.await.unwrap();
}
