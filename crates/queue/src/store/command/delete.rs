//! A queue ends, with all it holds. Not here: who may delete it, what becomes of its bindings (`warren-topology`).

use super::super::Store;
use crate::entry::DeleteQueue;
use crate::outcome::{Effect, Output, Reply};

/// An unknown queue is deleted already: no messages.
pub(in super::super) fn apply(store: &mut Store, it: &DeleteQueue, out: &mut Output) -> Reply {
    store.topology_seen(it.topology);
    let Some(queue) = store.queues.remove(&it.queue) else {
        return Reply::Deleted { messages: 0 };
    };
    for block in queue.levels.iter().flat_map(|level| level.blocks.values()) {
        store.cache.removed(block.count);
    }
    store.queues_digest = store.queues_digest.wrapping_sub(queue.digest);
    store.deleted.insert(it.queue);
    out.effects.push(Effect::QueueDeleted { queue: it.queue });
    Reply::Deleted {
        messages: queue.live(),
    }
}
