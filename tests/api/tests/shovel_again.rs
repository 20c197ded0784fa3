//! `warren queue shovel` is killed and repeated: nothing comes twice and nothing is lost, in whatever order the source gives its messages.
//! Runs that end where they should. Not here: what goes on of a message (`shovel`), killed nodes, two clusters (`tests/cluster`, `shovel`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use warren_api::{FIRST, one_node, runtime};
use warren_client::{
    Connection, ConnectionOptions, Message, PeekOptions, Peeked, Publisher, PublisherOptions,
    QueueSpec, Target, parse_addresses,
};
use warren_testkit::process::{Cluster, run_within};
use warren_types::{PropertiesBuilder, Table};

const WITHIN: Duration = Duration::from_secs(120);

struct Stage {
    cluster: Cluster,
    connection: Connection,
}

impl Stage {
    fn new() -> Self {
        let cluster = one_node();
        cluster.run(&["vhost", "create", "other"]).unwrap();
        let addresses = parse_addresses(&cluster.grpc_address(FIRST)).unwrap();
        let connection = Connection::new(&addresses, ConnectionOptions::default()).unwrap();
        Self {
            cluster,
            connection,
        }
    }

    async fn declare(&self, vhost: &str, name: &str, arguments: Table) {
        let spec = QueueSpec {
            vhost: vhost.to_owned(),
            arguments,
            ..QueueSpec::durable(name)
        };
        self.connection.declare_queue(&spec).await.unwrap();
    }

    async fn publish(&self, queue: &str, messages: impl IntoIterator<Item = Message>) {
        let publisher = self.connection.publisher(PublisherOptions::default());
        let mut confirms = Vec::new();
        for message in messages {
            let target = Target::queue(queue);
            confirms.push(publisher.publish(&target, message).await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_success());
        }
    }

    /// In the target's vhost.
    fn publisher_as(&self, producer: String) -> Publisher {
        self.connection.publisher(PublisherOptions {
            vhost: "other".to_owned(),
            producer_id: Some(producer),
            ..PublisherOptions::default()
        })
    }

    fn command(&self, queue: &str, arguments: &[&str]) -> Command {
        let mut command = self.cluster.warren();
        command.args(["queue", "shovel", queue, "--output", "json"]);
        command.args(["--server", &self.cluster.grpc_address(FIRST)]);
        command.args(arguments);
        command
    }

    fn shovel(&self, queue: &str, arguments: &[&str]) -> (Option<i32>, Json, String) {
        let output = run_within(self.command(queue, arguments), WITHIN).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let view = serde_json::from_slice(&output.stdout).unwrap_or(Json::Null);
        (output.status.code(), view, said)
    }

    async fn ready(&self, vhost: &str, queue: &str) -> u64 {
        let names = [queue.to_owned()];
        let stats = self.connection.queue_stats(vhost, &names).await.unwrap();
        stats[0].ready
    }

    /// Frozen with messages on their way, whose confirms it never reads; then killed.
    async fn kill_amid(&self, queue: &str) {
        let mut command = self.command(queue, &["--to-vhost", "other"]);
        let shovel = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut shovel = shovel.spawn().unwrap();
        let began = Instant::now();
        while self.ready("other", queue).await < 1_000 {
            assert!(began.elapsed() < WITHIN, "nothing arrives");
            tokio::task::yield_now().await;
        }
        let frozen = Command::new("kill")
            .args(["-STOP", &shovel.id().to_string()])
            .status();
        assert!(frozen.unwrap().success());
        let mut arrived = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.ready("other", queue).await;
            if now == arrived {
                break;
            }
            arrived = now;
        }
        shovel.kill().unwrap();
        shovel.wait().unwrap();
    }

    async fn content(&self, vhost: &str, queue: &str) -> Vec<Peeked> {
        let mut options = PeekOptions {
            vhost: vhost.to_owned(),
            queue: queue.to_owned(),
            ..PeekOptions::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.connection.peek(&options).await.unwrap();
            all.extend(page.messages);
            if page.next_cursor.is_empty() {
                return all;
            }
            options.cursor = page.next_cursor;
        }
    }
}

/// One of twenty has a priority of its own, and they share keys.
fn numbered(count: usize) -> impl Iterator<Item = Message> {
    (0..count).map(|it| {
        let key = Table::new().with("x-group-key", (it % 50).to_string());
        let priority = if it % 20 == 0 { 9 } else { 0 };
        let properties = PropertiesBuilder::new().headers(&key).priority(priority);
        Message::new(it.to_string()).with_properties(properties.build().unwrap())
    })
}

fn told(view: &Json, names: &[&str]) -> Json {
    names.iter().map(|it| view[*it].clone()).collect()
}

#[test]
fn killed_run_that_is_repeated_brings_nothing_twice_in_whatever_order_the_source_gives() {
    const MESSAGES: usize = 20_000;
    runtime(async {
        let stage = Stage::new();
        let delayed = Table::new().with("x-delayed-retry-type", "all");
        let sources = [
            ("priorities", Table::new().with("x-max-priority", 10_i64)),
            ("delayed", delayed.with("x-delayed-retry-min", 500_i64)),
            ("strict", Table::new().with("x-message-groups", "strict")),
        ];
        let mut known = Vec::new();
        for (queue, arguments) in sources {
            stage.declare("/", queue, arguments).await;
            stage.declare("other", queue, Table::new()).await;
            stage.publish(queue, numbered(MESSAGES)).await;
            stage.kill_amid(queue).await;
            let (code, view, said) = stage.shovel(queue, &["--to-vhost", "other"]);
            assert_eq!(code, Some(0), "{queue}: {said}");
            let (_, then, _) = stage.shovel(queue, &["--to-vhost", "other"]);
            let names = ["ended", "refused", "perhaps_twice", "unsettled"];
            assert_eq!(told(&then, &names), json!(["empty", 0, 0, 0]), "{queue}");
            println!("{queue}: {view}\n{then}");
            known.push(view["stored_before"].as_u64().unwrap());
            let mut counts = BTreeMap::new();
            for it in stage.content("other", queue).await {
                let body = String::from_utf8(it.message.body.to_vec()).unwrap();
                *counts.entry(body).or_insert(0) += 1;
            }
            let twice: Vec<_> = counts.iter().filter(|it| *it.1 != 1).collect();
            assert!(twice.is_empty(), "{queue}: {twice:?}");
            assert_eq!(counts.len(), MESSAGES, "{queue}");
            assert_eq!(view["perhaps_twice"], 0, "{queue}");
            assert!(stage.content("/", queue).await.is_empty(), "{queue}");
        }
        assert!(
            known.iter().any(|it| *it > 0),
            "none was cut off: {known:?}"
        );
    });
}

/// A target remembers the names for days: other ones would bring a message twice.
#[test]
fn message_whose_slot_is_another_blocks_by_now_goes_under_its_blocks_name() {
    runtime(async {
        let stage = Stage::new();
        for vhost in ["/", "other"] {
            stage.declare(vhost, "orders", Table::new()).await;
        }
        stage.publish("orders", numbered(10)).await;
        let queue = stage.connection.queue("/", "orders").await.unwrap();
        let cluster = stage.connection.cluster().await.unwrap();
        let base = format!("shovel {} {}", cluster.cluster_id, queue.queue_id);
        let all = stage.content("/", "orders").await;
        let target = Target::queue("orders");
        for (name, sequence) in [
            ("slot 0", 1_024 + 600),
            ("block 0", all[3].position % 1_024 + 1),
        ] {
            let publisher = stage.publisher_as(format!("{base} {name}"));
            let sent = publisher.publish_as(sequence, &target, Message::new(name));
            assert!(sent.await.unwrap().await.unwrap().is_success());
        }
        let (code, view, said) = stage.shovel("orders", &["--to-vhost", "other"]);
        assert_eq!(code, Some(0), "{said}");
        let names = ["stored", "stored_before", "perhaps_twice"];
        assert_eq!(told(&view, &names), json!([9, 1, 0]));
        let arrived = stage.content("other", "orders").await.into_iter();
        let arrived: Vec<_> = arrived.map(|it| it.message.body).collect();
        assert_eq!(arrived.len(), 11);
        assert!(!arrived.contains(&all[3].message.body));
    });
}

#[test]
fn exchange_that_leads_back_to_the_source_is_refused_but_for_a_limit() {
    runtime(async {
        let stage = Stage::new();
        stage.declare("/", "orders", Table::new()).await;
        stage.publish("orders", numbered(10)).await;
        for command in [
            vec!["exchange", "declare", "in", "--type", "fanout"],
            vec!["binding", "create", "in", "orders"],
        ] {
            stage.cluster.run(&command).unwrap();
        }
        let (code, _, said) = stage.shovel("orders", &["--to-exchange", "in"]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("leads back"), "{said}");
        let limited = ["--to-exchange", "in", "--limit", "25"];
        let (code, view, said) = stage.shovel("orders", &limited);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(told(&view, &["stored", "ended"]), json!([25, "limit"]));
        assert_eq!(stage.content("/", "orders").await.len(), 10);
    });
}

#[test]
fn run_beside_other_consumers_takes_all_that_they_leave() {
    runtime(async {
        let stage = Stage::new();
        for vhost in ["/", "other"] {
            stage.declare(vhost, "orders", Table::new()).await;
        }
        for round in 1..=5 {
            stage.publish("orders", numbered(20)).await;
            let (code, view, said) = stage.shovel("orders", &["--to-vhost", "other", "--shared"]);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(view["stored"], 20, "round {round}: {view}");
        }
    });
}
