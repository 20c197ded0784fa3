//! Dead letters on three nodes, from a queue of one shard to a queue of another: each arrives once, across the death of either leader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Cluster, confirmed, consumer, item};
use warren_shard::api::{
    AnswerTime, Delivery, QueueStats, RequestToken, SessionEvent, SettleAction, SettleSpec, Target,
};
use warren_shard::{Held, Session, SettleReason};
use warren_types::Table;

const MESSAGES: u64 = 300;

/// Takes until `count` different bodies were seen and everything is answered, and settles all for one reason.
async fn take(
    session: &Session,
    target: Target,
    count: usize,
    reason: SettleReason,
) -> BTreeMap<u64, Vec<Delivery>> {
    session.attach(consumer(target, 20)).await.unwrap();
    let mut seen: BTreeMap<u64, Vec<Delivery>> = BTreeMap::new();
    let (mut unanswered, mut token) = (0, 1_000_000);
    while seen.len() < count || unanswered > 0 {
        let waited = tokio::time::timeout(Duration::from_secs(60), session.events()).await;
        let events = waited
            .unwrap_or_else(|_| panic!("{} of {count} came, {unanswered} unanswered", seen.len()))
            .unwrap();
        for event in events {
            if let SessionEvent::Deliveries { deliveries, .. } = event {
                let held = |it: &Delivery| Held {
                    position: it.position,
                    attempt: it.attempt,
                };
                let items = deliveries.iter().map(held).collect();
                for delivery in deliveries {
                    let body = std::str::from_utf8(&delivery.message.body).unwrap();
                    seen.entry(body.parse().unwrap())
                        .or_default()
                        .push(delivery);
                }
                token += 1;
                unanswered += 1;
                let action = SettleAction::Settle(reason);
                let spec = SettleSpec {
                    target,
                    items,
                    action,
                    answer: AnswerTime::Soon,
                };
                session.settle(spec, RequestToken(token)).await.unwrap();
            } else if let SessionEvent::Settled { .. } = event {
                unanswered -= 1;
            }
        }
    }
    seen
}

fn stats(cluster: &Cluster, id: u64, target: Target) -> QueueStats {
    let node = cluster.node(id);
    let stats = node.runtime.block_on(node.broker.queue_stats(target));
    stats.ok().flatten().unwrap_or_default()
}

/// A queue and the one its dead letters go to, in different shards.
fn queues(cluster: &Cluster) -> (Target, Target) {
    let dead = cluster.declare("dead");
    let arguments = Table::new()
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", "dead");
    let orders = cluster.declare_with("orders", arguments);
    assert_ne!(
        dead.shard, orders.shard,
        "the way leads from shard to shard"
    );
    (orders, dead)
}

fn publish(cluster: &Cluster, id: u64, target: Target) {
    let node = cluster.node(id);
    let session = node.broker.session();
    node.runtime.block_on(async {
        let items = (0..MESSAGES).map(|number| item(target, number)).collect();
        session.publish(target.shard, items, None).await.unwrap();
        confirmed(&session, MESSAGES as usize).await;
    });
}

fn all_arrived(cluster: &Cluster, id: u64, dead: Target) -> BTreeMap<u64, Vec<Delivery>> {
    let node = cluster.node(id);
    let session = node.broker.session();
    let there = node
        .runtime
        .block_on(take(&session, dead, MESSAGES as usize, SettleReason::Acked));
    assert_eq!(
        stats(cluster, id, dead).enqueued,
        MESSAGES,
        "each arrives once"
    );
    there
}

#[test]
fn rejected_messages_arrive_in_the_dead_letter_queue_of_another_shard_with_their_story() {
    let cluster = Cluster::start(4);
    let (orders, dead) = queues(&cluster);
    publish(&cluster, 1, orders);
    let node = cluster.node(2);
    let session = node.broker.session();
    node.runtime.block_on(take(
        &session,
        orders,
        MESSAGES as usize,
        SettleReason::Rejected,
    ));
    let left = stats(&cluster, 1, orders);
    assert_eq!((left.ready, left.unacked, left.settled), (0, 0, MESSAGES));
    for (_, deliveries) in all_arrived(&cluster, 3, dead) {
        assert_eq!(deliveries.len(), 1);
        assert!(!deliveries[0].redelivered);
        let headers = deliveries[0].message.properties.headers().unwrap();
        let deaths = headers.get_array("x-death").unwrap();
        let death = deaths[0].as_table().unwrap();
        assert_eq!(death.get_str("queue"), Some("orders"));
        assert_eq!(death.get_str("reason"), Some("rejected"));
        assert_eq!(death.get_int("count"), Some(1));
        assert_eq!(headers.get_str("x-first-death-queue"), Some("orders"));
    }
}

/// Kills the leader of one of the two shards while messages are rejected.
fn killed_under_way(whose: impl Fn(Target, Target) -> Target) {
    let mut cluster = Cluster::start(4);
    let (orders, dead) = queues(&cluster);
    publish(&cluster, 1, orders);
    let victim = cluster.leader(whose(orders, dead));
    let witness = (1..=3).find(|it| *it != victim).unwrap();
    let node = cluster.node(witness);
    let (broker, handle) = (node.broker.clone(), node.runtime.handle().clone());
    let rejecting = std::thread::spawn(move || {
        let session = broker.session();
        handle.block_on(take(
            &session,
            orders,
            MESSAGES as usize,
            SettleReason::Rejected,
        ))
    });
    cluster.eventually("some are on their way", |it| {
        stats(it, witness, dead).enqueued > 0
    });
    cluster.kill(victim);
    rejecting.join().unwrap();
    cluster.eventually("all have left", |it| {
        let left = stats(it, witness, orders);
        left.settled == MESSAGES && left.unacked == 0
    });
    let there = all_arrived(&cluster, witness, dead);
    let first = |it: &Vec<Delivery>| it.iter().filter(|it| !it.redelivered).count();
    assert!(there.values().all(|it| first(it) <= 1));
}

#[test]
fn dead_letters_survive_the_death_of_the_source_leader_without_loss_or_copies() {
    killed_under_way(|orders, _| orders);
}

#[test]
fn dead_letters_survive_the_death_of_the_target_leader_without_loss_or_copies() {
    killed_under_way(|_, dead| dead);
}
