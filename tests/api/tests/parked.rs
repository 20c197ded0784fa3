//! `x-parked-max-length`: the oldest parked messages give way, and are counted (features B49).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use warren_api::{Call, FIRST, number, one_node, runtime};
use warren_proto::admin_v1::QueueStats;
use warren_proto::v1;
use warren_testkit::process::Cluster;

/// Takes the next message and sets it aside.
async fn park(call: &Call, queue: &str) {
    let taken = call.take(queue, 1).await;
    let action = v1::settlement::Action::Reject(v1::Reject {
        park: true,
        ..v1::Reject::default()
    });
    call.settle(taken, action).await;
}

async fn parked(call: &Call, queue: &str) -> Vec<String> {
    let request = v1::PeekRequest {
        queue: queue.to_owned(),
        states: vec![v1::MessageState::Parked.into()],
        ..v1::PeekRequest::default()
    };
    let mut pages = call.messaging().peek(request).await.unwrap().into_inner();
    let mut bodies = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        for it in page.messages {
            let body = it.delivery.unwrap().message.unwrap().body;
            bodies.push(String::from_utf8(body.to_vec()).unwrap());
        }
    }
    bodies
}

/// A policy that lets any queue keep so many, and waits until `orders` does.
async fn allow_parked(cluster: &Cluster, call: &Call, most: u64) {
    let define = format!("parked-max-length={most}");
    let policy = ["policy", "set", "few", "", "--define", &define];
    cluster.run(&policy).unwrap();
    while call.stats("orders").await.parked > most {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn counts(stats: &QueueStats) -> (u64, u64, u64) {
    (stats.ready, stats.parked, stats.dropped_total)
}

#[test]
fn parked_messages_beyond_the_limit_push_the_oldest_out() {
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let limit = [("x-parked-max-length", number(2))];
        call.declare_with("orders", &limit).await;
        call.fill("orders", &["a", "b", "c", "d"]).await;
        for (gone, kept) in [("a", 1), ("b", 2), ("c", 2)] {
            park(&call, "orders").await;
            let stats = call.stats("orders").await;
            assert_eq!(stats.parked, kept, "after {gone}");
        }
        assert_eq!(parked(&call, "orders").await, ["b", "c"]);
        assert_eq!(counts(&call.stats("orders").await), (1, 2, 1));
        // A policy that allows less takes hold of what is there.
        allow_parked(&cluster, &call, 1).await;
        assert_eq!(parked(&call, "orders").await, ["c"]);
        assert_eq!(counts(&call.stats("orders").await), (1, 1, 2));
    });
}

/// One command takes at most 4,096 of them away: here two are needed.
#[test]
fn parked_messages_far_beyond_a_new_limit_go_in_several_commands() {
    const MESSAGES: usize = 5_000;
    let cluster = one_node();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let bodies: Vec<String> = (0..MESSAGES).map(|it| it.to_string()).collect();
        for some in bodies.chunks(1_000) {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            call.fill("orders", &some).await;
        }
        let mut left = MESSAGES;
        while left > 0 {
            let taken = call.take("orders", left.min(500)).await;
            left -= taken.len();
            let action = v1::settlement::Action::Reject(v1::Reject {
                park: true,
                ..v1::Reject::default()
            });
            call.settle(taken, action).await;
        }
        assert_eq!(counts(&call.stats("orders").await), (0, 5_000, 0));
        allow_parked(&cluster, &call, 2).await;
        assert_eq!(parked(&call, "orders").await, ["4998", "4999"]);
        assert_eq!(counts(&call.stats("orders").await), (0, 2, 4_998));
    });
}
