//! `Clock`: delayed messages become ready, lost nodes' time runs out. Not here: where the time comes from.

use std::collections::BTreeMap;

use warren_types::{Attempt, QueueId, ShardTime};

use super::back::Back;
use super::hot::NEVER;
use super::io::{Actions, DelayedOpening};
use super::queue::{Delayed, Queue};
use super::shared::Shared;
use super::{due, node};

pub(super) fn step(
    queues: &mut BTreeMap<QueueId, Queue>,
    shared: &mut Shared,
    now: ShardTime,
    out: &mut Actions,
) -> Vec<QueueId> {
    shared.now = shared.now.max(now);
    node::expire(queues, shared, out);
    let mut ready = Vec::new();
    while let Some(&(until, id, position)) = shared.due.first() {
        if until > shared.now {
            break;
        }
        shared.due.pop_first();
        let Some(queue) = queues.get_mut(&id) else {
            continue;
        };
        if let Some(delayed) = queue.undelay(position) {
            let level = queue.level_mut(delayed.priority);
            level.back.insert(position, delayed.back);
            ready.push(id);
        }
    }
    for queue in std::mem::take(&mut shared.newborns) {
        if let Some(queue) = queues.get_mut(&queue) {
            queue.newborn = None;
        }
    }
    for id in due::ringing(shared) {
        if let Some(queue) = queues.get_mut(&id) {
            due::look(queue, shared, out);
        }
    }
    ready
}

/// A message that was returned until later, as the store tells it: its time may have come.
pub(super) fn delay_again(queue: &mut Queue, shared: &mut Shared, it: &DelayedOpening) {
    if it.until <= shared.now {
        return; // The cursor finds it.
    }
    let delayed = Delayed {
        until: it.until,
        priority: it.priority,
        back: Back {
            body_bytes: it.body_bytes,
            delivery_count: it.delivery_count,
            acquired_count: it.acquired_count,
            attempt: Attempt::default(),
            redelivered: true,
            passed: false,
            expiry: NEVER,
            group: it.group,
        },
    };
    shared.due.insert((it.until, queue.id, it.position));
    queue.delay(it.position, delayed);
}
