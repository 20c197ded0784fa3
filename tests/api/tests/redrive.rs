//! Dead letters are listed and sent back: each once, to where it came from or elsewhere; what cannot go stays (features X6).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use warren_api::{Call, message, queue_batch, reason_of, runtime};
use warren_proto::admin_v1::{self, RedriveRequest};
use warren_proto::v1;
use warren_proto::v1::value::Kind;
use warren_testkit::process::{Cluster, NodeNumber, Options};

const FIRST: NodeNumber = NodeNumber(1);

fn one_node() -> Cluster {
    Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap()
}

fn text(value: &str) -> v1::Value {
    v1::Value {
        kind: Some(Kind::StringValue(value.to_owned())),
        ..v1::Value::default()
    }
}

async fn declare(call: &Call, name: &str, arguments: &[(&str, v1::Value)]) {
    let named = arguments.iter().cloned();
    let fields = named
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let queue = admin_v1::Queue {
        name: name.to_owned(),
        durable: true,
        arguments: Some(v1::Table { fields }),
        ..admin_v1::Queue::default()
    };
    let request = admin_v1::CreateQueueRequest {
        queue: Some(queue),
        ..admin_v1::CreateQueueRequest::default()
    };
    call.topology().create_queue(request).await.unwrap();
}

/// Takes so many and rejects them.
async fn reject(call: &Call, queue: &str, count: usize) {
    let taken = call
        .receive(queue, u32::try_from(count).unwrap())
        .await
        .unwrap();
    assert_eq!(taken.len(), count);
    let settlements = taken.into_iter().map(|it| v1::Settlement {
        target: Some(v1::settlement::Target::Receipt(it.receipt)),
        action: Some(v1::settlement::Action::Reject(v1::Reject::default())),
        ..v1::Settlement::default()
    });
    let request = v1::SettleRequest {
        settlements: settlements.collect(),
        ..v1::SettleRequest::default()
    };
    call.messaging().settle(request).await.unwrap();
}

async fn redrive(call: &Call, request: RedriveRequest) -> Result<u64, String> {
    let answer = call.dead_letters().redrive(request).await;
    let answer = answer.map_err(|error| reason_of(&error))?;
    Ok(answer.into_inner().messages)
}

fn from(queue: &str) -> RedriveRequest {
    RedriveRequest {
        queue: queue.to_owned(),
        ..RedriveRequest::default()
    }
}

fn bodies(deliveries: &[v1::Delivery]) -> Vec<String> {
    let body = |it: &v1::Delivery| it.message.as_ref().unwrap().body.to_vec();
    deliveries
        .iter()
        .map(|it| String::from_utf8(body(it)).unwrap())
        .collect()
}

async fn until_ready(call: &Call, queue: &str, count: u64) {
    let request = admin_v1::GetQueueStatsRequest {
        queues: vec![queue.to_owned()],
        ..admin_v1::GetQueueStatsRequest::default()
    };
    loop {
        let stats = call
            .topology()
            .get_queue_stats(request.clone())
            .await
            .unwrap();
        if stats.into_inner().stats[0].ready == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn redrive_sends_each_dead_letter_back_to_the_queue_it_came_from() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        let away = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        for queue in ["orders", "bills"] {
            declare(&call, queue, &away).await;
            call.fill(queue, &[queue, queue]).await;
            reject(&call, queue, 2).await;
        }
        // Nothing tells where this one came from: it stays.
        call.publish(queue_batch("dead", [message("stranger")]))
            .await
            .unwrap();
        until_ready(&call, "dead", 5).await;
        let request = admin_v1::ListDeadLettersRequest {
            queue: "dead".to_owned(),
            ..admin_v1::ListDeadLettersRequest::default()
        };
        let listed = call
            .dead_letters()
            .list_dead_letters(request)
            .await
            .unwrap();
        let listed = listed.into_inner().dead_letters;
        let sources: Vec<&str> = listed.iter().map(|it| it.source_queue.as_str()).collect();
        assert_eq!(sources, ["orders", "orders", "bills", "bills", ""]);
        assert!(listed[..4].iter().all(|it| it.cause == "rejected"));

        let dry = RedriveRequest {
            dry_run: true,
            ..from("dead")
        };
        assert_eq!(redrive(&call, dry).await, Ok(4));
        let one = RedriveRequest {
            limit: 1,
            ..from("dead")
        };
        assert_eq!(redrive(&call, one).await, Ok(1));
        assert_eq!(redrive(&call, from("dead")).await, Ok(3));
        assert_eq!(redrive(&call, from("dead")).await, Ok(0));
        for queue in ["orders", "bills"] {
            until_ready(&call, queue, 2).await;
            let back = call.receive(queue, 10).await.unwrap();
            assert_eq!(bodies(&back), [queue, queue]);
            assert!(
                back.iter()
                    .all(|it| !it.redelivered && it.delivery_count == 0)
            );
            let headers = &back[0].message.as_ref().unwrap().headers;
            assert!(headers.contains_key("x-death"), "its story stays");
        }
        until_ready(&call, "dead", 1).await;
        assert_eq!(
            bodies(&call.receive("dead", 10).await.unwrap()),
            ["stranger"]
        );
    });
}

#[test]
fn redrive_to_a_named_queue_that_is_full_leaves_the_rest_where_it_is() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        call.fill("dead", &["a", "b", "c"]).await;
        let two = v1::Value {
            kind: Some(Kind::IntValue(2)),
            ..v1::Value::default()
        };
        let limits = [
            ("x-max-length", two),
            ("x-overflow", text("reject-publish")),
        ];
        declare(&call, "repair", &limits).await;
        let request = RedriveRequest {
            target_queue: "repair".to_owned(),
            ..from("dead")
        };
        assert_eq!(redrive(&call, request).await, Ok(3));
        until_ready(&call, "repair", 2).await;
        until_ready(&call, "dead", 1).await;
        assert_eq!(
            bodies(&call.receive("repair", 10).await.unwrap()),
            ["a", "b"]
        );
        assert_eq!(bodies(&call.receive("dead", 10).await.unwrap()), ["c"]);
    });
}

#[test]
fn redrive_that_asks_wrongly_is_told_why() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        let to = |target: &str| RedriveRequest {
            target_queue: target.to_owned(),
            ..from("dead")
        };
        let filtered = RedriveRequest {
            filter: "a=b".to_owned(),
            ..from("dead")
        };
        let cases = [
            (from("nowhere"), "NotFound QUEUE_NOT_FOUND"),
            (to("nowhere"), "NotFound QUEUE_NOT_FOUND"),
            (to("dead"), "InvalidArgument BAD_ARGUMENT"),
            (filtered, "Unimplemented UNSUPPORTED_FEATURE"),
        ];
        for (wrong, expected) in cases {
            assert_eq!(redrive(&call, wrong).await, Err(expected.to_owned()));
        }
    });
}
