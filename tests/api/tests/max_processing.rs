//! How long a client may hold a delivery on a stream (features B51, A26): it returns, counted as failed; the client gets no other in its
//! place before it has settled it; extending gives more time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use bytes::Bytes;
use warren_api::{Call, Consuming, FIRST, message, one_node, queue_batch, runtime};
use warren_proto::admin_v1;
use warren_proto::v1::consume_request::Frame;
use warren_proto::v1::settlement::{Action, Target};
use warren_proto::v1::{self, SettleOutcome};
use warren_testkit::process::{Cluster, Options};

fn open(prefetch: u32, max_processing_ms: Option<i32>) -> v1::ConsumeOpen {
    v1::ConsumeOpen {
        queue: "orders".to_owned(),
        prefetch,
        max_processing: max_processing_ms.map(|ms| prost_types::Duration {
            seconds: i64::from(ms / 1_000),
            nanos: ms % 1_000 * 1_000_000,
        }),
        ..v1::ConsumeOpen::default()
    }
}

async fn settle(stream: &mut Consuming, tag: u64, action: Action) -> v1::SettleResults {
    let settlement = v1::Settlement {
        target: Some(Target::DeliveryTag(tag)),
        action: Some(action),
        ..v1::Settlement::default()
    };
    let batch = v1::SettleBatch {
        settle_ref: tag,
        settlements: vec![settlement],
    };
    stream.send(Frame::Settle(batch)).await;
    stream.settled(tag).await
}

const ACK: Action = Action::Ack(v1::Ack {});

fn body(delivery: &v1::Delivery) -> Bytes {
    delivery.message.as_ref().unwrap().body.clone()
}

/// The only delivery is held too long: another consumer gets it, counted, and its first holder gets nothing before it has settled it.
async fn is_returned(call: &Call, first: v1::ConsumeOpen) {
    call.fill("orders", &["a"]).await;
    let (mut slow, _) = Consuming::open(call, first).await;
    let held = slow.deliveries(1).await;
    assert!(held[0].lease_until.is_some());
    let (mut quick, _) = Consuming::open(call, open(1, None)).await;
    let again = quick.deliveries(1).await;
    assert_eq!(body(&again[0]), body(&held[0]));
    assert!(again[0].redelivered);
    assert_eq!(again[0].delivery_count, 1);
    // The quick one holds it; what comes now waits for the slow one, which may not have it.
    call.fill("orders", &["b"]).await;
    let late = settle(&mut slow, 1, ACK).await;
    assert_eq!(late.results[0].outcome(), SettleOutcome::Expired);
    let next = slow.deliveries(1).await;
    assert_eq!(body(&next[0]), "b");
    assert_eq!(next[0].delivery_tag, 2);
    let done = settle(&mut quick, 1, ACK).await;
    assert_eq!((done.all_done, done.results.len()), (true, 0));
}

#[test]
fn delivery_held_too_long_goes_to_another_consumer_and_its_settle_is_late() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        is_returned(&call, open(1, Some(200))).await;
    });
}

/// Features B51: `limits.consumer_timeout`.
#[test]
fn node_says_how_long_where_neither_consumer_nor_queue_does() {
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    cluster.set_environment(FIRST, "WARREN_LIMITS_CONSUMER_TIMEOUT", "1s");
    cluster.restart(FIRST).unwrap();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        is_returned(&call, open(1, None)).await;
    });
}

#[test]
fn queue_says_how_long_where_the_consumer_does_not() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let timeout = v1::Value {
            kind: Some(v1::value::Kind::IntValue(200)),
            amqp_type: 0,
        };
        let fields = BTreeMap::from([("x-consumer-timeout".to_owned(), timeout)]);
        let queue = admin_v1::Queue {
            name: "orders".to_owned(),
            durable: true,
            arguments: Some(v1::Table { fields }),
            ..admin_v1::Queue::default()
        };
        let request = admin_v1::CreateQueueRequest {
            queue: Some(queue),
            ..admin_v1::CreateQueueRequest::default()
        };
        call.topology().create_queue(request).await.unwrap();
        call.publish(queue_batch("orders", [message("a")]))
            .await
            .unwrap();
        let (mut slow, _) = Consuming::open(&call, open(1, None)).await;
        assert_eq!(slow.deliveries(1).await.len(), 1);
        // A consumer may ask for longer.
        let (mut patient, _) = Consuming::open(&call, open(1, Some(3_600_000))).await;
        let again = patient.deliveries(1).await;
        assert_eq!(again[0].delivery_count, 1);
        let late = settle(&mut slow, 1, ACK).await;
        assert_eq!(late.results[0].outcome(), SettleOutcome::Expired);
        let done = settle(&mut patient, 1, ACK).await;
        assert!(done.all_done && done.results.is_empty());
    });
}

#[test]
fn extended_delivery_stays_while_another_returns() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a", "b"]).await;
        let (mut stream, _) = Consuming::open(&call, open(2, Some(1_000))).await;
        assert_eq!(stream.deliveries(2).await.len(), 2);
        let hour = prost_types::Duration {
            seconds: 3_600,
            nanos: 0,
        };
        let extend = Action::Extend(v1::Extend { by: Some(hour) });
        let extended = settle(&mut stream, 1, extend).await;
        assert_eq!(extended.results[0].outcome(), SettleOutcome::Done);
        let (mut other, _) = Consuming::open(&call, open(2, None)).await;
        let back = other.deliveries(1).await;
        assert_eq!(body(&back[0]), "b");
        let done = settle(&mut stream, 1, ACK).await;
        assert!(done.all_done && done.results.is_empty(), "{done:?}");
    });
}

#[test]
fn time_that_is_none_is_refused() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let ended = Consuming::refused(&call, open(1, Some(0))).await;
        assert_eq!(ended.as_deref(), Some("InvalidArgument BAD_ARGUMENT"));
    });
}
