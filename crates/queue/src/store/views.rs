//! What the leader reads of the store between entries. Not here: the origins' answers (`origins`), the digest (`digest`).

use warren_types::{Position, PositionRange, Priority, QueueId, QueueName, VhostId};

use super::Store;
use super::blocks::block_count;
use super::queue::Queue;
use super::ranges;
use super::read::ReadMessage;
use crate::dispatch::io::{
    DelayedOpening, LeavingOpening, LevelOpening, Loaded, LoadedBlock, QueueOpening,
};
use crate::outcome::BlockRef;
use crate::rows::{BlockRow, Counters, CountsRow, MarksRow, Row, RowKey, Rows, SettledRow};

/// A queue in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStats {
    pub queue: QueueId,
    pub vhost: VhostId,
    pub name: QueueName,
    /// Messages that have not left.
    pub live: u64,
    /// The next position to be given.
    pub next: Position,
    pub counters: Counters,
    pub levels: Vec<LevelStats>,
}

/// One priority of a queue in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelStats {
    pub priority: Priority,
    pub live: u64,
    /// The first block that has a live message.
    pub head: Position,
    /// Messages at or above were never handed out.
    pub handed_out: Position,
    /// Of the live ones: not due yet.
    pub scheduled: u64,
    /// Of the live ones: set aside.
    pub parked: u64,
}

impl Store {
    /// The shard's queues, ascending.
    pub fn queues(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.queues.keys().copied()
    }

    /// What dispatch must know of a queue when it opens; `None` if there is no such queue.
    #[must_use]
    pub fn opening(&self, rows: &dyn Rows, queue: QueueId) -> Option<QueueOpening> {
        let leaving = self.moves.leaving(queue);
        let leaving_messages = self.read(rows, queue, &leaving);
        let dying = self.moves.dying(queue);
        let queue = self.queues.get(&queue)?;
        let mut delayed = queue.delayed(rows);
        delayed.retain(|it| !super::ranges::contains(&leaving, it.position));
        let levels = queue.levels.iter().map(|level| &level.row);
        let levels = levels.map(|row| LevelOpening {
            priority: row.priority,
            head: row.head,
            live: row.live,
            handed_out: row.handed_out,
            released: row.released.clone(),
            scheduled: row.scheduled,
            parked: row.parked,
        });
        let counters = &queue.counters;
        // What is set aside is out of dispatch's sight, on its way or not.
        let in_flight = leaving_messages.iter().filter(|it| !it.parked);
        Some(QueueOpening {
            queue: queue.id,
            next: queue.next,
            levels: levels.collect(),
            fencing: queue.fencing,
            leaving: in_flight.map(|it| leaving_opening(it, &dying)).collect(),
            live_body_bytes: counters.live_body_bytes,
            scheduled_body_bytes: counters.scheduled_body_bytes,
            parked_body_bytes: counters.parked_body_bytes,
            delayed,
            first_timer: self.first_timer(rows, queue.id),
        })
    }

    #[must_use]
    pub fn queue_stats(&self, queue: QueueId) -> Option<QueueStats> {
        let queue = self.queues.get(&queue)?;
        let levels = queue.levels.iter().map(|level| &level.row);
        let levels = levels.map(|row| LevelStats {
            priority: row.priority,
            live: row.live,
            head: row.head,
            handed_out: row.handed_out,
            scheduled: row.scheduled,
            parked: row.parked,
        });
        Some(QueueStats {
            queue: queue.id,
            vhost: queue.vhost,
            name: queue.name.clone(),
            live: queue.live(),
            next: queue.next,
            counters: queue.counters,
            levels: levels.collect(),
        })
    }

    /// The block of a priority that holds `from` or, if no live one does, the next. `rows` shows all entries applied so far.
    #[must_use]
    pub fn load(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Loaded {
        let block = self
            .queues
            .get(&queue)
            .and_then(|queue| queue.load(rows, priority, from));
        Loaded {
            queue,
            priority,
            from,
            block,
        }
    }
}

impl Queue {
    fn load(&self, rows: &dyn Rows, priority: Priority, from: Position) -> Option<LoadedBlock> {
        let (row, mut settled, counts, marks) = self.block_rows(rows, priority, from)?;
        let block = BlockRef {
            priority,
            first: row.first,
            count: block_count(&row.facts),
        };
        for (position, _) in marks.parked {
            ranges::insert(&mut settled.ranges, PositionRange::one(position));
        }
        let BlockRow {
            first: _,
            facts,
            payload,
        } = row;
        Some(LoadedBlock {
            block,
            facts,
            payload,
            settled: settled.ranges,
            counts: counts.counts,
            released: marks.released,
        })
    }

    /// The block of a priority that holds `from` or, if no live one does, the next, with what is known of its messages.
    pub(super) fn block_rows(
        &self,
        rows: &dyn Rows,
        priority: Priority,
        from: Position,
    ) -> Option<(BlockRow, SettledRow, CountsRow, MarksRow)> {
        let level = self.level(priority).filter(|level| level.row.live > 0)?;
        let from = from.max(level.row.head);
        let holds = |row: &BlockRow| from < row.first.plus(row.facts.count());
        let row = rows
            .block_holding(self.id, priority, from)
            .filter(holds)
            .or_else(|| rows.block_at_or_after(self.id, priority, from))?;
        let (settled, counts, marks) = match level.blocks.get(&row.first) {
            Some(block) => (block.settled_row(), block.counts_row(), block.marks_row()),
            None => self.stored(rows, priority, row.first),
        };
        Some((row, settled, counts, marks))
    }

    /// What was returned until later, with its counts and body bytes.
    fn delayed(&self, rows: &dyn Rows) -> Vec<DelayedOpening> {
        let mut all = Vec::new();
        for (priority, row) in rows.delayed(self.id) {
            for (position, until) in row.delayed {
                let counts = row.counts.iter().find(|(at, _, _)| *at == position);
                let facts = rows.block_holding(self.id, priority, position);
                let (body_bytes, group) = facts.map_or((0, 0), |it| {
                    let index = usize::try_from(position.0.saturating_sub(it.first.0));
                    let index = index.unwrap_or(usize::MAX);
                    let body_bytes = it.facts.body_size.get(index);
                    let group = it.facts.group_hash.get(index);
                    (
                        body_bytes.copied().unwrap_or(0),
                        group.copied().unwrap_or(0),
                    )
                });
                all.push(DelayedOpening {
                    priority,
                    position,
                    until,
                    body_bytes,
                    delivery_count: counts.map_or(0, |&(_, delivered, _)| delivered),
                    acquired_count: counts.map_or(0, |&(_, _, acquired)| acquired),
                    group,
                });
            }
        }
        all
    }

    fn stored(
        &self,
        rows: &dyn Rows,
        priority: Priority,
        first: Position,
    ) -> (SettledRow, CountsRow, MarksRow) {
        let queue = self.id;
        let settled = rows
            .get(&RowKey::Settled {
                queue,
                priority,
                first,
            })
            .and_then(Row::into_settled);
        let counts = rows
            .get(&RowKey::Counts {
                queue,
                priority,
                first,
            })
            .and_then(Row::into_counts);
        let marks = rows
            .get(&RowKey::Marks {
                queue,
                priority,
                first,
            })
            .and_then(Row::into_marks);
        (
            settled.unwrap_or_default(),
            counts.unwrap_or_default(),
            marks.unwrap_or_default(),
        )
    }
}

fn leaving_opening(it: &ReadMessage, dying: &[PositionRange]) -> LeavingOpening {
    LeavingOpening {
        priority: it.priority,
        position: it.position,
        body_bytes: it.body_bytes,
        expiry: it.expiry,
        group: it.group_hash,
        dies: super::ranges::contains(dying, it.position),
    }
}
