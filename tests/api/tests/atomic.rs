//! Atomic batches: all messages are stored or none, on calls and on streams, whichever message is refused and for whatever reason; also while
//! leaders are killed (features A20).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use warren_api::{Call, FIRST, Publishing, in_band, message, one_node, runtime};
use warren_proto::admin_v1;
use warren_proto::v1::publish_stream_request::Frame;
use warren_proto::v1::{self, PublishOutcome};
use warren_testkit::process::{Cluster, NodeNumber, Options};

enum Argument<'a> {
    Int(i64),
    Text(&'a str),
}

async fn declare(call: &Call, name: &str, arguments: &[(&str, Argument<'_>)]) {
    let value = |it: &Argument<'_>| v1::Value {
        kind: Some(match it {
            Argument::Int(it) => v1::value::Kind::IntValue(*it),
            Argument::Text(it) => v1::value::Kind::StringValue((*it).to_owned()),
        }),
        amqp_type: 0,
    };
    let fields = arguments
        .iter()
        .map(|(name, it)| ((*name).to_owned(), value(it)));
    let queue = admin_v1::Queue {
        name: name.to_owned(),
        durable: true,
        arguments: Some(v1::Table {
            fields: fields.collect::<BTreeMap<_, _>>(),
        }),
        ..admin_v1::Queue::default()
    };
    let request = admin_v1::CreateQueueRequest {
        queue: Some(queue),
        ..admin_v1::CreateQueueRequest::default()
    };
    call.topology().create_queue(request).await.unwrap();
}

const GROUP: (&str, Argument<'static>) = ("x-placement-group", Argument::Text("orders"));

/// Mandatory messages: `(queue, body)`.
fn atomic(messages: &[(&str, &str)]) -> v1::PublishBatch {
    let entries = messages.iter().map(|(queue, body)| v1::PublishEntry {
        message: Some(message(body)),
        routing_key: Some((*queue).to_owned()),
        mandatory: true,
        ..v1::PublishEntry::default()
    });
    v1::PublishBatch {
        batch_ref: 1,
        entries: entries.collect(),
        atomic: true,
        ..v1::PublishBatch::default()
    }
}

fn told(results: &[v1::PublishResult]) -> Vec<String> {
    let told = results.iter().map(|it| {
        if it.outcome() == PublishOutcome::Refused {
            in_band(it.error.as_ref())
        } else {
            format!("{:?}", it.outcome())
        }
    });
    told.collect()
}

async fn publish(call: &Call, batch: v1::PublishBatch) -> Vec<String> {
    told(&call.publish(batch).await.unwrap())
}

async fn ready(call: &Call, queue: &str) -> Vec<String> {
    let request = v1::PeekRequest {
        queue: queue.to_owned(),
        limit: 1_000,
        ..v1::PeekRequest::default()
    };
    let mut pages = call.messaging().peek(request).await.unwrap().into_inner();
    let mut bodies = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        bodies.extend(page.messages.into_iter().map(|it| {
            let body = it.delivery.unwrap().message.unwrap().body;
            String::from_utf8(body.to_vec()).unwrap()
        }));
    }
    bodies
}

const ABORTED: &str = "FailedPrecondition BATCH_ABORTED";

#[test]
fn batch_is_stored_whole_or_not_at_all() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        declare(&call, "one", &[GROUP]).await;
        let full = [
            GROUP,
            ("x-max-length", Argument::Int(2)),
            ("x-overflow", Argument::Text("reject-publish")),
        ];
        declare(&call, "two", &full).await;
        let batch = atomic(&[("one", "a"), ("two", "b"), ("one", "c")]);
        assert_eq!(publish(&call, batch).await, ["Committed"; 3]);
        // The queue has room for one more only.
        let batch = atomic(&[("one", "d"), ("two", "e"), ("two", "f")]);
        let refused = [ABORTED, ABORTED, "ResourceExhausted QUEUE_FULL"];
        assert_eq!(publish(&call, batch).await, refused);
        let batch = atomic(&[("one", "d"), ("nowhere", "e")]);
        let refused = [ABORTED, "FailedPrecondition UNROUTABLE"];
        assert_eq!(publish(&call, batch).await, refused);
        let mut batch = atomic(&[("one", "d"), ("two", "e")]);
        batch.entries[1].need_consumer = true;
        let refused = [ABORTED, "FailedPrecondition NO_RESPONDERS"];
        assert_eq!(publish(&call, batch.clone()).await, refused);
        let (mut stream, _) = Publishing::open(&call, v1::PublishOpen::default()).await;
        stream.send(Frame::Batch(batch)).await;
        assert_eq!(told(&stream.results(1, 2).await), refused);
        assert_eq!(ready(&call, "one").await, ["a", "c"]);
        assert_eq!(ready(&call, "two").await, ["b"]);
        // What could not be stored together left no trace: the last room is there still.
        let batch = atomic(&[("two", "e"), ("one", "d")]);
        stream
            .send(Frame::Batch(v1::PublishBatch {
                batch_ref: 2,
                ..batch
            }))
            .await;
        assert_eq!(told(&stream.results(2, 2).await), ["Committed"; 2]);
        assert_eq!(ready(&call, "one").await, ["a", "c", "d"]);
        assert_eq!(ready(&call, "two").await, ["b", "e"]);
    });
}

#[test]
fn queues_of_other_shards_are_refused_unless_a_group_joins_them() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["a", "b"] {
            declare(&call, queue, &[]).await;
        }
        let batch = atomic(&[("a", "1"), ("b", "2")]);
        let refused = ["FailedPrecondition CROSS_SHARD"; 2];
        assert_eq!(publish(&call, batch).await, refused);
        assert_eq!(ready(&call, "a").await, Vec::<String>::new());
        for queue in ["c", "d", "e"] {
            declare(&call, queue, &[GROUP]).await;
            declare(&call, &format!("{queue}-other"), &[]).await;
        }
        let batch = atomic(&[("c", "1"), ("d", "2"), ("e", "3")]);
        assert_eq!(publish(&call, batch).await, ["Committed"; 3]);
    });
}

#[test]
fn batch_sent_again_is_stored_once() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        declare(&call, "one", &[GROUP]).await;
        declare(&call, "two", &[GROUP]).await;
        let request = |sequences: [u64; 2]| {
            let mut batch = atomic(&[("one", "a"), ("two", "b")]);
            for (entry, sequence) in batch.entries.iter_mut().zip(sequences) {
                entry.sequence = sequence;
            }
            v1::PublishRequest {
                producer: Some(v1::Producer {
                    producer_id: "p".to_owned(),
                    producer_epoch: 0,
                }),
                batch: Some(batch),
                ..v1::PublishRequest::default()
            }
        };
        for outcome in ["Committed", "Duplicate"] {
            let answer = call.messaging().publish(request([1, 2])).await.unwrap();
            assert_eq!(told(&answer.into_inner().results), [outcome; 2]);
        }
        assert_eq!(ready(&call, "one").await, ["a"]);
        assert_eq!(ready(&call, "two").await, ["b"]);
    });
}

#[test]
fn batches_stay_whole_while_the_leader_is_killed() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let any = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["one", "two", "three"] {
            declare(&any, queue, &[GROUP]).await;
        }
        let shown = cluster.run(&["queue", "show", "one", "--output", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.unwrap()).unwrap();
        let leads = usize::try_from(shown["leader_node"].as_u64().unwrap()).unwrap();
        let leads = NodeNumber(leads);
        let others = cluster.numbers().into_iter().filter(|it| *it != leads);
        let publishers = others.map(|node| {
            let call = Call::to(&cluster.grpc_address(node));
            tokio::spawn(async move {
                for number in 0..50 {
                    let body = format!("{}.{number}", node.0);
                    let all = [("one", &*body), ("two", &*body), ("three", &*body)];
                    assert_eq!(publish(&call, atomic(&all)).await, ["Committed"; 3]);
                }
            })
        });
        let publishers: Vec<_> = publishers.collect();
        cluster.kill(leads).unwrap();
        for publisher in publishers {
            publisher.await.unwrap();
        }
        let other = cluster.numbers().into_iter().find(|it| *it != leads);
        let call = Call::to(&cluster.grpc_address(other.unwrap()));
        let one = ready(&call, "one").await;
        assert_eq!(one.len(), 100);
        assert_eq!(ready(&call, "two").await, one);
        assert_eq!(ready(&call, "three").await, one);
    });
}
