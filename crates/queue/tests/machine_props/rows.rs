//! Rows in a map, for the store under test. Not here: checks of the changes (`tests/store` has them).

use std::collections::BTreeMap;

use warren_queue::rows::{
    BlockRow, Change, CountsRow, MarksRow, OriginRow, OutgoingRow, QueueRow, Row, RowKey, Rows,
};
use warren_types::{Incarnation, Position, Priority, ProducerId, QueueId, ShardId, ShardTime};

#[derive(Debug, Default)]
pub(crate) struct MapRows(BTreeMap<RowKey, Row>);

impl MapRows {
    pub(crate) fn take(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(key, row) => {
                    self.0.insert(key, row);
                }
                Change::Delete(key) => {
                    self.0.remove(&key);
                }
                Change::DeleteQueueRows(queue) => {
                    self.0.retain(|key, _| owner(key) != Some(queue));
                }
            }
        }
    }

    fn blocks(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
        to: Position,
    ) -> impl DoubleEndedIterator<Item = &BlockRow> {
        let key = |first| RowKey::Block {
            queue,
            priority,
            first,
        };
        let range = self.0.range(key(from)..=key(to));
        range.filter_map(|(_, row)| {
            if let Row::Block(row) = row {
                Some(row)
            } else {
                None
            }
        })
    }
}

fn owner(key: &RowKey) -> Option<QueueId> {
    match key {
        RowKey::Shard | RowKey::Origin(_) | RowKey::Queue(_) | RowKey::Outgoing { .. } => None,
        RowKey::Block { queue, .. }
        | RowKey::Settled { queue, .. }
        | RowKey::Counts { queue, .. }
        | RowKey::Producer { queue, .. }
        | RowKey::Marks { queue, .. }
        | RowKey::Timer { queue, .. } => Some(*queue),
    }
}

impl Rows for MapRows {
    fn get(&self, key: &RowKey) -> Option<Row> {
        self.0.get(key).cloned()
    }

    fn block_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<BlockRow> {
        let last = Position(u64::MAX);
        self.blocks(queue, priority, from, last).next().cloned()
    }

    fn block_holding(
        &self,
        queue: QueueId,
        priority: Priority,
        position: Position,
    ) -> Option<BlockRow> {
        let mut blocks = self.blocks(queue, priority, Position(0), position);
        blocks.next_back().cloned()
    }

    fn queues(&self) -> Vec<QueueRow> {
        let rows = self.0.values();
        rows.filter_map(|row| {
            if let Row::Queue(row) = row {
                Some(row.clone())
            } else {
                None
            }
        })
        .collect()
    }

    fn origins(&self) -> Vec<(Incarnation, OriginRow)> {
        Vec::new()
    }

    fn outgoing(&self) -> Vec<((ShardId, u64), OutgoingRow)> {
        Vec::new()
    }

    fn producers(&self, _queue: QueueId) -> Vec<(ProducerId, ShardTime)> {
        Vec::new()
    }
    fn timers(&self, queue: QueueId, max: usize) -> Vec<(ShardTime, Priority, Position)> {
        let keys = self.0.keys().filter_map(|key| {
            if let RowKey::Timer {
                queue: of,
                at,
                priority,
                first,
            } = key
                && *of == queue
            {
                Some((*at, *priority, *first))
            } else {
                None
            }
        });
        keys.take(max).collect()
    }

    fn delayed(&self, queue: QueueId) -> Vec<(Priority, CountsRow)> {
        let rows = self.0.iter().filter_map(|(key, row)| match (key, row) {
            (
                RowKey::Counts {
                    queue: of,
                    priority,
                    ..
                },
                Row::Counts(row),
            ) if *of == queue && !row.delayed.is_empty() => Some((*priority, row.clone())),
            _ => None,
        });
        rows.collect()
    }

    fn marks_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<(Position, MarksRow)> {
        let from = RowKey::Marks {
            queue,
            priority,
            first: from,
        };
        let (key, row) = self.0.range(from..).next()?;
        match (key, row) {
            (
                RowKey::Marks {
                    queue: of,
                    priority: level,
                    first,
                },
                Row::Marks(row),
            ) if (*of, *level) == (queue, priority) => Some((*first, row.clone())),
            _ => None,
        }
    }
}
