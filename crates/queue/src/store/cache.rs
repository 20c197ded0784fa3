//! Which block descriptors stay in memory: those used of late, so those near head and tail. Not here: the descriptors (`queue`, `blocks`).
//!
//! A clock with a second chance: a descriptor used since the hand last passed stays for another round. What is kept
//! never changes what an entry does, only how often rows are read.

use std::collections::{BTreeMap, VecDeque};

use warren_types::{Position, Priority, QueueId};

use super::StoreOptions;
use super::queue::Queue;

#[derive(Debug, Default)]
pub(super) struct Cache {
    /// In the order they came in; names of blocks that are gone stay until the hand passes or `tidy`.
    ring: VecDeque<(QueueId, Priority, Position)>,
    blocks: usize,
    messages: u64,
}

impl Cache {
    pub(super) fn added(
        &mut self,
        queue: QueueId,
        priority: Priority,
        first: Position,
        count: u32,
    ) {
        self.ring.push_back((queue, priority, first));
        self.blocks += 1;
        self.messages += u64::from(count);
    }

    pub(super) fn removed(&mut self, count: u32) {
        self.blocks = self.blocks.saturating_sub(1);
        self.messages = self.messages.saturating_sub(u64::from(count));
    }

    #[cfg(debug_assertions)]
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Between entries: drops what is over the bounds.
    pub(super) fn evict(&mut self, queues: &mut BTreeMap<QueueId, Queue>, options: &StoreOptions) {
        let mut passes = self.ring.len().saturating_mul(2);
        while passes > 0
            && (self.blocks > options.cached_blocks_max
                || self.messages > options.cached_messages_max)
        {
            passes -= 1;
            let Some(name @ (id, priority, first)) = self.ring.pop_front() else {
                return;
            };
            let Some(level) = queues
                .get_mut(&id)
                .and_then(|queue| queue.level_mut(priority))
            else {
                continue;
            };
            match level.blocks.get_mut(&first) {
                Some(block) if block.recent => {
                    block.recent = false;
                    self.ring.push_back(name);
                }
                Some(_) => {
                    let count = level.evict(first);
                    self.removed(count);
                }
                None => {}
            }
        }
        if self.ring.len() > self.blocks.saturating_mul(2).saturating_add(64) {
            self.tidy(queues);
        }
    }

    fn tidy(&mut self, queues: &BTreeMap<QueueId, Queue>) {
        self.ring.retain(|(id, priority, first)| {
            let level = queues.get(id).and_then(|queue| queue.level(*priority));
            level.is_some_and(|level| level.blocks.contains_key(first))
        });
    }
}
