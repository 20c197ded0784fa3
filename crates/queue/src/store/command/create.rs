//! A queue begins to exist in its shard; again is nothing new. Not here: its definition (`warren-topology`).

use super::super::Store;
use super::super::queue::Queue;
use crate::entry::CreateQueue;
use crate::outcome::{Effect, Output, Reply};

/// Ids are never used twice, so one that the same entry deleted stays gone.
pub(in super::super) fn apply(store: &mut Store, it: CreateQueue, out: &mut Output) -> Reply {
    store.topology_seen(it.topology);
    if store.deleted.contains(&it.queue) {
        return Reply::QueueGone;
    }
    if !store.queues.contains_key(&it.queue) {
        let mut queue = Queue::new(it.queue, it.vhost, it.name);
        queue.touched = true;
        store.touched.push(it.queue);
        store.queues.insert(it.queue, queue);
        out.effects.push(Effect::QueueCreated { queue: it.queue });
    }
    Reply::Created
}
