//! Brokers on three nodes: publish, consume, settle, through any node, across the death of a leader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Cluster, NODES, confirmed, consumer, item};
use warren_shard::api::{AnswerTime, RequestToken, SessionEvent, SettleAction, SettleSpec, Target};
use warren_shard::{Held, Session, SettleReason, SettleResult};

/// Consumes and acks until `count` different bodies were seen; returns `body -> (deliveries, first ones not flagged redelivered)`.
async fn consume(
    session: &Session,
    target: Target,
    prefetch: u64,
    count: usize,
) -> BTreeMap<u64, (u32, u32)> {
    session.attach(consumer(target, prefetch)).await.unwrap();
    let mut seen: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    let mut unsettled = 0;
    let mut token = 1_000_000;
    while seen.len() < count || unsettled > 0 {
        let waited = tokio::time::timeout(Duration::from_secs(30), session.events()).await;
        let events = waited
            .unwrap_or_else(|_| panic!("{} of {count} came, {unsettled} unsettled", seen.len()))
            .unwrap();
        for event in events {
            match event {
                SessionEvent::Deliveries { deliveries, .. } => {
                    let items = deliveries
                        .iter()
                        .map(|it| Held {
                            position: it.position,
                            attempt: it.attempt,
                        })
                        .collect();
                    for delivery in &deliveries {
                        let body: u64 = std::str::from_utf8(&delivery.message.body)
                            .unwrap()
                            .parse()
                            .unwrap();
                        let counts = seen.entry(body).or_default();
                        counts.0 += 1;
                        counts.1 += u32::from(!delivery.redelivered);
                    }
                    token += 1;
                    unsettled += 1;
                    let spec = SettleSpec {
                        target,
                        items,
                        action: SettleAction::Settle(SettleReason::Acked),
                        answer: AnswerTime::AtOnce,
                        outputs: Vec::new(),
                        said: None,
                    };
                    session.settle(spec, RequestToken(token)).await.unwrap();
                }
                SessionEvent::Settled { results, .. } => {
                    unsettled -= 1;
                    assert!(
                        results.iter().all(|it| *it == SettleResult::Done),
                        "{results:?}"
                    );
                }
                SessionEvent::Published(_)
                | SessionEvent::Attached { .. }
                | SessionEvent::Recalled { .. }
                | SessionEvent::Waiting { .. }
                | SessionEvent::Cancelled { .. }
                | SessionEvent::Forget { .. }
                | SessionEvent::Purged { .. }
                | SessionEvent::LeaderMoved { .. } => {}
            }
        }
    }
    seen
}

#[test]
fn messages_published_on_one_node_are_consumed_on_others() {
    let cluster = Cluster::start(4);
    let target = cluster.declare("orders");
    let publisher = cluster.node(1);
    let session = publisher.broker.session();
    publisher.runtime.block_on(async {
        for batch in 0..20 {
            let items = (batch * 50..batch * 50 + 50)
                .map(|number| item(target, number))
                .collect();
            session.publish(target.shard, items, None).await.unwrap();
        }
        confirmed(&session, 1_000).await;
    });
    for id in 1..=NODES {
        let node = cluster.node(id);
        let stats = node
            .runtime
            .block_on(node.broker.queue_stats(target))
            .unwrap()
            .unwrap();
        assert_eq!((stats.ready, stats.enqueued), (1_000, 1_000));
    }
    let node = cluster.node(3);
    let session = node.broker.session();
    let seen = node.runtime.block_on(consume(&session, target, 1, 1_000));
    assert!(seen.values().all(|counts| *counts == (1, 1)));
    let stats = node
        .runtime
        .block_on(node.broker.queue_stats(target))
        .unwrap()
        .unwrap();
    assert_eq!((stats.ready, stats.unacked, stats.settled), (0, 0, 1_000));
}

#[test]
fn leader_killed_under_load_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(2);
    let target = cluster.declare("orders");
    let leader = cluster.leader(target);
    let others: Vec<u64> = (1..=NODES).filter(|id| *id != leader).collect();
    let (from, to) = (cluster.node(others[0]), cluster.node(others[1]));
    let publishing = {
        let session = from.broker.session();
        from.runtime.spawn(async move {
            for number in 0..3_000u64 {
                session
                    .publish(target.shard, vec![item(target, number)], None)
                    .await
                    .unwrap();
                if number % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            confirmed(&session, 3_000).await;
        })
    };
    let consuming = {
        let session = to.broker.session();
        to.runtime
            .spawn(async move { consume(&session, target, 20, 3_000).await })
    };
    std::thread::sleep(Duration::from_millis(250));
    cluster.kill(leader);
    let (from, to) = (cluster.node(others[0]), cluster.node(others[1]));
    from.runtime.block_on(publishing).unwrap();
    let seen = to.runtime.block_on(consuming).unwrap();
    assert_eq!(seen.len(), 3_000);
    for (body, (_, first)) in &seen {
        assert!(
            *first <= 1,
            "{body} was delivered {first} times without the redelivered flag"
        );
    }
    cluster.start_node(leader, false);
    cluster.eventually("the node is back", |it| it.node(leader).broker.is_ready());
}
