//! Limits of vhosts and users, and logins that are no way to bring a node down (features E2, E3; guarantee G14). Not here: who may do
//! what (`tenancy`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/amqp.rs"]
mod amqp;

use std::sync::atomic::{AtomicBool, Ordering};

use amqp::{Amqp, Heard};
use warren_client::{Connection, ConnectionOptions, VhostLimits, parse_addresses};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const NODE: NodeNumber = NodeNumber(1);
/// As an export of RabbitMQ has them.
const LIMITED: &[u8] = br#"{
    "users": [
        {"name": "few", "password": "pw", "tags": [], "limits": {"max-connections": 2, "max-channels": 3}},
        {"name": "free", "password": "pw", "tags": [], "limits": {}}
    ],
    "vhosts": [{"name": "small"}],
    "permissions": [
        {"user": "few", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "few", "vhost": "small", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "free", "vhost": "small", "configure": ".*", "write": ".*", "read": ".*"}
    ],
    "parameters": [
        {"vhost": "small", "component": "vhost-limits", "name": "limits", "value": {"max-connections": 1, "max-queues": 1}}
    ]
}"#;
const CONFIRMED: Heard = Heard::Method {
    class: 60,
    method: 80,
};
const DECLARED: Heard = Heard::Method {
    class: 50,
    method: 11,
};

async fn limited_node() -> Cluster {
    let cluster = Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let servers = parse_addresses(&cluster.servers_from(NODE)).unwrap();
    let guest = Connection::new(&servers, ConnectionOptions::default()).unwrap();
    let done = guest.import_definitions(LIMITED.to_vec(), None, false);
    assert_eq!(done.await.unwrap().refused, Vec::<String>::new());
    cluster
}

fn login(at: &str, user: &str) -> Amqp {
    let response = format!("\0{user}\0pw");
    Amqp::login(at, "PLAIN", response.as_bytes()).unwrap()
}

fn open(at: &str, user: &str, vhost: &str) -> Amqp {
    let mut client = login(at, user);
    client.open(vhost).unwrap();
    client
}

/// What a connection that is one too many hears: code and text.
fn refused(at: &str, user: &str, vhost: &str) -> (Heard, String) {
    let mut client = login(at, user);
    let heard = client.open(vhost).unwrap_err();
    (heard, client.why)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_channels_and_queues_end_at_their_limits_with_rabbitmqs_words() {
    let cluster = limited_node().await;
    let at = cluster.amqp_address(NODE);
    let test = tokio::task::spawn_blocking(move || {
        let closed = Heard::ConnectionClosed { code: 530 };
        let mut small = open(&at, "free", "small");
        let (heard, why) = refused(&at, "few", "small");
        assert_eq!(heard, closed);
        assert!(
            why.contains(
                "access to vhost 'small' refused for user 'few': connection limit (1) is reached"
            ),
            "{why}"
        );
        small.channel(1);
        small.declare(1, "one", false);
        assert_eq!(small.heard(), DECLARED);
        small.declare(1, "one", false);
        assert_eq!(small.heard(), DECLARED);
        small.declare(1, "two", false);
        assert_eq!(small.heard(), Heard::ChannelClosed { code: 406 });
        let text = "cannot declare queue 'two': queue limit in vhost 'small' (1) is reached";
        assert!(small.why.contains(text), "{}", small.why);

        let mut first = open(&at, "few", "/");
        let mut second = open(&at, "few", "/");
        let (heard, why) = refused(&at, "few", "/");
        assert_eq!(heard, closed);
        assert!(
            why.contains("connection refused for user 'few': user connection limit (2) is reached"),
            "{why}"
        );
        for channel in [1, 2] {
            first.channel(channel);
        }
        second.channel(1);
        let heard = second.try_channel(2).unwrap_err();
        assert_eq!(heard, closed);
        let text = "number of channels opened for user 'few' has reached the maximum allowed user limit of (3)";
        assert!(second.why.contains(text), "{}", second.why);
        drop(second);
        // Its place is free as soon as the node knows that it is gone.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while login(&at, "few").open("/").is_err() {
            assert!(std::time::Instant::now() < deadline, "no place");
        }
    });
    test.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_set_over_grpc_count_at_once() {
    let cluster = limited_node().await;
    let servers = parse_addresses(&cluster.servers_from(NODE)).unwrap();
    let guest = Connection::new(&servers, ConnectionOptions::default()).unwrap();
    let one = VhostLimits {
        connections: Some(1),
        queues: Some(1),
    };
    assert_eq!(guest.vhost_limits("small").await.unwrap(), one);
    let missing = guest.set_vhost_limits("missing", one).await.unwrap_err();
    assert_eq!(missing.reason(), Some("VHOST_NOT_FOUND"), "{missing}");
    let two = VhostLimits {
        connections: None,
        queues: Some(2),
    };
    assert_eq!(guest.set_vhost_limits("small", two).await.unwrap(), two);
    assert_eq!(guest.vhost_limits("small").await.unwrap(), two);
    let at = cluster.amqp_address(NODE);
    let test = tokio::task::spawn_blocking(move || {
        let mut first = open(&at, "free", "small");
        let _second = open(&at, "few", "small");
        first.channel(1);
        for name in ["one", "two"] {
            first.declare(1, name, false);
            assert_eq!(first.heard(), DECLARED);
        }
        first.declare(1, "three", false);
        assert_eq!(first.heard(), Heard::ChannelClosed { code: 406 });
    });
    test.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_logins_in_a_storm_hold_up_neither_messages_nor_users_that_are_known() {
    let cluster = limited_node().await;
    let at = cluster.amqp_address(NODE);
    let test = tokio::task::spawn_blocking(move || {
        let mut user = open(&at, "few", "/");
        user.channel(1);
        user.declare(1, "q", false);
        assert_eq!(user.heard(), DECLARED);
        user.confirm_select(1);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Another name each time: no delay of an account's helps.
            for thread in 0..32 {
                let (at, over) = (&at, &over);
                scope.spawn(move || {
                    for attempt in 0.. {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        let response = format!("\0nobody-{thread}-{attempt}\0wrong");
                        // While others are looked at it may wait longer than this client does.
                        match Amqp::login(at, "PLAIN", response.as_bytes()) {
                            Err(Heard::ConnectionClosed { code: 403 } | Heard::SocketClosed) => {}
                            other => panic!("let in: {other:?}"),
                        }
                    }
                });
            }
            for _ in 0..200 {
                user.publish(1, "", "q");
                assert_eq!(user.heard(), CONFIRMED);
            }
            // Within the five seconds of each answer.
            let mut again = open(&at, "few", "/");
            again.channel(1);
            over.store(true, Ordering::Relaxed);
        });
    });
    test.await.unwrap();
}
