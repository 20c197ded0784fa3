//! Replicas of three nodes are compared while they work: one that has another row is found, set aside and replaced; messages come through
//! as if nothing was. Not here: verdicts and digests (`audit`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::{Cluster, NODES, TestNode, confirmed, consumer, item};
use tokio::task::JoinHandle;
use warren_codec::{encode_key, encode_row};
use warren_queue::rows::{ProducerRow, Row, RowKey};
use warren_shard::api::{AnswerTime, RequestToken, SessionEvent, SettleAction, SettleSpec, Target};
use warren_shard::{Held, ReplicaHealth, Session, SettleReason};
use warren_storage::{RowBatch, Table};
use warren_types::{GroupId, ProducerId, ReplicaId, ShardTime};

const PER_ROUND: u64 = 20;

/// Puts a row into one replica only, past its log.
fn alter(node: &TestNode, target: Target) -> ReplicaId {
    let group = GroupId::from(target.shard);
    let status = node.broker.status();
    let replica = status.iter().find(|it| it.group == group).unwrap().replica;
    let state = node.state(group, replica);
    let key = encode_key(&RowKey::Producer {
        queue: target.queue,
        producer: ProducerId(Bytes::from_static(b"nobody")),
    });
    let row = Row::Producer(ProducerRow {
        seen: ShardTime(1),
        ..ProducerRow::default()
    });
    let value = encode_row(&key, &row);
    let mut batch = RowBatch::default();
    batch.put(Table::Rows, key, value);
    state
        .write(batch, state.meta().unwrap_or_default())
        .unwrap();
    replica
}

/// Publishes round after round until it is told to stop; how many were confirmed.
fn publish(node: &TestNode, target: Target, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (session, stop) = (node.broker.session(), stop.clone());
    node.runtime.spawn(async move {
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            let from = rounds * PER_ROUND;
            let items = (from..from + PER_ROUND).map(|number| item(target, number));
            let items = items.collect();
            session.publish(target.shard, items, None).await.unwrap();
            confirmed(&session, PER_ROUND as usize).await;
            rounds += 1;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        rounds * PER_ROUND
    })
}

/// Takes and acks messages until `done` says that all have been seen.
async fn take(session: Session, target: Target, all: Arc<std::sync::OnceLock<u64>>) {
    session.attach(consumer(target, 10)).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut token = 1_000_000;
    while all.get().is_none_or(|all| (seen.len() as u64) < *all) {
        let wait = std::time::Duration::from_millis(100);
        let Ok(events) = tokio::time::timeout(wait, session.events()).await else {
            continue;
        };
        for event in events.unwrap() {
            let SessionEvent::Deliveries { deliveries, .. } = event else {
                continue;
            };
            let held = |it: &warren_shard::api::Delivery| Held {
                position: it.position,
                attempt: it.attempt,
            };
            let bodies = deliveries.iter().map(|it| it.message.body.clone());
            seen.extend(bodies);
            token += 1;
            let spec = SettleSpec {
                target,
                items: deliveries.iter().map(held).collect(),
                action: SettleAction::Settle(SettleReason::Acked),
                answer: AnswerTime::AtOnce,
                outputs: Vec::new(),
                said: None,
            };
            session.settle(spec, RequestToken(token)).await.unwrap();
        }
    }
}

fn runs(node: &TestNode, target: Target) -> Option<ReplicaId> {
    let group = GroupId::from(target.shard);
    let status = node.broker.status();
    let status = status.iter().find(|it| it.group == group)?;
    let works = status.health == ReplicaHealth::Running;
    let votes = status.voters.iter().any(|it| it.replica == status.replica);
    (works && votes).then_some(status.replica)
}

fn all_agree(cluster: &Cluster) -> bool {
    cluster.nodes.values().all(|node| {
        let views = node.broker.audits();
        node.broker.set_aside().is_empty()
            && views
                .iter()
                .all(|it| it.clean_at_ms.is_some() && !it.in_doubt)
    })
}

/// A replica of one of the nodes gets another row under load; `leads`: the leader's.
fn wrong_replica_is_replaced(leads: bool) {
    let cluster = Cluster::start(2);
    let target = cluster.declare("orders");
    let leader = cluster.leader(target);
    let victim = if leads { leader } else { leader % NODES + 1 };
    let other = (1..=NODES).find(|it| *it != victim).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let all = Arc::new(std::sync::OnceLock::new());
    let published = publish(cluster.node(other), target, &stop);
    let session = cluster.node(victim).broker.session();
    let taken = take(session, target, all.clone());
    let taken = cluster.node(victim).runtime.spawn(taken);
    cluster.eventually("all replicas were compared once", all_agree);

    let before = alter(cluster.node(victim), target);
    cluster.eventually("the replica is replaced", |it| {
        runs(it.node(victim), target).is_some_and(|now| now > before)
    });
    stop.store(true, Ordering::Relaxed);
    let published = cluster.node(other).runtime.block_on(published).unwrap();
    all.set(published).unwrap();
    cluster.node(victim).runtime.block_on(taken).unwrap();
    let others = cluster.nodes.values().filter(|it| it.id != victim);
    for node in others {
        assert!(
            node.broker.set_aside().is_empty(),
            "only the wrong one goes"
        );
    }
    // The new replica's book began anew.
    cluster.eventually("the new replica agrees", all_agree);
}

#[test]
fn follower_with_another_row_is_replaced() {
    wrong_replica_is_replaced(false);
}

#[test]
fn leader_with_another_row_is_replaced() {
    wrong_replica_is_replaced(true);
}

#[test]
fn two_replicas_with_other_rows_are_in_doubt_and_go_on() {
    let mut cluster = Cluster::start(1);
    let target = cluster.declare("orders");
    cluster.eventually("all replicas were compared once", all_agree);
    // Without the third there is no majority for either.
    cluster.kill(3);
    cluster.eventually("two have a leader", |it| {
        let leaders = it
            .nodes
            .values()
            .map(|node| node.broker.leader_of(target.shard));
        leaders.flatten().filter(|leader| leader.0 != 3).count() == 2
    });
    alter(cluster.node(1), target);
    cluster.eventually("the two are in doubt", |it| {
        it.nodes
            .values()
            .all(|node| node.broker.audits().iter().all(|it| it.in_doubt))
    });
    let node = cluster.node(2);
    let session = node.broker.session();
    node.runtime.block_on(async {
        let items = (0..10).map(|number| item(target, number)).collect();
        session.publish(target.shard, items, None).await.unwrap();
        confirmed(&session, 10).await;
    });
    assert!(
        cluster
            .nodes
            .values()
            .all(|it| it.broker.set_aside().is_empty())
    );
    // The third tells them which is right.
    cluster.start_node(3, false);
    cluster.eventually("the wrong one is replaced", |it| {
        runs(it.node(1), target).is_some_and(|now| now.0 > NODES * 2)
    });
    cluster.eventually("all three agree", all_agree);
}
