//! Dead letters on three nodes, from a queue of one shard to a queue of another: each arrives once, across the death of either leader.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Cluster, confirmed, consumer, item};
use warren_shard::api::{
    AnswerTime, Delivery, PublishOutcome, QueueStats, RequestToken, ReturnWait, SessionEvent,
    SettleAction, SettleSpec, Target,
};
use warren_shard::{Held, Look, Redrive, RedriveOf, RedriveTo, ReturnKind, Session, SettleReason};
use warren_types::{NotStored, Position, Table};

const MESSAGES: u64 = 300;

/// Takes until `count` different bodies were seen and everything is answered, and settles all for one reason.
async fn take(
    session: &Session,
    target: Target,
    count: usize,
    reason: SettleReason,
) -> BTreeMap<u64, Vec<Delivery>> {
    take_and(session, target, count, SettleAction::Settle(reason)).await
}

/// As [`take`], whatever is to become of them.
async fn take_and(
    session: &Session,
    target: Target,
    count: usize,
    action: SettleAction,
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
                let spec = SettleSpec {
                    target,
                    items,
                    action,
                    answer: AnswerTime::Soon,
                    outputs: Vec::new(),
                    said: None,
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

fn look(from: Position, max: usize) -> Look {
    Look {
        from,
        max,
        filter: None,
    }
}

/// Sends everything from one queue to another, page after page, whoever leads.
fn redriven(cluster: &Cluster, id: u64, from: Target, to: Target) {
    let node = cluster.node(id);
    let wish = Redrive {
        of: RedriveOf::Ready,
        to: RedriveTo::Queue(to.queue),
        dry_run: false,
    };
    let mut at = Position(0);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while stats(cluster, id, from).settled < MESSAGES {
        assert!(std::time::Instant::now() < deadline, "not all have left");
        let asked = node.broker.redrive(from, look(at, 20), wish.clone());
        // Without an answer, and at the end, it begins again: what came back is found there.
        let step = node.runtime.block_on(asked).ok().flatten();
        at = step.and_then(|it| it.next).unwrap_or(Position(0));
    }
}

/// Kills the leader of one of the two shards while messages are sent from one to the other.
fn redriven_while_killed(whose: impl Fn(Target, Target) -> Target) {
    let mut cluster = Cluster::start(4);
    let (orders, dead) = queues(&cluster);
    publish(&cluster, 1, dead);
    let victim = cluster.leader(whose(orders, dead));
    let witness = (1..=3).find(|it| *it != victim).unwrap();
    let node = cluster.node(witness);
    let (broker, handle) = (node.broker.clone(), node.runtime.handle().clone());
    let wish = Redrive {
        of: RedriveOf::Ready,
        to: RedriveTo::Queue(orders.queue),
        dry_run: false,
    };
    let step = handle.block_on(broker.redrive(dead, look(Position(0), 50), wish));
    assert_eq!(step.unwrap().unwrap().moved, 50);
    cluster.kill(victim);
    redriven(&cluster, witness, dead, orders);
    let left = stats(&cluster, witness, dead);
    assert_eq!((left.ready, left.unacked), (0, 0));
    let there = stats(&cluster, witness, orders);
    assert_eq!(there.enqueued, MESSAGES, "each is stored once");
    let session = cluster.node(witness).broker.session();
    let taken = take(&session, orders, MESSAGES as usize, SettleReason::Acked);
    let taken = cluster.node(witness).runtime.block_on(taken);
    assert!(taken.values().all(|it| it.len() == 1));
}

#[test]
fn redrive_survives_the_death_of_the_source_leader_without_loss_or_copies() {
    redriven_while_killed(|_, dead| dead);
}

#[test]
fn redrive_survives_the_death_of_the_target_leader_without_loss_or_copies() {
    redriven_while_killed(|orders, _| orders);
}

/// A consumer takes what it gets from the queue meanwhile: each message is its, or arrives elsewhere, never both.
#[test]
fn redrive_beside_a_consumer_gives_each_message_to_one_of_them() {
    let cluster = Cluster::start(4);
    let (orders, dead) = queues(&cluster);
    publish(&cluster, 1, dead);
    let node = cluster.node(2);
    let (broker, handle) = (node.broker.clone(), node.runtime.handle().clone());
    let taking = std::thread::spawn(move || {
        let session = broker.session();
        handle.block_on(take(&session, dead, 1, SettleReason::Acked))
    });
    // Else all may have gone before it comes, or before its credit does.
    while stats(&cluster, 1, dead).ready == MESSAGES {
        std::thread::yield_now();
    }
    redriven(&cluster, 1, dead, orders);
    let taken = taking.join().unwrap();
    let count: usize = taken.values().map(Vec::len).sum();
    let there = stats(&cluster, 1, orders);
    assert_eq!(there.enqueued, MESSAGES - count as u64);
    let session = node.broker.session();
    let all = take(
        &session,
        orders,
        MESSAGES as usize - count,
        SettleReason::Acked,
    );
    let moved = node.runtime.block_on(all);
    assert!(moved.keys().all(|it| !taken.contains_key(it)));
}

/// A queue that has room for so many, and the one that gets what it refuses, in different shards.
fn limited(cluster: &Cluster, room: i32) -> (Target, Target) {
    let dead = cluster.declare("dead");
    let arguments = Table::new()
        .with("x-max-length", room)
        .with("x-overflow", "reject-publish-dlx")
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", "dead");
    let limited = cluster.declare_with("limited", arguments);
    assert_ne!(dead.shard, limited.shard);
    (limited, dead)
}

/// Publishes all messages to a queue; answers which were stored, and which refused.
async fn outcomes(session: &Session, target: Target) -> (Vec<u64>, Vec<u64>) {
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    let items = (0..MESSAGES).map(|number| item(target, number)).collect();
    session.publish(target.shard, items, None).await.unwrap();
    while stored.len() + refused.len() < MESSAGES as usize {
        let waited = tokio::time::timeout(Duration::from_secs(60), session.events()).await;
        for event in waited.unwrap().unwrap() {
            let SessionEvent::Published(answers) = event else {
                continue;
            };
            for (token, outcome) in answers {
                match outcome {
                    PublishOutcome::Stored => stored.push(token.0),
                    PublishOutcome::NotStored(NotStored::QueueFull) => refused.push(token.0),
                    PublishOutcome::Scheduled(_)
                    | PublishOutcome::NotStored(_)
                    | PublishOutcome::NotStarted(_)
                    | PublishOutcome::Unknown => panic!("{token:?}: {outcome:?}"),
                }
            }
        }
    }
    (stored, refused)
}

#[test]
fn publishes_refused_by_a_full_queue_are_dead_lettered_before_their_publisher_is_told() {
    let cluster = Cluster::start(4);
    let (limited, dead) = limited(&cluster, 100);
    let node = cluster.node(1);
    let session = node.broker.session();
    let (stored, refused) = node.runtime.block_on(outcomes(&session, limited));
    assert_eq!((stored.len(), refused.len()), (100, 200));
    assert_eq!(stats(&cluster, 2, limited).ready, 100);
    assert_eq!(
        stats(&cluster, 2, dead).enqueued,
        200,
        "all are there by now"
    );
    let there = take(&session, dead, 200, SettleReason::Acked);
    for (_, deliveries) in node.runtime.block_on(there) {
        assert_eq!(deliveries.len(), 1);
        let headers = deliveries[0].message.properties.headers().unwrap();
        let deaths = headers.get_array("x-death").unwrap();
        let death = deaths[0].as_table().unwrap();
        assert_eq!(death.get_str("queue"), Some("limited"));
        assert_eq!(death.get_str("reason"), Some("maxlen"));
    }
}

#[test]
fn publishes_refused_by_a_full_queue_go_on_when_their_publisher_has_gone() {
    let cluster = Cluster::start(4);
    let (limited, dead) = limited(&cluster, 100);
    let node = cluster.node(1);
    let session = node.broker.session();
    let items = (0..MESSAGES).map(|number| item(limited, number)).collect();
    let published = session.publish(limited.shard, items, None);
    node.runtime.block_on(published).unwrap();
    drop(session);
    cluster.eventually("what was refused is there", |it| {
        stats(it, 2, dead).enqueued == 200
    });
    assert_eq!(stats(&cluster, 2, limited).ready, 100);
}

#[test]
fn publishes_refused_while_a_leader_dies_are_dead_lettered_once() {
    for whose in [|limited, _| limited, |_, dead| dead] as [fn(Target, Target) -> Target; 2] {
        let mut cluster = Cluster::start(4);
        let (limited, dead) = limited(&cluster, 100);
        let victim = cluster.leader(whose(limited, dead));
        let witness = (1..=3).find(|it| *it != victim).unwrap();
        let node = cluster.node(witness);
        let (broker, handle) = (node.broker.clone(), node.runtime.handle().clone());
        let publishing = std::thread::spawn(move || {
            let session = broker.session();
            handle.block_on(outcomes(&session, limited))
        });
        cluster.kill(victim);
        let (stored, refused) = publishing.join().unwrap();
        assert_eq!((stored.len(), refused.len()), (100, 200));
        assert_eq!(stats(&cluster, witness, limited).enqueued, 100);
        assert_eq!(stats(&cluster, witness, dead).enqueued, 200);
    }
}

/// What is set aside goes back to the end of its own queue, while the leader dies.
#[test]
fn redrive_of_what_is_parked_survives_the_death_of_the_leader_without_loss_or_copies() {
    let mut cluster = Cluster::start(4);
    let (_, queue) = queues(&cluster);
    publish(&cluster, 1, queue);
    let victim = cluster.leader(queue);
    let witness = (1..=3).find(|it| *it != victim).unwrap();
    let node = cluster.node(witness);
    let session = node.broker.session();
    let park = SettleAction::Return {
        kind: ReturnKind::Untouched,
        wait: ReturnWait::Parked,
    };
    let parking = take_and(&session, queue, MESSAGES as usize, park);
    node.runtime.block_on(parking);
    drop(session);
    assert_eq!(stats(&cluster, witness, queue).parked, MESSAGES);
    let wish = Redrive {
        of: RedriveOf::Parked,
        to: RedriveTo::Queue(queue.queue),
        dry_run: false,
    };
    let step = node
        .broker
        .redrive(queue, look(Position(0), 50), wish.clone());
    assert_eq!(node.runtime.block_on(step).unwrap().unwrap().moved, 50);
    cluster.kill(victim);
    let at = std::cell::Cell::new(Position(0));
    cluster.eventually("nothing is parked any more", |it| {
        let node = it.node(witness);
        let asked = node.broker.redrive(queue, look(at.get(), 20), wish.clone());
        let step = node.runtime.block_on(asked).ok().flatten();
        at.set(step.and_then(|it| it.next).unwrap_or(Position(0)));
        let left = stats(it, witness, queue);
        left.settled == MESSAGES && left.parked == 0
    });
    let there = stats(&cluster, witness, queue);
    assert_eq!((there.enqueued, there.ready), (2 * MESSAGES, MESSAGES));
    let session = cluster.node(witness).broker.session();
    let taken = take(&session, queue, MESSAGES as usize, SettleReason::Acked);
    let taken = cluster.node(witness).runtime.block_on(taken);
    assert!(taken.values().all(|it| it.len() == 1 && !it[0].redelivered));
}
