//! Limits of vhosts and users, and logins that are no way to bring a node down (features E2, E3; guarantee G14). Not here: who may do
//! what (`tenancy`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/amqp.rs"]
mod amqp;
#[path = "support/pages.rs"]
mod pages;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use amqp::{Amqp, Heard};
use pages::{figure, page};
use warren_client::{
    Connection, ConnectionOptions, ConsumerOptions, Credentials, Error, Message, Outcome,
    QueueSpec, Target, VhostLimits, parse_addresses,
};
use warren_testkit::process::{Cluster, NodeNumber, Options};

const NODE: NodeNumber = NodeNumber(1);
const WITHIN: Duration = Duration::from_secs(10);
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
    limited(1).await
}

async fn limited(nodes: usize) -> Cluster {
    let cluster = Cluster::start(Options {
        nodes,
        ..Options::default()
    })
    .unwrap();
    let servers = parse_addresses(&cluster.servers_from(NODE)).unwrap();
    let guest = Connection::new(&servers, ConnectionOptions::default()).unwrap();
    let done = guest.import_definitions(LIMITED.to_vec(), None, false);
    assert_eq!(done.await.unwrap().refused, Vec::<String>::new());
    cluster
}

/// As this user; `None`: as the guest.
fn connect(cluster: &Cluster, node: NodeNumber, user: Option<&str>) -> Connection {
    let options = ConnectionOptions {
        credentials: user.map(|user| Credentials {
            user: user.to_owned(),
            password: "pw".to_owned(),
        }),
        ..ConnectionOptions::default()
    };
    let servers = parse_addresses(&cluster.grpc_address(node)).unwrap();
    Connection::new(&servers, options).unwrap()
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
        ..VhostLimits::default()
    };
    assert_eq!(guest.vhost_limits("small").await.unwrap(), one);
    let missing = guest.set_vhost_limits("missing", one).await.unwrap_err();
    assert_eq!(missing.reason(), Some("VHOST_NOT_FOUND"), "{missing}");
    let two = VhostLimits {
        queues: Some(2),
        exchanges: Some(1_000),
        publishes_per_second: Some(1_000_000),
        bytes: Some(1 << 40),
        ..VhostLimits::default()
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

/// Opens one connection too many again and again until it is refused: what other nodes have is told within a second.
fn refused_soon(at: &str, user: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while login(at, user).open("/").is_ok() {
        assert!(Instant::now() < deadline, "not counted");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn open_soon(at: &str, user: &str) -> Amqp {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut client = login(at, user);
        if client.open("/").is_ok() {
            return client;
        }
        assert!(Instant::now() < deadline, "no place");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_count_over_all_nodes_and_over_both_fronts() {
    let cluster = limited(3).await;
    let [one, two, three] = [1, 2, 3].map(NodeNumber);
    let guest = connect(&cluster, one, None);
    guest.declare_queue(&QueueSpec::durable("q")).await.unwrap();
    let at = [one, two, three].map(|node| cluster.amqp_address(node));
    let at_all = at.clone();
    let amqp = tokio::task::spawn_blocking(move || {
        let first = open(&at_all[0], "few", "/");
        let second = open(&at_all[1], "few", "/");
        refused_soon(&at_all[2], "few");
        drop(second);
        drop(open_soon(&at_all[2], "few"));
        first
    });
    let first = amqp.await.unwrap();

    // Two streams of one connection take the second place.
    let few = connect(&cluster, two, Some("few"));
    let deadline = Instant::now() + Duration::from_secs(30);
    let consumer = loop {
        match few.consume(ConsumerOptions::queue("q")).await {
            Ok(consumer) => break consumer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let same = few.consume(ConsumerOptions::queue("q")).await.unwrap();
    let third = at[2].clone();
    tokio::task::spawn_blocking(move || refused_soon(&third, "few"))
        .await
        .unwrap();
    let more = connect(&cluster, three, Some("few"));
    let refused = more.consume(ConsumerOptions::queue("q")).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(it) if it.reason == "LIMIT_REACHED"),
        "{refused}"
    );
    consumer.close(Duration::from_secs(10)).await.unwrap();
    same.close(Duration::from_secs(10)).await.unwrap();
    let third = at[2].clone();
    tokio::task::spawn_blocking(move || drop(open_soon(&third, "few")))
        .await
        .unwrap();
    drop(first);
}

async fn limit(guest: &Connection, limits: VhostLimits) {
    guest.set_vhost_limits("small", limits).await.unwrap();
    let queue = QueueSpec {
        vhost: "small".to_owned(),
        ..QueueSpec::durable("q")
    };
    guest.declare_queue(&queue).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_beyond_the_rate_of_their_vhost_wait_on_both_fronts() {
    let cluster = limited_node().await;
    let guest = connect(&cluster, NODE, None);
    let fifty = VhostLimits {
        publishes_per_second: Some(50),
        ..VhostLimits::default()
    };
    limit(&guest, fifty).await;
    let at = cluster.amqp_address(NODE);
    // A hundred take two seconds, less what may come at once.
    let (messages, at_least) = (100, Duration::from_millis(1_800));
    tokio::task::spawn_blocking(move || {
        let mut user = open(&at, "free", "small");
        user.channel(1);
        user.confirm_select(1);
        let began = Instant::now();
        for _ in 0..messages {
            user.publish(1, "", "q");
            assert_eq!(user.heard(), CONFIRMED);
        }
        assert!(began.elapsed() >= at_least, "{:?}", began.elapsed());
        // Ten in a transaction, which goes whole.
        user.channel(2);
        user.tx_select(2);
        let began = Instant::now();
        for _ in 0..messages / 10 {
            for _ in 0..10 {
                user.publish(2, "", "q");
            }
            user.tx_commit(2);
        }
        let at_least = at_least - Duration::from_millis(200);
        assert!(began.elapsed() >= at_least, "{:?}", began.elapsed());
    })
    .await
    .unwrap();
    let began = Instant::now();
    let target = Target::queue("q");
    for _ in 0..messages / 10 {
        let batch = vec![Message::new("x"); 10];
        let outcomes = guest.publish_now("small", &target, batch).await.unwrap();
        let stored = |it: &Outcome| matches!(it, Outcome::Committed { .. });
        assert!(outcomes.iter().all(stored), "{outcomes:?}");
    }
    // The last batch goes whole.
    let at_least = at_least - Duration::from_millis(200);
    assert!(began.elapsed() >= at_least, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vhost_that_stores_as_much_as_it_may_takes_nothing_until_there_is_room() {
    let cluster = limited_node().await;
    let guest = connect(&cluster, NODE, None);
    let quota = VhostLimits {
        bytes: Some(10_000),
        ..VhostLimits::default()
    };
    limit(&guest, quota).await;
    let target = Target::queue("q");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let message = vec![Message::new(vec![0; 6_000])];
        let outcomes = guest.publish_now("small", &target, message).await.unwrap();
        match &outcomes[0] {
            Outcome::Refused(it) if it.reason == "OVER_QUOTA" => break,
            Outcome::Committed { .. } => {}
            Outcome::Refused(_) | Outcome::Duplicate | Outcome::Unrouted | Outcome::Unknown(_) => {
                panic!("{outcomes:?}")
            }
        }
        assert!(Instant::now() < deadline, "no end");
    }
    // Other vhosts go on.
    guest.declare_queue(&QueueSpec::durable("q")).await.unwrap();
    let elsewhere = guest.publish_now("", &target, vec![Message::new("x")]);
    let elsewhere = elsewhere.await.unwrap();
    assert!(
        matches!(elsewhere[0], Outcome::Committed { .. }),
        "{elsewhere:?}"
    );
    let at = cluster.amqp_address(NODE);
    let mut waiting = tokio::task::spawn_blocking(move || {
        let mut user = open(&at, "free", "small");
        user.channel(1);
        user.confirm_select(1);
        user.publish(1, "", "q");
        user
    })
    .await
    .unwrap();
    let held_back = "warren_publishes_held_back_total{protocol=\"amqp091\",reason=\"quota\"}";
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = page(&cluster.metrics_address(NODE), "/metrics");
        if figure(&metrics, held_back) == Some(1.0) {
            break;
        }
        assert!(Instant::now() < deadline, "it does not wait: {metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    guest.purge_queue("small", "q").await.unwrap();
    let confirmed = tokio::task::spawn_blocking(move || waiting.heard());
    assert_eq!(confirmed.await.unwrap(), CONFIRMED);
}

#[test]
fn queues_exchanges_vhosts_and_channels_end_at_the_limits_of_the_configuration() {
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    for (variable, limit) in [
        ("WARREN_LIMITS_CLUSTER_QUEUE_MAX", "2"),
        ("WARREN_LIMITS_CLUSTER_EXCHANGE_MAX", "1"),
        ("WARREN_LIMITS_VHOST_MAX", "2"),
        ("WARREN_AMQP_CHANNEL_MAX_PER_NODE", "3"),
    ] {
        cluster.set_environment(NODE, variable, limit);
    }
    cluster.spawn(NODE).unwrap();
    cluster.wait_all_ready().unwrap();
    let made = |arguments: &[&str]| {
        let made = cluster.run(arguments);
        made.map(drop).map_err(|error| format!("{error:#}"))
    };
    let declare = |name| made(&["queue", "declare", name]);
    for (name, limit) in [
        ("one", false),
        ("two", false),
        ("three", true),
        ("one", false),
    ] {
        let made = declare(name);
        assert_eq!(made.is_err(), limit, "queue {name}: {made:?}");
        assert!(made.err().is_none_or(|it| it.contains("no more than 2")));
    }
    let exchange = |name| made(&["exchange", "declare", name, "--type", "fanout"]);
    exchange("first").unwrap();
    assert!(exchange("second").unwrap_err().contains("no more than 1"));
    exchange("first").unwrap();
    made(&["vhost", "create", "a"]).unwrap();
    let refused = made(&["vhost", "create", "b"]).unwrap_err();
    assert!(refused.contains("no more than 2"), "{refused}");

    let at = cluster.amqp_address(NODE);
    let mut first = guest(&at);
    let mut second = guest(&at);
    first.channel(2);
    assert_eq!(
        second.try_channel(2),
        Err(Heard::ConnectionClosed { code: 530 })
    );
    // A queue too many over AMQP: 406, as RabbitMQ has it.
    first.declare(1, "three", false);
    assert_eq!(first.heard(), Heard::ChannelClosed { code: 406 });
    assert!(first.why.contains("no more than 2"), "{}", first.why);
}

fn guest(at: &str) -> Amqp {
    Amqp::guest(std::net::TcpStream::connect(at).unwrap(), WITHIN)
}
