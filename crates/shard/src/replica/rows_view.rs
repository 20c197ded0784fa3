//! A replica's rows as its store sees them: what is on disk under an overlay of what is not written yet.
//! Not here: what the rows mean (`warren-queue`), their bytes (`warren-codec`).

use std::cell::RefCell;
use std::ops::ControlFlow;

use bytes::Bytes;
use warren_codec as codec;
use warren_codec::{AuditPlace, CodecError};
use warren_queue::rows::{
    BlockRow, Change, CountsRow, MarksRow, OriginRow, OutgoingRow, QueueRow, Row, RowKey, Rows,
};
use warren_raft::damaged;
use warren_storage::{ReplicaState, RowBatch, StateError, Table};
use warren_types::{Incarnation, Position, Priority, ProducerId, QueueId, ShardId, ShardTime};

use super::overlay::{Overlay, named};
use crate::audit::Frozen;

/// Rows of one replica, read on its apply thread.
pub(crate) struct RowsView {
    state: ReplicaState,
    overlay: RefCell<Overlay>,
}

impl RowsView {
    pub(crate) fn new(state: ReplicaState) -> Self {
        Self {
            state,
            overlay: RefCell::default(),
        }
    }

    /// Takes the changes of one entry of so many bytes: later reads see them.
    pub(crate) fn take(&self, changes: &mut Vec<Change>, entry_bytes: usize) {
        self.overlay.borrow_mut().take(changes, entry_bytes);
    }

    /// So much is not written that it should be.
    pub(crate) fn is_full(&self) -> bool {
        self.overlay.borrow().is_full()
    }

    /// Everything that is not written, to be written before anything is read again.
    pub(crate) fn give(&self, rows: &mut RowBatch) {
        self.overlay.borrow_mut().give(rows);
    }

    /// All of it as it is now, written or not, from a place on. What is not written is copied: the apply thread goes on at once.
    pub(crate) fn freeze(&self, place: &AuditPlace) -> Result<Frozen, StateError> {
        // Small rows lie on both sides of blocks in memory, so only a place among them bounds what is copied.
        let from = match place.table {
            codec::RowTable::Blocks => None,
            codec::RowTable::Rows => codec::decode_key(&place.after).ok(),
        };
        let (changed, dropped) = self.overlay.borrow().copy_from(from);
        Ok(Frozen {
            snapshot: self.state.snapshot()?,
            state: self.state.clone(),
            changed,
            dropped,
        })
    }

    fn disk_get(&self, key: &RowKey) -> Option<Row> {
        let (table, bytes) = named(key);
        let value = readable(self.state.get(table, &bytes));
        value.map(|value| open(&bytes, &value))
    }

    /// The nearest block on disk at or after (`forward`) or at or before `from`, if it is nearer than `fresh`.
    fn disk_block(
        &self,
        (queue, priority): (QueueId, Priority),
        from: Position,
        forward: bool,
        fresh: Option<Position>,
    ) -> Option<BlockRow> {
        let overlay = self.overlay.borrow();
        if overlay.has_dropped(queue) {
            return None;
        }
        let is_nearer = |first: Position| match fresh {
            Some(fresh) if forward => first < fresh,
            Some(fresh) => first > fresh,
            None => true,
        };
        let mut found = None;
        let mut visit = |key: &[u8], value: &[u8]| {
            let name = codec::decode_key(key).expect("block keys are ours");
            if overlay.get(&name) == Some(None) {
                return ControlFlow::Continue(());
            }
            if matches!(name, RowKey::Block { first, .. } if is_nearer(first)) {
                found = Some(open(key, &Bytes::copy_from_slice(value)));
            }
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
        readable(scanned);
        block(found)
    }

    /// The blocks of a queue's priority that are not written yet and begin in a range.
    fn fresh_block(
        &self,
        (queue, priority): (QueueId, Priority),
        from: Position,
        to: Position,
        last: bool,
    ) -> Option<BlockRow> {
        let key = |first| RowKey::Block {
            queue,
            priority,
            first,
        };
        let overlay = self.overlay.borrow();
        let mut rows = overlay
            .range(key(from)..=key(to))
            .filter_map(|(_, row)| row);
        block(if last { rows.next_back() } else { rows.next() }.cloned())
    }
}

impl Rows for RowsView {
    fn get(&self, key: &RowKey) -> Option<Row> {
        if let Some(row) = self.overlay.borrow().get(key) {
            return row.cloned();
        }
        self.disk_get(key)
    }

    fn block_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<BlockRow> {
        let level = (queue, priority);
        let fresh = self.fresh_block(level, from, Position(u64::MAX), false);
        if fresh.as_ref().is_some_and(|row| row.first == from) {
            return fresh;
        }
        let first = fresh.as_ref().map(|row| row.first);
        self.disk_block(level, from, true, first).or(fresh)
    }

    fn block_holding(
        &self,
        queue: QueueId,
        priority: Priority,
        position: Position,
    ) -> Option<BlockRow> {
        let level = (queue, priority);
        let holds = |row: &BlockRow| position < row.first.plus(row.facts.count());
        let fresh = self.fresh_block(level, Position(0), position, true);
        if fresh.as_ref().is_some_and(holds) {
            return fresh;
        }
        let first = fresh.as_ref().map(|row| row.first);
        let nearest = self.disk_block(level, position, false, first);
        nearest.filter(holds)
    }

    fn queues(&self) -> Vec<QueueRow> {
        let mut rows = Vec::new();
        let first = RowKey::Queue(QueueId(0));
        self.rows_in(&codec::queue_rows(), first, |_, row| {
            if let Row::Queue(row) = row {
                rows.push(row);
            }
            ControlFlow::Continue(())
        });
        rows
    }

    fn origins(&self) -> Vec<(Incarnation, OriginRow)> {
        let mut rows = Vec::new();
        let first = RowKey::Origin(Incarnation(0));
        self.rows_in(&codec::origin_rows(), first, |key, row| {
            if let (RowKey::Origin(incarnation), Row::Origin(row)) = (key, row) {
                rows.push((incarnation, row));
            }
            ControlFlow::Continue(())
        });
        rows
    }

    fn outgoing(&self) -> Vec<((ShardId, u64), OutgoingRow)> {
        let mut rows = Vec::new();
        let first = RowKey::Outgoing {
            shard: ShardId(0),
            number: 0,
        };
        self.rows_in(&codec::outgoing_rows(), first, |key, row| {
            if let (RowKey::Outgoing { shard, number }, Row::Outgoing(row)) = (key, row) {
                rows.push(((shard, number), row));
            }
            ControlFlow::Continue(())
        });
        rows
    }

    fn timers(&self, queue: QueueId, max: usize) -> Vec<(ShardTime, Priority, Position)> {
        let mut found = Vec::new();
        let first = RowKey::Timer {
            queue,
            at: ShardTime(0),
            priority: Priority::MIN,
            first: Position(0),
        };
        self.rows_in(&codec::timer_rows(queue), first, |key, _| {
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
        let first = RowKey::Counts {
            queue,
            priority: Priority::MIN,
            first: Position(0),
        };
        self.rows_in(&codec::counts_rows(queue), first, |key, row| {
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
        let range = codec::marks_from(queue, priority, from);
        let first = RowKey::Marks {
            queue,
            priority,
            first: from,
        };
        self.rows_in(&range, first, |key, row| {
            if let (RowKey::Marks { first, .. }, Row::Marks(row)) = (key, row) {
                found = Some((first, row));
            }
            ControlFlow::Break(())
        });
        found
    }

    fn producers(&self, queue: QueueId) -> Vec<(ProducerId, ShardTime)> {
        let mut seen = Vec::new();
        let first = RowKey::Producer {
            queue,
            producer: ProducerId(Bytes::new()),
        };
        self.rows_in(&codec::producer_rows(queue), first, |key, row| {
            if let (RowKey::Producer { producer, .. }, Row::Producer(row)) = (key, row) {
                seen.push((producer, row.seen));
            }
            ControlFlow::Continue(())
        });
        seen
    }
}

impl RowsView {
    /// The rows of a range of the table of small rows, in the order of their keys, under the overlay. `first`: no key of the
    /// range is lower.
    fn rows_in(
        &self,
        range: &codec::KeyRange,
        first: RowKey,
        mut take: impl FnMut(RowKey, Row) -> ControlFlow<()>,
    ) {
        let overlay = self.overlay.borrow();
        let inside = |key: &RowKey| codec::encode_key(key) < range.to;
        let fresh = overlay.range(first..);
        let mut fresh = fresh.take_while(|(key, _)| inside(key)).peekable();
        let mut ended = false;
        let scanned = self
            .state
            .scan(Table::Rows, &range.from, &range.to, |key, value| {
                let name = codec::decode_key(key).expect("row keys are ours");
                while let Some((newer, row)) = fresh.next_if(|(newer, _)| **newer < name) {
                    if let Some(row) = row
                        && take(newer.clone(), row.clone()).is_break()
                    {
                        ended = true;
                        return ControlFlow::Break(());
                    }
                }
                fresh.next_if(|(newer, _)| **newer == name);
                let row = match overlay.get(&name) {
                    Some(None) => return ControlFlow::Continue(()),
                    Some(Some(row)) => row.clone(),
                    None => open(key, &Bytes::copy_from_slice(value)),
                };
                let taken = take(name, row);
                ended = taken.is_break();
                taken
            });
        readable(scanned);
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
}

/// A row that does not match its checksum stops the replica: damaged bytes are never applied or delivered.
fn open(key: &[u8], value: &Bytes) -> Row {
    match codec::decode_row(key, value) {
        Ok(row) => row,
        Err(error @ (CodecError::Checksum { .. } | CodecError::Truncated { .. })) => {
            damaged(format!("row {key:02x?} cannot be used: {error}"))
        }
        // Whole, but not of this version's making: the replica stops, and software that knows it opens it again.
        Err(error) => panic!("row {key:02x?} cannot be used: {error}"),
    }
}

/// A replica whose rows cannot be read stops.
fn readable<T>(read: Result<T, StateError>) -> T {
    match read {
        Ok(it) => it,
        Err(StateError::Damaged(detail)) => damaged(detail.to_string()),
        Err(
            error @ (StateError::Failed(_)
            | StateError::Closed
            | StateError::Removed(_)
            | StateError::WrongReplica { .. }
            | StateError::BadChunk { .. }),
        ) => panic!("rows cannot be read: {error}"),
    }
}

fn block(row: Option<Row>) -> Option<BlockRow> {
    if let Some(Row::Block(row)) = row {
        Some(row)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
