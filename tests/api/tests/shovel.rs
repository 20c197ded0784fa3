//! `warren queue shovel` between the vhosts of a node: what goes on of a message, what a refusal does, where it ends (features D25). Not here:
//! killed nodes and shovels, two clusters (`tests/cluster`, `shovel`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use warren_api::{FIRST, one_node, runtime};
use warren_client::{
    Connection, ConnectionOptions, Message, PeekOptions, Peeked, PublisherOptions, QueueDeletion,
    QueueSpec, Target, parse_addresses,
};
use warren_testkit::process::{Cluster, run_within};
use warren_types::{PropertiesBuilder, Property, Table, Value};

const WITHIN: Duration = Duration::from_secs(60);

struct Stage {
    cluster: Cluster,
    connection: Connection,
}

impl Stage {
    /// Two vhosts, each with a queue "orders".
    async fn new() -> Self {
        let cluster = one_node();
        cluster.run(&["vhost", "create", "other"]).unwrap();
        let addresses = parse_addresses(&cluster.grpc_address(FIRST)).unwrap();
        let connection = Connection::new(&addresses, ConnectionOptions::default()).unwrap();
        let stage = Self {
            cluster,
            connection,
        };
        stage.declare("/", Table::new()).await;
        stage.declare("other", Table::new()).await;
        stage
    }

    async fn declare(&self, vhost: &str, arguments: Table) {
        let spec = QueueSpec {
            vhost: vhost.to_owned(),
            arguments,
            ..QueueSpec::durable("orders")
        };
        self.connection.declare_queue(&spec).await.unwrap();
    }

    async fn publish(&self, messages: Vec<Message>) {
        let publisher = self.connection.publisher(PublisherOptions::default());
        let mut confirms = Vec::new();
        for message in messages {
            let target = Target::queue("orders");
            confirms.push(publisher.publish(&target, message).await.unwrap());
        }
        for confirm in confirms {
            assert!(confirm.await.unwrap().is_success());
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cluster.warren();
        command.args(["queue", "shovel", "orders", "--output", "json"]);
        command.args(["--server", &self.cluster.grpc_address(FIRST)]);
        command.args(arguments);
        command
    }

    fn shovel(&self, arguments: &[&str]) -> (Option<i32>, Json, String) {
        let output = run_within(self.command(arguments), WITHIN).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let view = serde_json::from_slice(&output.stdout).unwrap_or(Json::Null);
        (output.status.code(), view, said)
    }

    async fn content(&self, vhost: &str) -> Vec<Peeked> {
        let mut options = PeekOptions {
            vhost: vhost.to_owned(),
            queue: "orders".to_owned(),
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

    async fn bodies(&self, vhost: &str) -> Vec<String> {
        let all = self.content(vhost).await.into_iter();
        all.map(|it| String::from_utf8(it.message.body.to_vec()).unwrap())
            .collect()
    }

    async fn ready(&self, vhost: &str) -> u64 {
        let names = ["orders".to_owned()];
        let stats = self.connection.queue_stats(vhost, &names).await.unwrap();
        stats[0].ready
    }

    async fn until_ready(&self, vhost: &str, count: u64) {
        let began = Instant::now();
        while self.ready(vhost).await != count {
            assert!(began.elapsed() < WITHIN, "{count} in {vhost}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<Message> {
    numbers.map(|it| Message::new(it.to_string())).collect()
}

fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|it| it.to_string()).collect()
}

/// What the command says under these names.
fn told(view: &Json, names: &[&str]) -> Json {
    names.iter().map(|it| view[*it].clone()).collect()
}

fn with(properties: &PropertiesBuilder) -> Message {
    Message::new("x").with_properties(properties.build().unwrap())
}

#[test]
fn messages_go_on_as_they_were_and_the_source_is_empty() {
    runtime(async {
        let stage = Stage::new().await;
        let copies = Table::new().with("CC", Value::Array(vec![Value::from("nobody")]));
        let delay = Table::new().with("x-delay", 200_i64).with("mine", "x");
        let keyed = Table::new().with("x-group-key", "g");
        stage
            .publish(vec![
                with(&PropertiesBuilder::new().headers(&copies).priority(9)),
                with(&PropertiesBuilder::new().expiration("600000")),
                with(&PropertiesBuilder::new().headers(&keyed).message_id("m")),
                with(&PropertiesBuilder::new().headers(&delay)),
                Message::new("much later").after(WITHIN * 60).unwrap(),
            ])
            .await;
        stage.until_ready("/", 4).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (code, view, said) = stage.shovel(&["--to-vhost", "other"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(told(&view, &["stored", "ended"]), json!([4, "empty"]));
        assert_eq!(
            view["left"]["scheduled"], 1,
            "what is not due stays: {view}"
        );
        assert_eq!(stage.content("/").await.len(), 1);
        let all = stage.content("other").await;
        let properties = |find: &dyn Fn(&Peeked) -> bool| {
            all.iter()
                .find(|it| find(it))
                .unwrap()
                .message
                .properties
                .clone()
        };
        let first = properties(&|it: &Peeked| it.message.properties.priority() == Some(9));
        assert_eq!(first.headers(), None);
        let ttl =
            properties(&|it: &Peeked| it.message.properties.raw(Property::Expiration).is_some());
        let left = ttl.raw(Property::Expiration).unwrap();
        let left: u64 = std::str::from_utf8(&left).unwrap().parse().unwrap();
        assert!(left < 600_000 && left > 500_000, "{left}");
        let keyed = properties(&|it: &Peeked| it.message.properties.message_id() == Some("m"));
        assert_eq!(keyed.headers().unwrap().get_str("x-group-key"), Some("g"));
        let delayed = properties(&|it: &Peeked| {
            let headers = it.message.properties.headers().unwrap_or_default();
            headers.get("mine").is_some()
        });
        assert_eq!(delayed.headers().unwrap().get_int("x-delay"), Some(0));
        assert_eq!(stage.ready("other").await, 4, "none is delayed again");
    });
}

#[test]
fn refused_message_ends_the_run_or_is_left_and_no_message_is_lost() {
    runtime(async {
        let stage = Stage::new().await;
        stage.publish(numbered(0..5)).await;
        let (code, _, said) = stage.shovel(&["--to-vhost", "other", "--to-queue", "none"]);
        assert_eq!(code, Some(4), "{said}");
        let (code, view, said) =
            stage.shovel(&["--to-vhost", "other", "--to-exchange", "amq.direct"]);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("UNROUTABLE"), "{said}");
        assert_eq!(told(&view, &["stored", "ended"]), json!([0, null]));
        assert_eq!(stage.bodies("/").await, texts(0..5));

        let conditions = QueueDeletion::default();
        let deleted = stage.connection.delete_queue("other", "orders", conditions);
        deleted.await.unwrap();
        let full = Table::new()
            .with("x-max-length", 2_i64)
            .with("x-overflow", "reject-publish");
        stage.declare("other", full).await;
        let (code, view, said) = stage.shovel(&["--to-vhost", "other", "--window", "1"]);
        assert_eq!(code, Some(3), "full is for now: {said}");
        assert_eq!(told(&view, &["stored", "refused"]), json!([2, 1]));
        let (code, view, _) = stage.shovel(&["--to-vhost", "other", "--on-refusal", "skip"]);
        assert_eq!(code, Some(1));
        let names = ["stored", "refused", "ended"];
        assert_eq!(told(&view, &names), json!([0, 3, "empty"]));
        assert_eq!(stage.bodies("other").await, texts(0..2));
        stage.until_ready("/", 3).await;
        assert_eq!(stage.bodies("/").await, texts(2..5));
    });
}

#[test]
fn source_that_is_the_target_is_refused_and_so_is_a_filter_without_a_copy() {
    runtime(async {
        let stage = Stage::new().await;
        let (code, _, said) = stage.shovel(&[]);
        assert_eq!(code, Some(2), "{said}");
        let filter = ["--to-vhost", "other", "--filter", "position > 1"];
        let (code, _, said) = stage.shovel(&filter);
        assert_eq!(code, Some(2), "{said}");
        let (code, _, said) = stage.shovel(&["--to-vhost", "missing"]);
        assert_eq!(code, Some(4), "{said}");
        let (code, _, said) = stage.shovel(&["--vhost", "missing", "--to-vhost", "other"]);
        assert_eq!(code, Some(4), "{said}");
    });
}

#[test]
fn copy_leaves_the_source_and_can_go_on_where_it_ended() {
    runtime(async {
        let stage = Stage::new().await;
        stage.publish(numbered(0..500)).await;
        let later = Message::new("later").after(WITHIN * 60).unwrap();
        stage.publish(vec![later]).await;
        let (code, view, said) = stage.shovel(&["--copy", "--to-vhost", "other", "--limit", "300"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(told(&view, &["stored", "ended"]), json!([300, "limit"]));
        let filter = format!("position > {}", view["last_position"]);
        let (code, view, said) =
            stage.shovel(&["--copy", "--to-vhost", "other", "--filter", &filter]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(told(&view, &["stored", "ended"]), json!([201, "empty"]));
        let mut expected = texts(0..500);
        expected.push("later".to_owned());
        assert_eq!(stage.bodies("other").await, expected);
        assert_eq!(stage.ready("other").await, 500);
        assert_eq!(stage.bodies("/").await, expected);
    });
}

#[test]
fn message_that_is_due_when_a_thousand_later_ones_have_gone_arrives_once() {
    runtime(async {
        let stage = Stage::new().await;
        let due = Message::new("due").after(Duration::from_secs(10)).unwrap();
        stage.publish(vec![due]).await;
        stage.publish(numbered(0..1_200)).await;
        let (code, view, said) = stage.shovel(&["--to-vhost", "other"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(view["stored"], 1_200);
        stage.until_ready("/", 1).await;
        let (code, view, said) = stage.shovel(&["--to-vhost", "other"]);
        assert_eq!(code, Some(0), "{said}");
        let names = ["stored", "stored_before", "perhaps_twice"];
        assert_eq!(told(&view, &names), json!([1, 0, 0]));
        let mut expected = texts(0..1_200);
        expected.push("due".to_owned());
        assert_eq!(stage.bodies("other").await, expected);
    });
}

#[test]
fn shovel_that_follows_brings_what_comes_and_ends_when_it_is_interrupted() {
    runtime(async {
        let stage = Stage::new().await;
        stage.publish(numbered(0..20)).await;
        let mut command = stage.command(&["--to-vhost", "other", "--follow"]);
        let shovel = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let shovel = shovel.spawn().unwrap();
        stage.until_ready("other", 20).await;
        stage.publish(numbered(20..40)).await;
        stage.until_ready("other", 40).await;
        let interrupt = Command::new("kill")
            .args(["-INT", &shovel.id().to_string()])
            .status();
        assert!(interrupt.unwrap().success());
        let output = shovel.wait_with_output().unwrap();
        let view: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{view}");
        assert_eq!(
            told(&view, &["stored", "ended"]),
            json!([40, "interrupted"])
        );
        assert_eq!(stage.bodies("other").await, texts(0..40));
        assert!(stage.bodies("/").await.is_empty());
    });
}

#[test]
fn exchange_that_receives_gets_each_messages_own_key_or_the_one_that_is_named() {
    runtime(async {
        let stage = Stage::new().await;
        let run = |arguments: &[&str]| stage.cluster.run(arguments).unwrap();
        run(&["exchange", "declare", "in", "--vhost", "other"]);
        let bind = ["binding", "create", "--vhost", "other", "in", "orders"];
        for key in ["orders", "named"] {
            let mut all = bind.to_vec();
            all.extend(["--routing-key", key]);
            run(&all);
        }
        for key in [vec![], vec!["--to-routing-key", "named"]] {
            stage.publish(numbered(0..3)).await;
            let mut all = vec!["--to-vhost", "other", "--to-exchange", "in"];
            all.extend(key);
            let (code, view, said) = stage.shovel(&all);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(view["stored"], 3);
        }
        let keys = stage.content("other").await.into_iter();
        let keys: Vec<String> = keys.map(|it| it.routing_key).collect();
        assert_eq!(
            keys,
            ["orders", "orders", "orders", "named", "named", "named"]
        );
    });
}
