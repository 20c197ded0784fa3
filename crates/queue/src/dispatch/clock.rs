//! `Clock`: delayed messages become ready, lost nodes' time runs out. Not here: where the time comes from.

use std::collections::BTreeMap;

use warren_types::{QueueId, ShardTime};

use super::io::Actions;
use super::node;
use super::queue::Queue;
use super::shared::Shared;

pub(super) fn step(
    queues: &mut BTreeMap<QueueId, Queue>,
    shared: &mut Shared,
    now: ShardTime,
    out: &mut Actions,
) -> Vec<QueueId> {
    shared.now = shared.now.max(now);
    node::expire(queues, shared, out);
    let mut due = Vec::new();
    while let Some(&(until, id, position)) = shared.due.first() {
        if until > shared.now {
            break;
        }
        shared.due.pop_first();
        let Some(queue) = queues.get_mut(&id) else {
            continue;
        };
        if let Some(delayed) = queue.delayed.remove(&position) {
            let level = queue.level_mut(delayed.priority);
            level.back.insert(position, delayed.back);
            due.push(id);
        }
    }
    due
}
