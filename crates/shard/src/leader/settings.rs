//! What is in force for the queues of a led shard, by this node's copy of the topology. Not here: deriving it (`warren-topology`), what
//! it makes queues do (`warren-queue`, `rooms`, `facts`).

use std::sync::Arc;

use warren_queue::dispatch::DELAY_MS_MAX;
use warren_queue::dispatch::io::{Input, Wait};
use warren_topology::Topology;
use warren_types::{Overflow, QueueId, ShardTime};

use super::work::Leading;
use crate::api::ReturnWait;

impl Leading {
    /// Notes what is in force for a queue, and tells dispatch if that is something new.
    pub(super) fn note_settings(&mut self, topology: &Topology, queue: &warren_topology::Queue) {
        let settings = topology.queue_settings(queue);
        if self
            .settings
            .get(&queue.id)
            .is_some_and(|known| **known == settings)
        {
            return;
        }
        self.settings.insert(queue.id, Arc::new(settings));
        self.tell_settings(queue.id);
    }

    /// A queue that dispatch does not know yet is told of again when it is created.
    pub(super) fn tell_settings(&mut self, queue: QueueId) {
        if let Some(settings) = self.settings.get(&queue) {
            let settings = Arc::clone(settings);
            self.step(Input::Settings { queue, settings });
        }
    }

    /// When a returned message is ready again, by the shard's time.
    pub(super) fn wait(&self, wait: ReturnWait) -> Wait {
        match wait {
            ReturnWait::Not => Wait::Not,
            ReturnWait::Ms(delay) => {
                let delay = delay.min(DELAY_MS_MAX);
                Wait::Until(ShardTime(self.now().0.saturating_add(delay)))
            }
            ReturnWait::ByPolicy => Wait::ByPolicy,
        }
    }

    /// How long dispatch may sleep if nothing happens.
    pub(super) fn sleep(&self) -> Option<std::time::Duration> {
        let next = self.dispatch.next_timer()?;
        let left = next.0.saturating_sub(self.now().0);
        Some(std::time::Duration::from_millis(left))
    }

    /// What counts as ready: beyond a limit that drops the head, nothing, though the fact may not be committed yet.
    pub(super) fn most_ready(&self, queue: QueueId, ready: u64) -> u64 {
        let settings = self.settings.get(&queue);
        match settings.filter(|it| it.overflow == Overflow::DropHead) {
            Some(it) => it.max_length.map_or(ready, |limit| ready.min(limit)),
            None => ready,
        }
    }
}
