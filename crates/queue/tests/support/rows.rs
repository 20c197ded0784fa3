//! Rows in a `BTreeMap`, which refuses changes that storage could not take. Part of several tests. Not here: what they expect.

use std::collections::{BTreeMap, BTreeSet};

use warren_queue::rows::{
    BlockRow, Change, CountsRow, MarksRow, OriginRow, OutgoingRow, QueueRow, Row, RowKey, Rows,
};
use warren_types::{Incarnation, Position, Priority, ProducerId, QueueId, ShardId, ShardTime};

/// Rows in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MapRows(pub(crate) BTreeMap<RowKey, Row>);

impl MapRows {
    /// Takes one entry's changes. A block is put once and deleted once, nothing absent is deleted, no row changes twice.
    pub(crate) fn take(&mut self, changes: &[Change]) {
        let mut named = BTreeSet::new();
        for change in changes {
            match change {
                Change::Put(key, row) => {
                    assert!(named.insert(key.clone()), "{key:?} changes twice");
                    let before = self.0.insert(key.clone(), row.clone());
                    assert!(
                        before.is_none() || !matches!(key, RowKey::Block { .. }),
                        "{key:?} is rewritten"
                    );
                }
                Change::Delete(key) => {
                    assert!(named.insert(key.clone()), "{key:?} changes twice");
                    let before = self.0.remove(key);
                    let may_be_absent = matches!(key, RowKey::Queue(_) | RowKey::Producer { .. });
                    assert!(
                        before.is_some() || may_be_absent,
                        "{key:?} is deleted, yet absent"
                    );
                }
                Change::DeleteQueueRows(queue) => {
                    self.0.retain(|key, _| {
                        key.queue() != Some(*queue) || matches!(key, RowKey::Queue(_))
                    });
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

    /// Answers with the last block that begins at or before, whether or not it holds the position: implementations may do either.
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
        self.0
            .values()
            .filter_map(|row| {
                if let Row::Queue(row) = row {
                    Some(row.clone())
                } else {
                    None
                }
            })
            .collect()
    }

    fn origins(&self) -> Vec<(Incarnation, OriginRow)> {
        let rows = self.0.iter().filter_map(|(key, row)| match (key, row) {
            (RowKey::Origin(incarnation), Row::Origin(row)) => Some((*incarnation, row.clone())),
            _ => None,
        });
        rows.collect()
    }

    fn outgoing(&self) -> Vec<((ShardId, u64), OutgoingRow)> {
        let rows = self.0.iter().filter_map(|(key, row)| match (key, row) {
            (RowKey::Outgoing { shard, number }, Row::Outgoing(row)) => {
                Some(((*shard, *number), row.clone()))
            }
            _ => None,
        });
        rows.collect()
    }

    fn producers(&self, queue: QueueId) -> Vec<(ProducerId, ShardTime)> {
        let rows = self.0.iter().filter_map(|(key, row)| match (key, row) {
            (RowKey::Producer { queue: q, producer }, Row::Producer(row)) if *q == queue => {
                Some((producer.clone(), row.seen))
            }
            _ => None,
        });
        rows.collect()
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
