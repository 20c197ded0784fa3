//! What the applied state promises: rows per replica, atomic batches of changes. Not here: RocksDB (`rocks`), what rows mean (`warren-codec`).

use bytes::Bytes;

/// Which table a row lives in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Message blocks: each key is written once and deleted once, so the store may use single deletes and blob files.
    Blocks,
    /// Everything else: small rows that are overwritten.
    Rows,
}

/// Changes to one replica's rows, written atomically together with how far it has applied.
#[derive(Debug, Default)]
pub struct RowBatch {
    pub(crate) ops: Vec<RowOp>,
}

#[derive(Debug)]
pub(crate) enum RowOp {
    Put {
        table: Table,
        key: Bytes,
        value: Bytes,
    },
    /// For [`Table::Blocks`] the key must have been put exactly once.
    Delete { table: Table, key: Bytes },
    /// Removes every key in `[from, to)`.
    DeleteRange {
        table: Table,
        from: Bytes,
        to: Bytes,
    },
}

impl RowOp {
    /// No more than this is added to a write batch for the operation.
    pub(crate) fn batch_bytes(&self) -> usize {
        // Tags and lengths, and twice the replica's prefix.
        const FRAMING_MAX: usize = 80;
        FRAMING_MAX
            + match self {
                Self::Put { key, value, .. } => key.len() + value.len(),
                Self::Delete { key, .. } => key.len(),
                Self::DeleteRange { from, to, .. } => from.len() + to.len(),
            }
    }
}

impl RowBatch {
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(RowOp::Put {
            table,
            key: key.into(),
            value: value.into(),
        });
    }

    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.ops.push(RowOp::Delete {
            table,
            key: key.into(),
        });
    }

    pub fn delete_range(&mut self, table: Table, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.ops.push(RowOp::DeleteRange {
            table,
            from: from.into(),
            to: to.into(),
        });
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}
