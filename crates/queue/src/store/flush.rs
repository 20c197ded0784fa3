//! Turns what an entry touched into changes of rows, each row at most once per entry. Not here: what touched them (`command`).

use warren_types::{Priority, QueueId};

use super::Store;
use super::blocks::Block;
use super::digest;
use super::queue::Queue;
use super::reach::Reach;
use crate::outcome::Output;
use crate::rows::{Change, MarksRow, Row, RowKey, Rows};

impl Store {
    /// Ends an entry: writes what it touched, forgets what it kept only for itself, and brings the cache within its bounds.
    pub(super) fn flush(&mut self, rows: &dyn Rows, out: &mut Output) {
        if std::mem::take(&mut self.shard_touched) {
            out.changes
                .push(Change::Put(RowKey::Shard, Row::Shard(self.shard.clone())));
        }
        self.origins.flush(&mut out.changes);
        self.moves.flush(&mut out.changes);
        while let Some(id) = self.deleted.pop_first() {
            out.changes.push(Change::DeleteQueueRows(id));
            out.changes.push(Change::Delete(RowKey::Queue(id)));
        }
        for id in std::mem::take(&mut self.touched) {
            let Some(queue) = self.queues.get_mut(&id) else {
                continue; // deleted by the same entry
            };
            let before = queue.digest;
            queue.flush(
                &mut Reach {
                    rows,
                    cache: &mut self.cache,
                },
                &mut out.changes,
            );
            self.producers_listed += queue.producers.newly_listed();
            self.queues_digest = self
                .queues_digest
                .wrapping_sub(before)
                .wrapping_add(queue.digest);
        }
        self.cache.evict(&mut self.queues, &self.options);
        self.bound_producer_lists();
    }

    /// Lists of producers are read again when needed, so they may all be dropped at any time.
    fn bound_producer_lists(&mut self) {
        if self.producers_listed > self.options.listed_producers_max {
            self.queues
                .values_mut()
                .for_each(|queue| queue.producers.drop_list());
            self.producers_listed = 0;
        }
    }
}

impl Queue {
    fn flush(&mut self, reach: &mut Reach<'_>, changes: &mut Vec<Change>) {
        self.touched = false;
        self.find_heads(reach);
        self.flush_blocks(changes);
        self.flush_removed(changes);
        self.producers.flush(self.id, changes);
        self.memories.flush(self.id, changes);
        let row = self.row();
        self.digest = digest::of_queue(&row);
        changes.push(Change::Put(RowKey::Queue(self.id), Row::Queue(row)));
    }

    /// Where the first block of a priority went, the next one is looked for: once per entry and priority.
    fn find_heads(&mut self, reach: &mut Reach<'_>) {
        for level in self.levels.iter_mut().filter(|level| level.head_moved) {
            let head = level.at_or_after(self.id, &self.removed, reach, level.row.head);
            level.set_head(head.unwrap_or(self.next));
        }
    }

    fn flush_blocks(&mut self, changes: &mut Vec<Change>) {
        let queue = self.id;
        for (priority, first) in std::mem::take(&mut self.touched_blocks) {
            let Some(block) = self
                .level_mut(priority)
                .and_then(|level| level.blocks.get_mut(&first))
            else {
                continue; // removed since
            };
            block.touched = false;
            if let Some(payload) = block.fresh.take() {
                changes.push(Change::Put(
                    RowKey::Block {
                        queue,
                        priority,
                        first,
                    },
                    block.row(payload),
                ));
            }
            if std::mem::take(&mut block.settled_changed) {
                block.stored.settled = true;
                let row = Row::Settled(block.settled_row());
                changes.push(Change::Put(
                    RowKey::Settled {
                        queue,
                        priority,
                        first,
                    },
                    row,
                ));
            }
            if std::mem::take(&mut block.counts_changed) {
                let (key, row) = (
                    RowKey::Counts {
                        queue,
                        priority,
                        first,
                    },
                    block.counts_row(),
                );
                let has = !row.counts.is_empty() || !row.said.is_empty();
                let had = block.stored.counts;
                block.stored.counts = has;
                match (had, has) {
                    (_, true) => changes.push(Change::Put(key, Row::Counts(row))),
                    (true, false) => changes.push(Change::Delete(key)),
                    (false, false) => {}
                }
            }
            block.flush_states(queue, priority, changes);
        }
    }

    fn flush_removed(&mut self, changes: &mut Vec<Change>) {
        let queue = self.id;
        while let Some(((priority, first), stored)) = self.removed.pop_first() {
            changes.push(Change::Delete(RowKey::Block {
                queue,
                priority,
                first,
            }));
            if stored.settled {
                changes.push(Change::Delete(RowKey::Settled {
                    queue,
                    priority,
                    first,
                }));
            }
            if stored.counts {
                changes.push(Change::Delete(RowKey::Counts {
                    queue,
                    priority,
                    first,
                }));
            }
            if stored.marks {
                changes.push(Change::Delete(RowKey::Marks {
                    queue,
                    priority,
                    first,
                }));
            }
            if let Some(at) = stored.timer {
                changes.push(Change::Delete(RowKey::Timer {
                    queue,
                    at,
                    priority,
                    first,
                }));
            }
        }
    }
}

impl Block {
    fn flush_states(&mut self, queue: QueueId, priority: Priority, changes: &mut Vec<Change>) {
        let first = self.first;
        if std::mem::take(&mut self.marks_changed) {
            let (key, row) = (
                RowKey::Marks {
                    queue,
                    priority,
                    first,
                },
                self.marks_row(),
            );
            let (had, has) = (self.stored.marks, row != MarksRow::default());
            self.stored.marks = has;
            match (had, has) {
                (_, true) => changes.push(Change::Put(key, Row::Marks(row))),
                (true, false) => changes.push(Change::Delete(key)),
                (false, false) => {}
            }
        }
        if self.timer == self.stored.timer {
            return;
        }
        let key = |at| RowKey::Timer {
            queue,
            at,
            priority,
            first,
        };
        if let Some(at) = self.stored.timer {
            changes.push(Change::Delete(key(at)));
        }
        if let Some(at) = self.timer {
            changes.push(Change::Put(key(at), Row::Timer));
        }
        self.stored.timer = self.timer;
    }
}
