//! What streams tell of their own accord (features A34): the node stops, the leader has moved, the consumer has ended and why, its queue has
//! other settings, a message group was taken from it; to a publisher, that it is held back and why. Not here: what the client library makes
//! of them (`client/tests`), rights that are taken (`tests/cluster`, `tenancy`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use warren_api::{
    Call, Consuming, FIRST, Publishing, in_band, message, one_node, queue_batch, runtime, text,
};
use warren_proto::v1;
use warren_proto::v1::NoticeKind;
use warren_proto::v1::{
    consume_request::Frame as Consume, consume_response::Frame as Consumed,
    publish_stream_request::Frame as Publish, publish_stream_response::Frame as Published,
};
use warren_testkit::process::{Cluster, NodeNumber, Options};

fn open(queue: &str) -> v1::ConsumeOpen {
    v1::ConsumeOpen {
        queue: queue.to_owned(),
        prefetch: 10,
        ..v1::ConsumeOpen::default()
    }
}

async fn consumer(call: &Call, queue: &str) -> Consuming {
    Consuming::open(call, open(queue)).await.0
}

async fn publisher(call: &Call) -> Publishing {
    Publishing::open(call, v1::PublishOpen::default()).await.0
}

/// The next notice, whatever comes before.
async fn notice(stream: &mut Consuming) -> v1::Notice {
    loop {
        if let Consumed::Notice(notice) = stream.next().await.unwrap() {
            return notice;
        }
    }
}

async fn publisher_notice(stream: &mut Publishing) -> v1::Notice {
    loop {
        if let Published::Notice(notice) = stream.next().await.unwrap() {
            return notice;
        }
    }
}

fn told(notice: &v1::Notice) -> (NoticeKind, String) {
    (notice.kind(), in_band(notice.status.as_ref()))
}

/// Milliseconds from now.
fn ahead(at: Option<prost_types::Timestamp>) -> i128 {
    let at = at.unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i128::try_from(now.unwrap().as_millis()).unwrap();
    i128::from(at.seconds) * 1_000 + i128::from(at.nanos) / 1_000_000 - now
}

#[test]
fn node_that_stops_tells_its_streams_until_when_and_then_ends_them() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let (mut consumer, mut publisher) =
            (consumer(&call, "orders").await, publisher(&call).await);
        let pid = cluster.pid(FIRST).unwrap().to_string();
        let signalled = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(signalled.unwrap().success());
        let draining = (NoticeKind::Draining, "Unavailable NODE_DRAINING".to_owned());
        let of_consumer = notice(&mut consumer).await;
        assert_eq!(told(&of_consumer), draining);
        assert!(
            (1..=5_000).contains(&ahead(of_consumer.deadline)),
            "{of_consumer:?}"
        );
        let of_publisher = publisher_notice(&mut publisher).await;
        assert_eq!(told(&of_publisher), draining);
        let ended = Some("Unavailable NODE_DRAINING");
        assert_eq!(consumer.end().await.as_deref(), ended);
        assert_eq!(publisher.end().await.as_deref(), ended);
    });
}

#[test]
fn consumer_of_a_deleted_queue_is_told_why_it_ends() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let mut stream = consumer(&call, "orders").await;
        cluster.run(&["queue", "delete", "orders"]).unwrap();
        let gone = "NotFound QUEUE_NOT_FOUND".to_owned();
        let notice = notice(&mut stream).await;
        assert_eq!(told(&notice), (NoticeKind::ConsumerCancelled, gone.clone()));
        assert_eq!(stream.end().await, Some(gone));
    });
}

#[test]
fn consumer_is_told_where_its_queue_is_led_now() {
    let cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let shard = call.declare("orders").await.unwrap().shard.to_string();
        let (mut stream, opened) = Consuming::open(&call, open("orders")).await;
        let before = opened.leader.unwrap();
        let to = if before.node == "2" { "3" } else { "2" };
        let patience = Instant::now() + Duration::from_secs(30);
        // A replica that is behind is refused.
        while let Err(error) = cluster.run(&["cluster", "transfer-leader", &shard, to]) {
            assert!(Instant::now() < patience, "{error}");
        }
        let notice = loop {
            let notice = notice(&mut stream).await;
            assert_eq!(notice.kind(), NoticeKind::LeaderMoved);
            if notice.leader.as_ref().is_some_and(|it| it.node == to) {
                break notice;
            }
        };
        let hint = notice.leader.unwrap();
        let number = NodeNumber(to.parse().unwrap());
        assert_eq!(hint.endpoint, cluster.grpc_address(number));
        assert!(hint.term > before.term, "{hint:?} after {before:?}");
        // It goes on, and its client need not do anything.
        call.fill("orders", &["a"]).await;
        assert_eq!(stream.deliveries(1).await.len(), 1);
    });
}

#[test]
fn consumer_is_told_of_its_queues_settings_and_held_to_them() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        // With room for one: what it holds too long is not handed to it again.
        let one = v1::ConsumeOpen {
            prefetch: 1,
            ..open("orders")
        };
        let (mut stream, _) = Consuming::open(&call, one).await;
        let set = |name: &str, pattern: &str, define: &str| {
            let arguments = ["policy", "set", name, pattern, "--define", define];
            cluster.run(&arguments).unwrap();
        };
        // Not a word of what regards others.
        set("other", "^invoices$", "message-ttl=60000");
        set("own", "^orders$", "consumer-timeout=300");
        let changed = notice(&mut stream).await;
        assert_eq!(changed.kind(), NoticeKind::SettingsChanged);
        assert_eq!(changed.limits.unwrap().max_message_bytes, 16 << 20);
        call.fill("orders", &["a"]).await;
        let held = stream.deliveries(1).await;
        assert!(ahead(held[0].lease_until) <= 300);
        let again = call.receive("orders", 1).await.unwrap();
        assert!(
            again[0].redelivered && again[0].delivery_count == 1,
            "{again:?}"
        );
        cluster.run(&["queue", "delete", "orders"]).unwrap();
        assert_eq!(
            notice(&mut stream).await.kind(),
            NoticeKind::ConsumerCancelled
        );
    });
}

#[test]
fn consumer_is_told_which_message_group_was_taken_from_it() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare_with("orders", &[("x-message-groups", text("strict"))])
            .await;
        let of_group = |key: &str, body: &str| v1::Message {
            group_key: key.to_owned(),
            ..message(body)
        };
        let batch = queue_batch("orders", [of_group("a", "a1"), of_group("b", "b1")]);
        call.publish(batch).await.unwrap();
        let slow = v1::ConsumeOpen {
            max_processing: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            // Settles give it no more.
            prefetch: 0,
            credit: Some(v1::Credit {
                messages: 2,
                bytes: 1 << 20,
            }),
            ..open("orders")
        };
        let (mut stream, _) = Consuming::open(&call, slow).await;
        let held = stream.deliveries(2).await;
        let b1 = held
            .iter()
            .find(|it| it.message.as_ref().unwrap().body == "b1");
        let settlement = v1::Settlement {
            target: Some(v1::settlement::Target::DeliveryTag(
                b1.unwrap().delivery_tag,
            )),
            action: Some(v1::settlement::Action::Ack(v1::Ack {})),
            ..v1::Settlement::default()
        };
        let batch = v1::SettleBatch {
            settle_ref: 1,
            settlements: vec![settlement],
        };
        stream.send(Consume::Settle(batch)).await;
        // Only of what it lost, not of what it settled.
        let revoked = notice(&mut stream).await;
        assert_eq!(revoked.kind(), NoticeKind::GroupRevoked);
        assert_eq!(revoked.group_key, "a");
        let taken = call.receive("orders", 1).await.unwrap();
        assert_eq!(taken[0].message.as_ref().unwrap().group_key, "a");
        cluster.run(&["queue", "delete", "orders"]).unwrap();
        assert_eq!(
            notice(&mut stream).await.kind(),
            NoticeKind::ConsumerCancelled
        );
    });
}

async fn publish(stream: &Publishing, batch_ref: u64, body: &str) {
    let batch = v1::PublishBatch {
        batch_ref,
        ..queue_batch("orders", [message(body)])
    };
    stream.send(Publish::Batch(batch)).await;
}

#[test]
fn publisher_is_told_that_its_vhost_is_full_and_when_there_is_room() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        cluster
            .run(&["vhost", "set-limits", "/", "--max-bytes", "10000"])
            .unwrap();
        let mut stream = publisher(&call).await;
        let body = "x".repeat(6_000);
        let (mut batch_ref, patience) = (0, Instant::now() + Duration::from_secs(30));
        loop {
            batch_ref += 1;
            publish(&stream, batch_ref, &body).await;
            // The notice comes before the result of the message that it is about.
            match stream.next().await.unwrap() {
                Published::Notice(paused) => {
                    let full = "ResourceExhausted OVER_QUOTA".to_owned();
                    assert_eq!(told(&paused), (NoticeKind::Paused, full));
                    break;
                }
                Published::Confirms(_) | Published::Credit(_) => {}
                other @ (Published::Opened(_) | Published::Pong(_)) => panic!("{other:?}"),
            }
            assert!(Instant::now() < patience, "the quota does not count");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.run(&["queue", "purge", "orders"]).unwrap();
        let over = publisher_notice(&mut stream).await;
        assert_eq!(told(&over), (NoticeKind::Paused, "no error".to_owned()));
        publish(&stream, 1_000, "small").await;
        let results = stream.results(1_000, 1).await;
        assert_eq!(results[0].outcome(), v1::PublishOutcome::Committed);
    });
}

#[test]
fn publisher_that_waits_for_its_vhosts_rate_is_told() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let limits = ["vhost", "set-limits", "/"];
        let slow = ["--max-publishes-per-second", "1"];
        cluster.run(&[&limits[..], &slow].concat()).unwrap();
        let mut stream = publisher(&call).await;
        // A batch is not split: the next one waits for the time of all of it.
        let first = queue_batch("orders", vec![message("a"); 5]);
        stream.send(Publish::Batch(first)).await;
        publish(&stream, 1, "waits").await;
        let paused = publisher_notice(&mut stream).await;
        let rate = "ResourceExhausted LIMIT_REACHED".to_owned();
        assert_eq!(told(&paused), (NoticeKind::Paused, rate));
        cluster.run(&limits).unwrap();
        let results = stream.results(1, 1).await;
        assert_eq!(results[0].outcome(), v1::PublishOutcome::Committed);
        publish(&stream, 2, "goes on").await;
        let over = publisher_notice(&mut stream).await;
        assert_eq!(told(&over), (NoticeKind::Paused, "no error".to_owned()));
    });
}
