//! Changes that are applied and not written yet. What is put and deleted again before it is written is never written at all,
//! and of what changes often only the last value is: most messages are settled long before their block would go to disk.
//! Not here: rows on disk (`rows_view`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use warren_codec as codec;
use warren_queue::rows::{Change, Row, RowKey};
use warren_storage::{RowBatch, Table};
use warren_types::QueueId;

/// Bytes of rows that are kept; with more, all are written.
const BYTES_MAX: usize = 4 << 20;
/// Counted for a row beside a block's messages.
const ROW_BYTES: usize = 256;
/// Counted for each message of a block beside its bytes.
const MESSAGE_BYTES: usize = 16;

#[derive(Default)]
pub(super) struct Overlay {
    rows: BTreeMap<RowKey, Option<Row>>,
    /// Queues whose rows on disk are void.
    dropped: BTreeSet<QueueId>,
    bytes: usize,
}

impl Overlay {
    /// Takes the changes of one entry of so many bytes.
    pub(super) fn take(&mut self, changes: &mut Vec<Change>, entry_bytes: usize) {
        for change in changes.drain(..) {
            match change {
                Change::Put(key, row) => self.set(key, Some(unshared(row, entry_bytes))),
                Change::Delete(key) => {
                    let is_block = matches!(key, RowKey::Block { .. });
                    // A block is put once: one that is here is not on disk.
                    if is_block && self.rows.get(&key).is_some_and(Option::is_some) {
                        self.forget(&key);
                    } else {
                        self.set(key, None);
                    }
                }
                Change::DeleteQueueRows(queue) => self.drop_queue(queue),
            }
        }
    }

    fn set(&mut self, key: RowKey, row: Option<Row>) {
        self.bytes += cost(row.as_ref());
        if let Some(before) = self.rows.insert(key, row) {
            self.bytes -= cost(before.as_ref());
        }
    }

    fn forget(&mut self, key: &RowKey) {
        if let Some(before) = self.rows.remove(key) {
            self.bytes -= cost(before.as_ref());
        }
    }

    fn drop_queue(&mut self, queue: QueueId) {
        let bytes = &mut self.bytes;
        self.rows.retain(|key, row| {
            let stays = key.queue() != Some(queue) || matches!(key, RowKey::Queue(_));
            if !stays {
                *bytes -= cost(row.as_ref());
            }
            stays
        });
        self.dropped.insert(queue);
    }

    /// There is so much that it is to be written.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    /// Hands everything over to be written, and is empty then.
    pub(super) fn give(&mut self, batch: &mut RowBatch) {
        let Self { rows, dropped, .. } = std::mem::take(self);
        for queue in dropped {
            for range in codec::rows_of_queue(queue) {
                batch.delete_range(table_of(range.table), range.from, range.to);
            }
        }
        for (key, row) in rows {
            let (table, bytes) = named(&key);
            match row {
                Some(row) => {
                    let value = codec::encode_row(&bytes, &row);
                    batch.put(table, bytes, value);
                }
                None => batch.delete(table, bytes),
            }
        }
    }

    /// `Some(None)`: it is deleted, whatever the disk says.
    pub(super) fn get(&self, key: &RowKey) -> Option<Option<&Row>> {
        match self.rows.get(key) {
            Some(row) => Some(row.as_ref()),
            // A queue's own row is not among those that are dropped with it.
            None if matches!(key, RowKey::Queue(_)) => None,
            None => key
                .queue()
                .is_some_and(|queue| self.has_dropped(queue))
                .then_some(None),
        }
    }

    /// Nothing on disk counts for the queue.
    pub(super) fn has_dropped(&self, queue: QueueId) -> bool {
        self.dropped.contains(&queue)
    }

    /// All changes of rows from a key on, as they are now, and the queues that were dropped.
    pub(super) fn copy_from(
        &self,
        from: Option<RowKey>,
    ) -> (Vec<(RowKey, Option<Row>)>, BTreeSet<QueueId>) {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let rows = self.rows.range((from, Bound::Unbounded));
        let rows = rows.map(|(key, row)| (key.clone(), row.clone()));
        (rows.collect(), self.dropped.clone())
    }

    pub(super) fn range(
        &self,
        range: impl RangeBounds<RowKey>,
    ) -> impl DoubleEndedIterator<Item = (&RowKey, Option<&Row>)> {
        self.rows.range(range).map(|(key, row)| (key, row.as_ref()))
    }
}

/// A block's messages are a slice of their entry. Where they are less than half of it they are copied, or a small block that
/// stays would keep a large entry in memory.
fn unshared(row: Row, entry_bytes: usize) -> Row {
    let Row::Block(mut block) = row else {
        return row;
    };
    if block.payload.len() < entry_bytes / 2 {
        block.payload = Bytes::copy_from_slice(&block.payload);
    }
    Row::Block(block)
}

fn cost(row: Option<&Row>) -> usize {
    let block = if let Some(Row::Block(block)) = row {
        block.payload.len() + MESSAGE_BYTES * block.facts.size.len()
    } else {
        0
    };
    ROW_BYTES + block
}

/// Where a row is on disk.
pub(super) fn named(key: &RowKey) -> (Table, Bytes) {
    (table_of(codec::table_of(key)), codec::encode_key(key))
}

pub(crate) fn table_of(table: codec::RowTable) -> Table {
    match table {
        codec::RowTable::Blocks => Table::Blocks,
        codec::RowTable::Rows => Table::Rows,
    }
}
