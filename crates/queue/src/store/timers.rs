//! What a queue's timers say is due: messages to release, messages that have expired. Not here: what is done about it (`dispatch`
//! proposes a release or a settle, or that the timers be set anew).

use warren_types::{Position, PositionRange, Priority, QueueId, ShardTime};

use super::Store;
use super::reach::{Reach, Visit};
use super::states::MessageState;
use crate::dispatch::io::{Due, DueBlock};
use crate::rows::Rows;

impl Store {
    /// What is due in a queue by `up_to`, looking at `blocks_max` blocks at most: what comes due later than the first timer not looked
    /// at is left for the next time, so that all is released in the order of time. `rows` shows all entries applied so far.
    pub fn due(
        &mut self,
        rows: &dyn Rows,
        queue: QueueId,
        up_to: ShardTime,
        blocks_max: usize,
    ) -> Due {
        let mut due = Due {
            queue,
            up_to,
            blocks: Vec::new(),
            next: None,
        };
        let Some(found) = self.queues.get_mut(&queue) else {
            return due;
        };
        let mut reach = Reach {
            rows,
            cache: &mut self.cache,
        };
        let timers = rows.timers(queue, blocks_max + 1);
        let in_time = timers.iter().filter(|(at, ..)| *at <= up_to).count();
        let looked_at = in_time.min(blocks_max);
        due.next = timers.get(looked_at).map(|(at, ..)| *at);
        // What is due later than the next block's first waits for its turn, so that all comes in the order of time.
        let horizon = due.next.unwrap_or(up_to).min(up_to);
        for &(_, priority, first) in timers.iter().take(looked_at) {
            due.blocks
                .push(found.due_of_block(&mut reach, priority, first, up_to, horizon));
        }
        self.cache.evict(&mut self.queues, &self.options);
        due
    }

    /// The earliest timer of a queue.
    #[must_use]
    pub fn first_timer(&self, rows: &dyn Rows, queue: QueueId) -> Option<ShardTime> {
        rows.timers(queue, 1).first().map(|(at, ..)| *at)
    }
}

impl super::queue::Queue {
    fn due_of_block(
        &mut self,
        reach: &mut Reach<'_>,
        priority: Priority,
        first: Position,
        up_to: ShardTime,
        horizon: ShardTime,
    ) -> DueBlock {
        let mut due = DueBlock {
            priority,
            first,
            release: Vec::new(),
            expired: Vec::new(),
        };
        self.each_piece(reach, &[PositionRange::one(first)], |_, block, _| {
            let mut states = Vec::new();
            block.each_live_index(0..block.count, |position, state| {
                states.push((position, state));
            });
            for (position, state) in states {
                let index = usize::try_from(position.0 - first.0).unwrap_or(usize::MAX);
                let at = |column: &[Option<ShardTime>]| column.get(index).copied().flatten();
                match state {
                    MessageState::Scheduled => {
                        if let Some(at) = at(&block.facts.due).filter(|&it| it <= horizon) {
                            due.release.push((at, position));
                        }
                    }
                    MessageState::Ready | MessageState::Delayed(_) => {
                        if at(&block.facts.expiry).is_some_and(|it| it <= up_to) {
                            let bytes = block.facts.body_size.get(index).copied();
                            due.expired.push((position, bytes.unwrap_or(0)));
                        }
                    }
                    MessageState::Parked(_) => {}
                }
            }
            Visit::Read
        });
        due
    }
}
