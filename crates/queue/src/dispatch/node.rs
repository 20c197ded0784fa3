//! `NodeLost`, `NodeBack`, `NodeReported`: what happens to all consumers of a node at once (features A8, A6).
//! Not here: one consumer's attach (`attach`).

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{NodeId, QueueId, ShardTime};

use super::consumer::{Holder, Standing};
use super::detach;
use super::dispose;
use super::io::Actions;
use super::queue::Queue;
use super::shared::Shared;
use crate::entry::ReturnKind;

/// Settings change: a lost node's consumers are looked at again after so long.
const LOOK_AGAIN_MS: u64 = 1_000;

type Queues = BTreeMap<QueueId, Queue>;

/// Its consumers get nothing more; what they hold stays theirs for the timeout, counted from when it was last heard.
pub(super) fn lost(queues: &mut Queues, shared: &mut Shared, node: NodeId, silent_ms: u64) {
    let now = shared.now;
    let known = shared.consumers.node_mut(node);
    let heard = ShardTime(now.0.saturating_sub(silent_ms));
    known.lost_at.get_or_insert(heard);
    known.look_at = now;
    set_absent(queues, shared, node);
}

/// It will say anew what it has; until it names a consumer, that one gets nothing.
pub(super) fn back(queues: &mut Queues, shared: &mut Shared, node: NodeId) {
    shared.consumers.node_mut(node).lost_at = None;
    set_absent(queues, shared, node);
    let holders: BTreeSet<Holder> = shared.consumers.of_node(node).into_iter().collect();
    for queue in of_queues(queues, shared, &holders) {
        for (_, flight) in queue.in_flight.iter_mut() {
            if holders.contains(&flight.holder) {
                flight.unclaimed = true;
            }
        }
    }
}

/// It has named everything: consumers it did not name are over, deliveries it did not claim return.
pub(super) fn reported(queues: &mut Queues, shared: &mut Shared, node: NodeId, out: &mut Actions) {
    let kind = ReturnKind::Untouched;
    for holder in shared.consumers.of_node(node) {
        let Some((id, standing)) = shared
            .consumers
            .get(holder)
            .map(|it| (it.queue, it.standing))
        else {
            continue;
        };
        let Some(queue) = queues.get_mut(&id) else {
            continue;
        };
        match standing {
            Standing::Absent => detach::step(queue, shared, holder, Some(kind), out),
            Standing::Attaching | Standing::Active | Standing::Cancelled | Standing::Gone => {
                dispose::return_held(queue, shared, holder, kind, |it| it.unclaimed, out);
            }
        }
    }
}

/// Time has passed: what consumers of nodes lost for longer than their queue allows hold, returns.
pub(super) fn expire(queues: &mut Queues, shared: &mut Shared, out: &mut Actions) {
    let (now, usual) = (
        shared.now.0,
        shared.options.consumer_disconnected_timeout_ms,
    );
    let nodes = shared.consumers.nodes().iter();
    let lost: Vec<(NodeId, ShardTime)> = nodes
        .filter(|it| it.look_at.0 <= now)
        .filter_map(|it| Some((it.id, it.lost_at?)))
        .collect();
    for (node, at) in lost {
        let (mut is_over, mut next) = (true, now.saturating_add(LOOK_AGAIN_MS));
        for holder in shared.consumers.of_node(node) {
            let Some(consumer) = shared.consumers.get(holder) else {
                continue;
            };
            match consumer.standing {
                Standing::Absent | Standing::Cancelled | Standing::Gone => {}
                Standing::Attaching | Standing::Active => continue, // It came since.
            }
            let Some(queue) = queues.get_mut(&consumer.queue) else {
                continue;
            };
            let timeout = queue.settings.consumer_disconnected_timeout_ms;
            let until = at.0.saturating_add(timeout.unwrap_or(usual));
            if now < until {
                is_over = false;
                next = next.min(until);
                continue;
            }
            detach::step(queue, shared, holder, Some(ReturnKind::Untouched), out);
        }
        let node = shared.consumers.node_mut(node);
        node.look_at = ShardTime(next);
        if is_over {
            node.lost_at = None;
        }
    }
}

fn set_absent(queues: &mut Queues, shared: &mut Shared, node: NodeId) {
    for holder in shared.consumers.of_node(node) {
        let Some(consumer) = shared.consumers.get_mut(holder) else {
            continue;
        };
        if !consumer.is_attached() {
            continue;
        }
        consumer.standing = Standing::Absent;
        consumer.ringed = false;
        if let Some(queue) = queues.get_mut(&consumer.queue) {
            queue.ring.leave(holder);
        }
    }
}

fn of_queues<'a>(
    queues: &'a mut Queues,
    shared: &Shared,
    holders: &BTreeSet<Holder>,
) -> impl Iterator<Item = &'a mut Queue> {
    let meant: BTreeSet<QueueId> = holders
        .iter()
        .filter_map(|&it| shared.consumers.get(it))
        .map(|it| it.queue)
        .collect();
    queues
        .iter_mut()
        .filter(move |(id, _)| meant.contains(id))
        .map(|(_, queue)| queue)
}
