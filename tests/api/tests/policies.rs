//! Policies on queues at work: what is set, changed and deleted takes effect at once, and shows where it comes from (features B61 to
//! B65). Not here: how policies merge (`warren-topology`), what each setting does in full (`warren-queue`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use warren_api::runtime;
use warren_client::{
    Binding, BindingDestination, Connection, ConnectionOptions, Credentials, Exchange, Message,
    Outcome, Permission, Policy, PolicySubject, PolicyTarget, QueueSpec, QueueStats,
    ReceiveOptions, ServerAddress, Target, parse_addresses,
};
use warren_testkit::process::{Cluster, NodeNumber, Options};
use warren_types::Table;

/// Whatever comes by itself comes within this time.
const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "of a test";

/// Runs a test against one node.
fn with_node(test: impl AsyncFnOnce(Connection)) {
    with_servers(async |servers| {
        test(connect(&servers, None)).await;
    });
}

/// A connection as a user, or as nobody in particular.
fn connect(servers: &[ServerAddress], user: Option<&str>) -> Connection {
    let options = ConnectionOptions {
        credentials: user.map(|user| Credentials {
            user: user.to_owned(),
            password: PASSWORD.to_owned(),
        }),
        ..ConnectionOptions::default()
    };
    Connection::new(servers, options).unwrap()
}

fn with_servers(test: impl AsyncFnOnce(Vec<ServerAddress>)) {
    let cluster = Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let addresses = parse_addresses(&cluster.servers_from(NodeNumber(1))).unwrap();
    runtime(test(addresses));
}

fn policy(name: &str, pattern: &str, definition: Table) -> Policy {
    Policy {
        vhost: String::new(),
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        apply_to: PolicyTarget::All,
        priority: 0,
        definition,
        operator: false,
    }
}

fn exchange(name: &str, kind: &str) -> Exchange {
    Exchange {
        vhost: String::new(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

fn binding(source: &str, queue: &str, key: &str) -> Binding {
    Binding {
        vhost: String::new(),
        source: source.to_owned(),
        destination: BindingDestination::Queue(queue.to_owned()),
        routing_key: key.to_owned(),
        arguments: Table::new(),
    }
}

async fn publish(connection: &Connection, queue: &str, body: &str) -> Outcome {
    let target = Target::queue(queue);
    let messages = vec![Message::new(body.to_owned())];
    let outcomes = connection.publish_now("", &target, messages).await.unwrap();
    outcomes.into_iter().next().unwrap()
}

async fn fill(connection: &Connection, queue: &str, bodies: &[&str]) {
    for body in bodies {
        let outcome = publish(connection, queue, body).await;
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
    }
}

async fn stats(connection: &Connection, queue: &str) -> QueueStats {
    let names = [queue.to_owned()];
    let stats = connection.queue_stats("", &names).await.unwrap();
    stats.into_iter().next().unwrap()
}

async fn until_ready(connection: &Connection, queue: &str, ready: u64) {
    let began = Instant::now();
    loop {
        let seen = stats(connection, queue).await;
        if seen.ready == ready {
            return;
        }
        assert!(began.elapsed() < SOON, "{ready} were to be ready: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn bodies(connection: &Connection, queue: &str, count: usize) -> Vec<String> {
    let options = ReceiveOptions {
        vhost: String::new(),
        queue: queue.to_owned(),
        max_messages: 100,
        wait: Duration::from_secs(5),
        lease: None,
    };
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let received = connection.receive(&options).await.unwrap();
        assert!(!received.is_empty(), "nothing came after {bodies:?}");
        let text =
            |it: &warren_client::Received| String::from_utf8(it.message.body.to_vec()).unwrap();
        bodies.extend(received.iter().map(text));
    }
    bodies
}

async fn in_force(connection: &Connection, subject: &PolicySubject) -> Vec<String> {
    let settings = connection.effective_policy("", subject).await.unwrap();
    let line = |it: warren_client::EffectiveSetting| {
        let value = it.value.as_int().map(|it| it.to_string());
        let value = value.or_else(|| it.value.as_str().map(str::to_owned));
        let value = value.unwrap_or_default();
        format!("{} = {value} by {} {}", it.name, it.source, it.policy)
    };
    settings.into_iter().map(line).collect()
}

#[test]
fn policy_message_ttl_takes_effect_on_a_live_queue_and_ends_with_it() {
    with_node(async |connection| {
        let queue = "ttl";
        let spec = QueueSpec::durable(queue);
        connection.declare_queue(&spec).await.unwrap();
        fill(&connection, queue, &["before"]).await;
        let ttl = policy("short", "^ttl$", Table::new().with("message-ttl", 50_i64));
        assert_eq!(connection.set_policy(&ttl).await.unwrap(), 1);
        fill(&connection, queue, &["during", "too"]).await;
        until_ready(&connection, queue, 1).await;
        connection.delete_policy("", "short", false).await.unwrap();
        fill(&connection, queue, &["after"]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(bodies(&connection, queue, 2).await, ["before", "after"]);
    });
}

#[test]
fn policy_max_length_takes_effect_on_what_is_there_already() {
    with_node(async |connection| {
        let queue = "length";
        let spec = QueueSpec::durable(queue);
        connection.declare_queue(&spec).await.unwrap();
        fill(&connection, queue, &["1", "2", "3", "4", "5"]).await;
        let limit = policy("limit", "^len", Table::new().with("max-length", 3_i64));
        connection.set_policy(&limit).await.unwrap();
        until_ready(&connection, queue, 3).await;
        fill(&connection, queue, &["6"]).await;
        until_ready(&connection, queue, 3).await;

        // The operator's lower limit holds, whatever the user's says.
        let mut cap = policy("cap", ".*", Table::new().with("max-length", 2_i64));
        cap.operator = true;
        connection.set_policy(&cap).await.unwrap();
        until_ready(&connection, queue, 2).await;
        let subject = PolicySubject::Queue(queue.to_owned());
        assert_eq!(
            in_force(&connection, &subject).await,
            ["max-length = 2 by operator-policy cap"]
        );

        // What would be too much is refused from now on, and nothing is dropped any more.
        let refusing = Table::new()
            .with("max-length", 3_i64)
            .with("overflow", "reject-publish");
        let refusing = policy("limit", "^len", refusing);
        connection.set_policy(&refusing).await.unwrap();
        let outcome = publish(&connection, queue, "7").await;
        let Outcome::Refused(refusal) = outcome else {
            panic!("no room was left, and it was {outcome:?}");
        };
        assert_eq!(refusal.reason, "QUEUE_FULL");
        connection.delete_policy("", "cap", true).await.unwrap();
        fill(&connection, queue, &["8"]).await;
        assert_eq!(bodies(&connection, queue, 3).await, ["5", "6", "8"]);
    });
}

#[test]
fn argument_holds_where_it_is_lower_and_the_view_says_so() {
    with_node(async |connection| {
        let queue = "both";
        let mut spec = QueueSpec::durable(queue);
        spec.arguments = Table::new()
            .with("x-max-length", 1_i32)
            .with("x-message-ttl", 3_600_000_i32);
        connection.declare_queue(&spec).await.unwrap();
        let definition = Table::new()
            .with("ha-mode", "all")
            .with("max-length", 10_i64)
            .with("message-ttl", 60_000_i64);
        let wide = policy("wide", "both", definition);
        connection.set_policy(&wide).await.unwrap();
        fill(&connection, queue, &["1", "2"]).await;
        until_ready(&connection, queue, 1).await;
        let subject = PolicySubject::Queue(queue.to_owned());
        assert_eq!(
            in_force(&connection, &subject).await,
            [
                "max-length = 1 by argument ",
                "message-ttl = 60000 by policy wide"
            ]
        );
        let found = connection.queue("", queue).await.unwrap();
        assert_eq!(found.policy, "wide");
        let kept = connection.policies("").await.unwrap();
        assert_eq!(
            kept,
            [Policy {
                vhost: "/".into(),
                ..wide
            }]
        );
    });
}

#[test]
fn policy_expires_ends_an_idle_queue() {
    with_node(async |connection| {
        let queue = "idle";
        let spec = QueueSpec::durable(queue);
        connection.declare_queue(&spec).await.unwrap();
        fill(&connection, queue, &["x"]).await;
        let ends = policy("ends", "^idle", Table::new().with("expires", 100_i64));
        connection.set_policy(&ends).await.unwrap();
        let began = Instant::now();
        while !connection.queues("", queue).await.unwrap().is_empty() {
            assert!(began.elapsed() < SOON, "it is there still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn policy_dead_letter_exchange_takes_what_a_policy_limit_pushes_out() {
    with_node(async |connection| {
        // Clients cannot publish to it; the broker can.
        let letters = Exchange {
            internal: true,
            ..exchange("letters", "topic")
        };
        connection.declare_exchange(&letters).await.unwrap();
        for queue in ["full", "dead"] {
            let spec = QueueSpec::durable(queue);
            connection.declare_queue(&spec).await.unwrap();
        }
        connection
            .create_binding(&binding("letters", "dead", "full.*"))
            .await
            .unwrap();
        fill(&connection, "full", &["1", "2", "3"]).await;
        let definition = Table::new()
            .with("max-length", 1_i64)
            .with("dead-letter-exchange", "letters")
            .with("dead-letter-routing-key", "full.out");
        let limit = policy("limit", "^full$", definition);
        connection.set_policy(&limit).await.unwrap();
        until_ready(&connection, "full", 1).await;
        assert_eq!(bodies(&connection, "dead", 2).await, ["1", "2"]);
    });
}

#[test]
fn policy_alternate_exchange_takes_what_no_binding_matches() {
    with_node(async |connection| {
        for name in ["main", "rest"] {
            let fanout = exchange(name, "fanout");
            connection.declare_exchange(&fanout).await.unwrap();
        }
        let spec = QueueSpec::durable("others");
        connection.declare_queue(&spec).await.unwrap();
        let bound = binding("rest", "others", "");
        connection.create_binding(&bound).await.unwrap();
        let send = async || {
            let target = Target::exchange("main", "k");
            let messages = vec![Message::new("x")];
            let outcomes = connection.publish_now("", &target, messages).await.unwrap();
            outcomes.into_iter().next().unwrap()
        };
        assert_eq!(send().await, Outcome::Unrouted);
        let definition = Table::new().with("alternate-exchange", "rest");
        let mut alternate = policy("alternate", "^main$", definition);
        alternate.apply_to = PolicyTarget::Exchanges;
        connection.set_policy(&alternate).await.unwrap();
        let outcome = send().await;
        assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        let subject = PolicySubject::Exchange("main".to_owned());
        assert_eq!(
            in_force(&connection, &subject).await,
            ["alternate-exchange = rest by policy alternate"]
        );
    });
}

#[test]
fn policies_that_cannot_hold_are_refused_with_the_reason() {
    with_node(async |connection| {
        for (pattern, definition) in [
            ("(?=a)b", Table::new().with("max-length", 1_i64)),
            (r"(a)\1", Table::new().with("max-length", 1_i64)),
            ("ok", Table::new().with("max-lenght", 1_i64)),
            ("ok", Table::new().with("max-length", -1_i64)),
            ("ok", Table::new().with("overflow", "explode")),
            ("ok", Table::new()),
        ] {
            let wrong = policy("wrong", pattern, definition);
            let error = connection.set_policy(&wrong).await.unwrap_err();
            assert!(error.to_string().contains("BAD_ARGUMENT"), "{error}");
        }
        assert!(connection.policies("").await.unwrap().is_empty());
    });
}

#[test]
fn policies_are_policymakers_to_change_and_operators_policies_administrators() {
    with_servers(async |servers| {
        let admin = connect(&servers, None);
        for (user, tag) in [("reader", "management"), ("maker", "policymaker")] {
            let created = admin.create_user(user, vec![tag.to_owned()], PASSWORD.to_owned());
            created.await.unwrap();
            let permission = Permission {
                user: user.to_owned(),
                read: ".*".to_owned(),
                ..Permission::default()
            };
            admin.set_permission(&permission).await.unwrap();
        }
        let (reader, maker) = (
            connect(&servers, Some("reader")),
            connect(&servers, Some("maker")),
        );
        let mine = policy("mine", "x", Table::new().with("max-length", 1_i64));
        let operators = Policy {
            operator: true,
            ..mine.clone()
        };
        for refused in [
            reader.set_policy(&mine).await.map(drop),
            reader.delete_policy("", "mine", false).await,
            maker.set_policy(&operators).await.map(drop),
            maker.delete_policy("", "mine", true).await,
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.reason(), Some("ACCESS_REFUSED"), "{error}");
        }
        maker.set_policy(&mine).await.unwrap();
        admin.set_policy(&operators).await.unwrap();
        assert_eq!(reader.policies("").await.unwrap().len(), 2);
        maker.delete_policy("", "mine", false).await.unwrap();
    });
}
