//! The queues of a led shard and what is in force for them, by this node's copy of the topology. Not here: deriving it
//! (`warren-topology`), what it makes queues do (`warren-queue`, `rooms`, `facts`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use warren_queue::dispatch::DELAY_MS_MAX;
use warren_queue::dispatch::io::{Input, Wait};
use warren_queue::entry::{Command, CreateQueue, Dedup, DeleteQueue};
use warren_topology::Topology;
use warren_types::{Overflow, QueueId, QueueSettings, ShardTime};

use super::work::Leading;
use crate::api::ReturnWait;

impl Leading {
    /// Proposes the creation of queues that the topology has placed here and the store lacks, and the deletion of the others.
    pub(super) fn sync_queues(&mut self, topology: &Arc<Topology>) {
        self.topology = Arc::clone(topology);
        self.batcher.allow(topology.version());
        let index = topology.index();
        if index < self.stored_topology {
            return;
        }
        let changed_at = topology.shard_changed_at(self.shard);
        if self.synced.is_none_or(|it| it < changed_at) {
            self.compare_queues(topology);
            self.synced = Some(index);
        }
        self.unpark();
    }

    fn compare_queues(&mut self, topology: &Topology) {
        let index = topology.index();
        let mut placed = HashSet::new();
        for queue in topology.queues_of(self.shard) {
            placed.insert(queue.id);
            self.note_settings(topology, queue);
            #[cfg(feature = "next-version")]
            if self.known.contains(&queue.id) {
                self.next_note(topology, queue.id);
            }
            if !self.known.contains(&queue.id) && self.creating.insert(queue.id) {
                self.batcher.command(Command::CreateQueue(CreateQueue {
                    queue: queue.id,
                    vhost: queue.vhost,
                    name: queue.name.clone(),
                    topology: index,
                }));
            }
        }
        let gone: Vec<QueueId> = self
            .known
            .iter()
            .filter(|queue| !placed.contains(queue))
            .copied()
            .collect();
        for queue in gone {
            self.known.remove(&queue);
            self.settings.remove(&queue);
            self.batcher.command(Command::DeleteQueue(DeleteQueue {
                queue,
                topology: index,
            }));
        }
        let settings = &self.settings;
        self.lifecycle
            .follow(topology, self.shard, Instant::now(), |queue| {
                settings.get(&queue).and_then(|it| it.expires_ms)
            });
    }

    /// One that was deleted meanwhile is deleted at once.
    pub(super) fn queue_created(&mut self, queue: QueueId) {
        self.creating.remove(&queue);
        self.known.insert(queue);
        self.tell_settings(queue);
        #[cfg(feature = "next-version")]
        self.next_note(&Arc::clone(&self.topology), queue);
        if self.topology.queue_by_id(queue).is_none() {
            let topology = Arc::clone(&self.topology);
            self.synced = None;
            self.sync_queues(&topology);
        }
    }

    /// Notes what is in force for a queue, and tells dispatch if that is something new.
    fn note_settings(&mut self, topology: &Topology, queue: &warren_topology::Queue) {
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
        if self.known.contains(&queue.id) {
            self.drop_parked(queue.id, 0); // the limit may be lower than it was
        }
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
            ReturnWait::Parked => Wait::Parked,
            ReturnWait::ByPolicy => Wait::ByPolicy,
        }
    }

    /// How long dispatch may sleep if nothing happens.
    pub(super) fn sleep(&self) -> Option<Duration> {
        let due = self.dispatch.next_timer().map(|next| {
            let left = next.0.saturating_sub(self.now().0);
            Duration::from_millis(left)
        });
        due.into_iter().chain(self.acks.left(Instant::now())).min()
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

/// Deduplication keys a queue remembers unless it says otherwise.
const DEDUP_KEYS_MAX: u64 = 100_000;

/// How long and how many deduplication keys a queue remembers, if it does.
pub(super) fn dedup_of(settings: &QueueSettings) -> Option<Dedup> {
    Some(Dedup {
        window_ms: settings.dedup_window_ms?,
        keys_max: settings.dedup_keys_max.unwrap_or(DEDUP_KEYS_MAX),
    })
}
