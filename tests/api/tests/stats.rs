//! What queues say of themselves: each message is counted once, in a state or under the reason it left for (guarantee G21, features X1,
//! B52); changes are told to who watches, from any node; what a consumer sets aside stays (features B49).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use warren_api::{Call, FIRST, message, number, queue_batch, reason_of, runtime, text};
use warren_proto::admin_v1::{self, QueueStats, WatchQueueStatsRequest};
use warren_proto::v1::{self, settlement::Action};
use warren_testkit::process::{Cluster, NodeNumber, Options};

fn cluster(nodes: usize) -> Cluster {
    Cluster::start(Options {
        nodes,
        ..Options::default()
    })
    .unwrap()
}

/// Everything that is there, and everything that left.
fn sums(it: &QueueStats) -> (u64, u64) {
    let there = [
        it.ready,
        it.unacked,
        it.scheduled,
        it.delayed,
        it.parked,
        it.dead_lettering,
    ];
    let left = [
        it.acked_total,
        it.rejected_total,
        it.expired_total,
        it.dropped_total,
        it.dead_lettered_total,
        it.purged_total,
    ];
    (there.iter().sum(), left.iter().sum())
}

async fn until(call: &Call, queue: &str, is: impl Fn(&QueueStats) -> bool) -> QueueStats {
    loop {
        let stats = call.stats(queue).await;
        if is(&stats) {
            return stats;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn ack() -> Action {
    Action::Ack(v1::Ack {})
}

fn reject(park: bool) -> Action {
    Action::Reject(v1::Reject {
        park,
        ..v1::Reject::default()
    })
}

async fn purge(call: &Call, queue: &str) -> u64 {
    let request = admin_v1::PurgeQueueRequest {
        queue: queue.to_owned(),
        ..admin_v1::PurgeQueueRequest::default()
    };
    let answer = call.topology().purge_queue(request).await.unwrap();
    answer.into_inner().messages
}

#[test]
fn stats_count_each_message_once_where_it_is_or_why_it_left() {
    let cluster = cluster(1);
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        call.declare_with("limited", &[("x-max-length", number(5))])
            .await;
        call.fill("limited", &["1", "2", "3", "4", "5", "6", "7"])
            .await;
        let stats = until(&call, "limited", |it| it.dropped_total == 2).await;
        assert_eq!((stats.ready, stats.acked_total), (5, 0));

        call.settle(call.take("limited", 1).await, ack()).await;
        call.settle(call.take("limited", 1).await, reject(false))
            .await;
        let held = call.take("limited", 1).await;
        assert_eq!(purge(&call, "limited").await, 2);
        let mut short = message("short");
        short.ttl = Some(prost_types::Duration {
            seconds: 0,
            nanos: 1_000_000,
        });
        call.publish(queue_batch("limited", [short])).await.unwrap();
        let stats = until(&call, "limited", |it| it.expired_total == 1).await;
        let left = (
            stats.rejected_total,
            stats.purged_total,
            stats.dropped_total,
        );
        assert_eq!((stats.acked_total, left), (1, (1, 2, 2)));
        assert_eq!((stats.delivered_total, stats.redelivered_total), (3, 0));
        assert_eq!((stats.unacked, stats.ready), (1, 0));
        assert_eq!(sums(&stats), (1, 7));
        assert_eq!(stats.published_total, 8);
        assert_eq!(stats.otherwise_settled_total, 6);
        assert_eq!(stats.oldest_ready_age, None, "nothing is ready");
        call.settle(held, ack()).await;

        let away = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        call.declare_with("orders", &away).await;
        call.fill("orders", &["a", "b"]).await;
        call.settle(call.take("orders", 1).await, reject(false))
            .await;
        let stats = call.stats("orders").await;
        assert_eq!((stats.dead_lettered_total, stats.rejected_total), (1, 0));
        assert_eq!(sums(&stats), (1, 1));
    });
}

#[test]
fn stats_tell_priorities_apart_and_how_long_the_oldest_has_waited() {
    let cluster = cluster(1);
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let with = |priority: u32| v1::Message {
            properties: Some(v1::Properties {
                priority: Some(priority),
                ..v1::Properties::default()
            }),
            ..message("m")
        };
        call.publish(queue_batch("orders", [with(9), with(1)]))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        call.publish(queue_batch("orders", [with(1), with(1), with(40)]))
            .await
            .unwrap();
        let age = |it: &QueueStats| Duration::try_from(it.oldest_ready_age.unwrap()).unwrap();
        let stats = call.stats("orders").await;
        let told = stats.priorities.iter();
        let told: Vec<_> = told.map(|it| (it.priority, it.messages)).collect();
        assert_eq!(told, [(31, 1), (9, 1), (1, 3)]);
        let oldest = age(&stats);
        assert!(oldest >= Duration::from_millis(300), "{oldest:?}");

        // The one of 31, of 9 and the first of 1 are taken: the oldest ready one is a later one.
        let taken = call.take("orders", 3).await;
        let stats = call.stats("orders").await;
        assert_eq!((stats.ready, stats.unacked), (2, 3));
        let ms = |it: &Option<prost_types::Timestamp>| {
            let it = it.as_ref().unwrap();
            it.seconds * 1_000 + i64::from(it.nanos) / 1_000_000
        };
        let came = ms(&stats.taken_at) - i64::try_from(age(&stats).as_millis()).unwrap();
        let first = ms(&taken[2].enqueued_at);
        assert!(came >= first + 300, "{came} {first}");
    });
}

#[test]
fn watch_tells_changes_from_any_node() {
    let cluster = cluster(3);
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        for node in 1..=3 {
            let watching = Call::to(&cluster.grpc_address(NodeNumber(node)));
            let request = WatchQueueStatsRequest {
                queues: vec!["orders".to_owned(), "nowhere".to_owned()],
                interval: Some(prost_types::Duration {
                    seconds: 0,
                    nanos: 100_000_000,
                }),
                ..WatchQueueStatsRequest::default()
            };
            let asked = watching.topology().watch_queue_stats(request).await;
            let mut rounds = asked.unwrap().into_inner();
            let first = rounds.message().await.unwrap().unwrap();
            assert_eq!(first.unknown, ["nowhere"]);
            let before = first.stats[0].published_total;
            call.fill("orders", &["one more"]).await;
            loop {
                let round = rounds.message().await.unwrap().unwrap();
                let news = round.stats.iter().find(|it| it.queue == "orders");
                if news.is_some_and(|it| it.published_total == before + 1) {
                    break;
                }
            }
        }
    });
}

#[test]
fn watches_beyond_the_limit_are_refused_until_one_ends() {
    let cluster = cluster(1);
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let mut open = Vec::new();
        let refused = loop {
            let request = WatchQueueStatsRequest::default();
            match call.topology().watch_queue_stats(request).await {
                Ok(rounds) => open.push(rounds.into_inner()),
                Err(refused) => break refused,
            }
        };
        assert_eq!(reason_of(&refused), "ResourceExhausted LIMIT_REACHED");
        assert_eq!(open.len(), 64);
        open.pop();
        loop {
            let request = WatchQueueStatsRequest::default();
            if call.topology().watch_queue_stats(request).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn reject_with_park_sets_a_message_aside() {
    let cluster = cluster(1);
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("dead").await.unwrap();
        let away = [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        call.declare_with("orders", &away).await;
        call.fill("orders", &["odd", "fine"]).await;
        let taken = call.take("orders", 1).await;
        call.settle(taken.clone(), reject(true)).await;
        let stats = call.stats("orders").await;
        assert_eq!((stats.parked, stats.ready, stats.unacked), (1, 1, 0));
        assert_eq!(sums(&stats), (2, 0));
        let request = admin_v1::ListParkedRequest {
            queue: "orders".to_owned(),
            ..admin_v1::ListParkedRequest::default()
        };
        let listed = call.dead_letters().list_parked(request).await.unwrap();
        let parked = listed.into_inner().parked;
        assert_eq!((parked.len(), parked[0].cause.as_str()), (1, "rejected"));
        let body = |it: &v1::Delivery| it.message.as_ref().unwrap().body.clone();
        assert_eq!(body(parked[0].delivery.as_ref().unwrap()), "odd");
        // It is nobody's: not handed out, not to be settled again, and not dead-lettered.
        let next = call.receive("orders", 10).await.unwrap();
        assert_eq!(next.iter().map(body).collect::<Vec<_>>(), ["fine"]);
        let again = call.ack(vec![taken[0].receipt.clone()]).await.unwrap();
        assert_ne!(again[0].outcome(), v1::SettleOutcome::Done);
        assert_eq!(call.stats("dead").await.published_total, 0);
    });
}
