//! What counts to the bytes that a vhost may store: messages that are set aside, too (features B49, E2). Not here: the limits of several nodes
//! and of AMQP clients (`tests/cluster`, `limits`), what a publisher is told (`notices`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use warren_api::{Call, FIRST, in_band, message, one_node, queue_batch, runtime};
use warren_proto::{admin_v1, v1};

const FULL: &str = "ResourceExhausted OVER_QUOTA";

/// Publishes until the answer is this: the sums are a second old at most.
async fn until(call: &Call, expected: &str) {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let batch = queue_batch("small", [message("x")]);
        let results = call.publish(batch).await.unwrap();
        let told = match results[0].outcome() {
            v1::PublishOutcome::Refused => in_band(results[0].error.as_ref()),
            outcome @ (v1::PublishOutcome::Unspecified
            | v1::PublishOutcome::Committed
            | v1::PublishOutcome::Duplicate
            | v1::PublishOutcome::Unrouted) => format!("{outcome:?}"),
        };
        if told == expected {
            return;
        }
        assert!(Instant::now() < patience, "{told}, never {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn parked_messages_count_to_the_stored_bytes_of_their_vhost() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        for queue in ["orders", "small"] {
            call.declare(queue).await.unwrap();
        }
        let body = "x".repeat(20_000);
        call.fill("orders", &[body.as_str()]).await;
        let taken = call.take("orders", 1).await;
        let park = v1::settlement::Action::Reject(v1::Reject {
            park: true,
            ..v1::Reject::default()
        });
        call.settle(taken, park).await;
        let stats = call.stats("orders").await;
        assert_eq!((stats.ready, stats.unacked, stats.parked), (0, 0, 1));
        let limit = ["vhost", "set-limits", "/", "--max-bytes", "20000"];
        cluster.run(&limit).unwrap();
        until(&call, FULL).await;
        let purge = admin_v1::PurgeQueueRequest {
            queue: "orders".to_owned(),
            states: vec![v1::MessageState::Parked.into()],
            ..admin_v1::PurgeQueueRequest::default()
        };
        let purged = call.topology().purge_queue(purge).await.unwrap();
        assert_eq!(purged.into_inner().messages, 1);
        until(&call, "Committed").await;
    });
}
