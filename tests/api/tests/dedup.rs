//! Queues that deduplicate by message key (features X8): a duplicate is a success and not stored, another body is a conflict, and all of it
//! holds through a restart and a killed leader, on whatever node the publisher is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use warren_api::{Call, FIRST, in_band, message, one_node, queue_batch, runtime};
use warren_proto::admin_v1;
use warren_proto::v1::{self, PublishOutcome};
use warren_testkit::process::{Cluster, NodeNumber, Options};

/// A queue with arguments.
async fn declare(call: &Call, name: &str, arguments: &[(&str, i64)]) {
    let value = |it: i64| v1::Value {
        kind: Some(v1::value::Kind::IntValue(it)),
        amqp_type: 0,
    };
    let fields = arguments
        .iter()
        .map(|(name, it)| ((*name).to_owned(), value(*it)));
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

fn named(id: &str, body: &str) -> v1::Message {
    v1::Message {
        properties: Some(v1::Properties {
            message_id: Some(id.to_owned()),
            ..v1::Properties::default()
        }),
        ..message(body)
    }
}

async fn publish(call: &Call, queue: &str, messages: Vec<v1::Message>) -> Vec<String> {
    let results = call.publish(queue_batch(queue, messages)).await.unwrap();
    let told = results.iter().map(|it| {
        if it.outcome() == PublishOutcome::Refused {
            in_band(it.error.as_ref())
        } else {
            format!("{:?}", it.outcome())
        }
    });
    told.collect()
}

/// All that is ready, however many calls it takes.
async fn bodies(call: &Call, queue: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let taken = call.receive(queue, 1_000).await.unwrap();
        if taken.is_empty() {
            return bodies;
        }
        let body = |it: &v1::Delivery| it.message.as_ref().unwrap().body.to_vec();
        bodies.extend(taken.iter().map(|it| String::from_utf8(body(it)).unwrap()));
    }
}

const HOUR: (&str, i64) = ("x-dedup-window", 3_600_000);

#[test]
fn duplicate_is_a_success_and_another_body_a_conflict_also_after_a_restart() {
    let mut cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        declare(&call, "once", &[HOUR]).await;
        declare(&call, "plain", &[]).await;
        let all = || {
            vec![
                named("a", "x"),
                named("b", "y"),
                named("a", "x"),
                message("z"),
            ]
        };
        let once = ["Committed", "Committed", "Duplicate", "Committed"];
        assert_eq!(publish(&call, "once", all()).await, once);
        assert_eq!(publish(&call, "plain", all()).await, ["Committed"; 4]);
        let again = vec![named("a", "x"), named("b", "other"), message("z")];
        let told = ["Duplicate", "AlreadyExists DEDUP_CONFLICT", "Committed"];
        assert_eq!(publish(&call, "once", again.clone()).await, told);
        cluster.restart(FIRST).unwrap();
        cluster.wait_ready(FIRST).unwrap();
        let call = Call::to(&cluster.grpc_address(FIRST));
        assert_eq!(publish(&call, "once", again).await, told);
        // Also when the first one is long gone.
        assert_eq!(bodies(&call, "once").await, ["x", "y", "z", "z", "z"]);
        let late = vec![named("a", "x")];
        assert_eq!(publish(&call, "once", late).await, ["Duplicate"]);
        let stats = call.stats("once").await;
        assert_eq!((stats.duplicates_total, stats.published_total), (4, 5));
        assert_eq!(call.stats("plain").await.duplicates_total, 0);
    });
}

#[test]
fn keys_beyond_the_most_are_forgotten_oldest_first() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        declare(&call, "few", &[HOUR, ("x-dedup-max-keys", 2)]).await;
        let all = vec![named("a", ""), named("b", ""), named("c", "")];
        assert_eq!(publish(&call, "few", all).await, ["Committed"; 3]);
        let again = vec![named("b", ""), named("c", ""), named("a", "")];
        let told = ["Duplicate", "Duplicate", "Committed"];
        assert_eq!(publish(&call, "few", again).await, told);
    });
}

#[test]
fn header_is_the_key_rather_than_the_message_id() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        declare(&call, "once", &[HOUR]).await;
        let keyed = |key: &str, id: &str| v1::Message {
            dedup_key: key.to_owned(),
            ..named(id, "x")
        };
        let all = vec![keyed("k", "1"), keyed("k", "2"), keyed("l", "1")];
        let told = ["Committed", "Duplicate", "Committed"];
        assert_eq!(publish(&call, "once", all).await, told);
    });
}

#[test]
fn publishers_on_two_nodes_store_each_key_once_while_the_leader_is_killed() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let any = Call::to(&cluster.grpc_address(FIRST));
        declare(&any, "once", &[HOUR]).await;
        let shown = cluster.run(&["queue", "show", "once", "--output", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.unwrap()).unwrap();
        let leads = usize::try_from(shown["leader_node"].as_u64().unwrap()).unwrap();
        let leads = NodeNumber(leads);
        let others = cluster.numbers().into_iter().filter(|it| *it != leads);
        let publishers = others.map(|node| {
            let call = Call::to(&cluster.grpc_address(node));
            tokio::spawn(async move {
                for chunk in 0..40 {
                    let name = |it: i32| format!("m{}", chunk * 5 + it);
                    let all = || (0..5).map(|it| named(&name(it), &name(it))).collect();
                    loop {
                        let told = publish(&call, "once", all()).await;
                        if told.iter().all(|it| it == "Committed" || it == "Duplicate") {
                            break;
                        }
                    }
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
        let mut seen = bodies(&call, "once").await;
        seen.sort_unstable();
        let mut expected: Vec<String> = (0..200).map(|it| format!("m{it}")).collect();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    });
}
