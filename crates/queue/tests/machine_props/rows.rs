//! Rows in a map, for the store under test. Not here: checks of the changes (`tests/store` has them).

use std::collections::BTreeMap;

use warren_queue::rows::{BlockRow, Change, OriginRow, OutgoingRow, QueueRow, Row, RowKey, Rows};
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
                Change::DeleteQueueRows(_) => panic!("no queue is deleted here"),
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
}
