//! A replica's rows as its store sees them: what is on disk under an overlay of the chunk being applied.
//! Not here: what the rows mean (`warren-queue`), their bytes (`warren-codec`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use warren_codec as codec;
use warren_queue::rows::{
    BlockRow, Change, CountsRow, MarksRow, OriginRow, OutgoingRow, QueueRow, Row, RowKey, Rows,
};
use warren_storage::{ReplicaState, RowBatch, Table};
use warren_types::{Incarnation, Position, Priority, ProducerId, QueueId, ShardId, ShardTime};

/// Rows of one replica, read on its apply thread.
pub(crate) struct RowsView {
    state: ReplicaState,
    overlay: RefCell<Overlay>,
}

/// Changes that are handed over but not written yet.
#[derive(Default)]
struct Overlay {
    rows: BTreeMap<RowKey, Option<Row>>,
    /// Queues whose rows on disk are void.
    dropped: BTreeSet<QueueId>,
}

impl RowsView {
    pub(crate) fn new(state: ReplicaState) -> Self {
        Self {
            state,
            overlay: RefCell::default(),
        }
    }

    /// Takes the changes of one entry: later reads see them, `rows` writes them.
    pub(crate) fn take(&self, changes: &mut Vec<Change>, rows: &mut RowBatch) {
        let mut overlay = self.overlay.borrow_mut();
        for change in changes.drain(..) {
            match change {
                Change::Put(key, row) => {
                    let (table, bytes) = named(&key);
                    let value = codec::encode_row(&bytes, &row);
                    rows.put(table, bytes, value);
                    overlay.rows.insert(key, Some(row));
                }
                Change::Delete(key) => {
                    let (table, bytes) = named(&key);
                    rows.delete(table, bytes);
                    overlay.rows.insert(key, None);
                }
                Change::DeleteQueueRows(queue) => {
                    for range in codec::rows_of_queue(queue) {
                        rows.delete_range(table_of(range.table), range.from, range.to);
                    }
                    overlay.rows.retain(|key, _| {
                        queue_of(key) != Some(queue) || matches!(key, RowKey::Queue(_))
                    });
                    overlay.dropped.insert(queue);
                }
            }
        }
    }

    /// The chunk is written: the disk shows it now.
    pub(crate) fn written(&self) {
        *self.overlay.borrow_mut() = Overlay::default();
    }

    fn disk_get(&self, key: &RowKey) -> Option<Row> {
        let (table, bytes) = named(key);
        let value = self
            .state
            .get(table, &bytes)
            .expect("a replica whose rows cannot be read stops");
        value.map(|value| open(&bytes, &value))
    }

    /// The nearest block on disk at or after (`forward`) or at or before `from`.
    fn disk_block(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
        forward: bool,
    ) -> Option<BlockRow> {
        let overlay = self.overlay.borrow();
        if overlay.dropped.contains(&queue) {
            return None;
        }
        let mut found = None;
        let mut visit = |key: &[u8], value: &[u8]| {
            let name = codec::decode_key(key).expect("block keys are ours");
            if overlay.rows.get(&name).is_some_and(Option::is_none) {
                return ControlFlow::Continue(());
            }
            found = Some(open(key, &Bytes::copy_from_slice(value)));
            ControlFlow::Break(())
        };
        let scanned = if forward {
            let range = codec::blocks_from(queue, priority, from);
            self.state
                .scan(Table::Blocks, &range.from, &range.to, &mut visit)
        } else {
            let range = codec::block_holding_range(queue, priority, from);
            self.state
                .scan_back(Table::Blocks, &range.from, &range.to, &mut visit)
        };
        scanned.expect("a replica whose rows cannot be read stops");
        block(found)
    }
}

impl Rows for RowsView {
    fn get(&self, key: &RowKey) -> Option<Row> {
        let overlay = self.overlay.borrow();
        if let Some(row) = overlay.rows.get(key) {
            return row.clone();
        }
        if queue_of(key).is_some_and(|queue| overlay.dropped.contains(&queue)) {
            return None;
        }
        drop(overlay);
        self.disk_get(key)
    }

    fn block_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<BlockRow> {
        let low = RowKey::Block {
            queue,
            priority,
            first: from,
        };
        let high = RowKey::Block {
            queue,
            priority,
            first: Position(u64::MAX),
        };
        let fresh = {
            let overlay = self.overlay.borrow();
            let row = overlay
                .rows
                .range((Bound::Included(low), Bound::Included(high)))
                .find_map(|(_, row)| row.clone());
            block(row)
        };
        let stored = self.disk_block(queue, priority, from, true);
        match (fresh, stored) {
            (Some(fresh), Some(stored)) => Some(if fresh.first < stored.first {
                fresh
            } else {
                stored
            }),
            (fresh, stored) => fresh.or(stored),
        }
    }

    fn block_holding(
        &self,
        queue: QueueId,
        priority: Priority,
        position: Position,
    ) -> Option<BlockRow> {
        let low = RowKey::Block {
            queue,
            priority,
            first: Position(0),
        };
        let high = RowKey::Block {
            queue,
            priority,
            first: position,
        };
        let fresh = {
            let overlay = self.overlay.borrow();
            let row = overlay
                .rows
                .range((Bound::Included(low), Bound::Included(high)))
                .rev()
                .find_map(|(_, row)| row.clone());
            block(row)
        };
        let nearest = match (fresh, self.disk_block(queue, priority, position, false)) {
            (Some(fresh), Some(stored)) => Some(if fresh.first > stored.first {
                fresh
            } else {
                stored
            }),
            (fresh, stored) => fresh.or(stored),
        };
        nearest.filter(|row| position < row.first.plus(row.facts.count()))
    }

    fn queues(&self) -> Vec<QueueRow> {
        let mut rows = Vec::new();
        self.each(&codec::queue_rows(), |_, row| {
            if let Row::Queue(row) = row {
                rows.push(row);
            }
        });
        rows
    }

    fn origins(&self) -> Vec<(Incarnation, OriginRow)> {
        let mut rows = Vec::new();
        self.each(&codec::origin_rows(), |key, row| {
            if let (RowKey::Origin(incarnation), Row::Origin(row)) = (key, row) {
                rows.push((incarnation, row));
            }
        });
        rows
    }

    fn outgoing(&self) -> Vec<((ShardId, u64), OutgoingRow)> {
        let mut rows = Vec::new();
        self.each(&codec::outgoing_rows(), |key, row| {
            if let (RowKey::Outgoing { shard, number }, Row::Outgoing(row)) = (key, row) {
                rows.push(((shard, number), row));
            }
        });
        rows
    }

    fn timers(&self, queue: QueueId, max: usize) -> Vec<(ShardTime, Priority, Position)> {
        let mut found = Vec::new();
        self.rows_in(queue, &codec::timer_rows(queue), |key, _| {
            if let RowKey::Timer {
                at,
                priority,
                first,
                ..
            } = key
            {
                found.push((at, priority, first));
            }
            if found.len() < max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        found
    }

    fn delayed(&self, queue: QueueId) -> Vec<(Priority, CountsRow)> {
        let mut found = Vec::new();
        self.rows_in(queue, &codec::counts_rows(queue), |key, row| {
            if let (RowKey::Counts { priority, .. }, Row::Counts(row)) = (key, row)
                && !row.delayed.is_empty()
            {
                found.push((priority, row));
            }
            ControlFlow::Continue(())
        });
        found
    }

    fn marks_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<(Position, MarksRow)> {
        let mut found = None;
        self.rows_in(
            queue,
            &codec::marks_from(queue, priority, from),
            |key, row| {
                if let (RowKey::Marks { first, .. }, Row::Marks(row)) = (key, row) {
                    found = Some((first, row));
                }
                ControlFlow::Break(())
            },
        );
        found
    }

    fn producers(&self, queue: QueueId) -> Vec<(ProducerId, ShardTime)> {
        let overlay = self.overlay.borrow();
        let mut seen = BTreeMap::new();
        if !overlay.dropped.contains(&queue) {
            self.each(&codec::producer_rows(queue), |key, row| {
                if let (RowKey::Producer { producer, .. }, Row::Producer(row)) = (key, row) {
                    seen.insert(producer, row.seen);
                }
            });
        }
        let from = RowKey::Producer {
            queue,
            producer: ProducerId(Bytes::new()),
        };
        for (key, row) in overlay.rows.range(from..) {
            let RowKey::Producer {
                queue: of,
                producer,
            } = key
            else {
                break;
            };
            if *of != queue {
                break;
            }
            match row.clone().and_then(Row::into_producer) {
                Some(row) => seen.insert(producer.clone(), row.seen),
                None => seen.remove(producer),
            };
        }
        seen.into_iter().collect()
    }
}

impl RowsView {
    /// The rows of a queue in a range of the table of small rows, in the order of their keys, under the overlay.
    fn rows_in(
        &self,
        queue: QueueId,
        range: &codec::KeyRange,
        mut take: impl FnMut(RowKey, Row) -> ControlFlow<()>,
    ) {
        let overlay = self.overlay.borrow();
        let inside = |key: &RowKey| {
            let bytes = codec::encode_key(key);
            range.from <= bytes && bytes < range.to
        };
        // Empty but while a chunk is applied, and then these rows are hardly ever read.
        let fresh = overlay.rows.iter().filter(|(key, _)| inside(key));
        let mut fresh = fresh.peekable();
        let mut ended = false;
        if !overlay.dropped.contains(&queue) {
            let scanned = self
                .state
                .scan(Table::Rows, &range.from, &range.to, |key, value| {
                    let name = codec::decode_key(key).expect("row keys are ours");
                    while let Some((newer, row)) = fresh.next_if(|(newer, _)| **newer <= name) {
                        if *newer == name {
                            let Some(row) = row else {
                                return ControlFlow::Continue(());
                            };
                            let taken = take(name, row.clone());
                            ended = taken.is_break();
                            return taken;
                        }
                        if let Some(row) = row
                            && take(newer.clone(), row.clone()).is_break()
                        {
                            ended = true;
                            return ControlFlow::Break(());
                        }
                    }
                    let taken = take(name, open(key, &Bytes::copy_from_slice(value)));
                    ended = taken.is_break();
                    taken
                });
            scanned.expect("a replica whose rows cannot be read stops");
        }
        if ended {
            return;
        }
        for (key, row) in fresh {
            if let Some(row) = row
                && take(key.clone(), row.clone()).is_break()
            {
                return;
            }
        }
    }

    /// Every row on disk in a range of the table of small rows; the overlay is the caller's matter.
    fn each(&self, range: &codec::KeyRange, mut take: impl FnMut(RowKey, Row)) {
        self.state
            .scan(Table::Rows, &range.from, &range.to, |key, value| {
                let row = open(key, &Bytes::copy_from_slice(value));
                take(codec::decode_key(key).expect("row keys are ours"), row);
                ControlFlow::Continue(())
            })
            .expect("a replica whose rows cannot be read stops");
    }
}

/// A row that does not match its checksum stops the replica: damaged bytes are never applied or delivered.
fn open(key: &[u8], value: &Bytes) -> Row {
    match codec::decode_row(key, value) {
        Ok(row) => row,
        Err(error) => panic!("row {key:02x?} is damaged: {error}"),
    }
}

fn block(row: Option<Row>) -> Option<BlockRow> {
    match row {
        Some(Row::Block(row)) => Some(row),
        Some(
            Row::Shard(_)
            | Row::Origin(_)
            | Row::Queue(_)
            | Row::Settled(_)
            | Row::Counts(_)
            | Row::Producer(_)
            | Row::Outgoing(_)
            | Row::Marks(_)
            | Row::Timer
            | Row::Memory(_)
            | Row::MemoryOrder(_),
        )
        | None => None,
    }
}

fn named(key: &RowKey) -> (Table, Bytes) {
    (table_of(codec::table_of(key)), codec::encode_key(key))
}

fn table_of(table: codec::RowTable) -> Table {
    match table {
        codec::RowTable::Blocks => Table::Blocks,
        codec::RowTable::Rows => Table::Rows,
    }
}

fn queue_of(key: &RowKey) -> Option<QueueId> {
    match key {
        RowKey::Queue(queue)
        | RowKey::Block { queue, .. }
        | RowKey::Settled { queue, .. }
        | RowKey::Counts { queue, .. }
        | RowKey::Producer { queue, .. }
        | RowKey::Marks { queue, .. }
        | RowKey::Timer { queue, .. }
        | RowKey::Memory { queue, .. }
        | RowKey::MemoryOrder { queue, .. } => Some(*queue),
        RowKey::Shard | RowKey::Origin(_) | RowKey::Outgoing { .. } => None,
    }
}
