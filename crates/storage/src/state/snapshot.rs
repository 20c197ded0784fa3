//! A frozen view of one replica, and its rows as chunks. Not here: sending them (`warren-raft`), receiving them (`install`).

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DB, ReadOptions};
use self_cell::self_cell;
use warren_types::GroupId;

use super::chunk::{ChunkWriter, end_chunk};
use super::contract::Table;
use super::database::column_family;
use super::error::StateError;
use super::layout::{
    About, META, PREFIX_BYTES, Prefix, RowsLife, about_key, decode_current, decode_meta,
    decode_proven, family,
};
use super::rows_digest::RowsDigest;

type View<'a> = rocksdb::Snapshot<'a>;

self_cell!(
    /// RocksDB's snapshot together with the database it is of.
    struct Frozen {
        owner: Arc<DB>,
        #[covariant]
        dependent: View,
    }
);

/// One replica's rows and meta as they were at one moment. Keeps RocksDB from dropping what they need: not to be held for long.
pub struct StateSnapshot {
    frozen: Frozen,
    prefix: Prefix,
    meta: Option<Bytes>,
    life: RowsLife,
    proven: bool,
}

impl StateSnapshot {
    pub(super) fn new(database: Arc<DB>, group: GroupId) -> Result<Self, StateError> {
        let frozen = Frozen::new(database, |database| database.snapshot());
        // Epoch and meta are read through the snapshot, so they match its rows whatever is written meanwhile.
        let read = |about| -> Result<Option<Vec<u8>>, StateError> {
            let family = column_family(frozen.borrow_owner(), META);
            Ok(frozen
                .borrow_dependent()
                .get_cf(family, about_key(about, group))?)
        };
        let damaged = |about: About| {
            StateError::damaged(format!("{about:?} of group {group} fails its checksum"))
        };
        let current = read(About::Current)?.ok_or(StateError::Removed(group))?;
        let (epoch, _) = decode_current(&about_key(About::Current, group), &current)
            .ok_or_else(|| damaged(About::Current))?;
        let meta = match read(About::Meta)? {
            None => None,
            Some(value) => {
                let meta = decode_meta(&about_key(About::Meta, group), &value);
                Some(meta.ok_or_else(|| damaged(About::Meta))?)
            }
        };
        // A mark that cannot be read is none: the rows are proven again.
        let key = about_key(About::Proven, group);
        let proven = read(About::Proven)?.and_then(|value| decode_proven(&key, &value));
        let proven = proven == Some(epoch) || read(About::Installed)?.is_none();
        Ok(Self {
            frozen,
            prefix: Prefix::new(group, epoch),
            meta,
            life: RowsLife(epoch),
            proven,
        })
    }

    /// The rows came of this replica's own log, or were seen to be those of most others since they came from another replica.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    #[must_use]
    pub fn life(&self) -> RowsLife {
        self.life
    }

    /// Visits the rows of a table from `from` on in key order, until `visit` breaks. Every block read is checked; none stays in the cache.
    ///
    /// # Errors
    /// [`StateError::Damaged`] if what RocksDB holds does not match its checksum.
    pub fn scan(
        &self,
        table: Table,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.prefix.end());
        options.set_verify_checksums(true);
        options.fill_cache(false);
        let family = column_family(self.frozen.borrow_owner(), family(table));
        let view = self.frozen.borrow_dependent();
        let mut rows = view.raw_iterator_cf_opt(family, options);
        rows.seek(self.prefix.key(from));
        while let Some((key, value)) = rows.item() {
            let key = key.get(PREFIX_BYTES..).unwrap_or_default();
            if visit(key, value).is_break() {
                return Ok(());
            }
            rows.next();
        }
        Ok(rows.status()?)
    }

    /// The meta that matches these rows exactly; `None` if the replica never wrote.
    #[must_use]
    pub fn meta(&self) -> Option<&Bytes> {
        self.meta.as_ref()
    }

    /// The rows as checksummed chunks of about `bytes_max` bytes; a larger row goes alone. Each step blocks on the disk.
    #[must_use]
    pub fn chunks(self: &Arc<Self>, bytes_max: usize) -> SnapshotChunks {
        SnapshotChunks {
            snapshot: self.clone(),
            bytes_max,
            number: 0,
            rows: 0,
            digest: RowsDigest::default(),
            next: Next::Rows {
                table: Table::Blocks,
                key: self.prefix.0.to_vec(),
            },
        }
    }
}

enum Next {
    /// Rows of `table` from the full key `key` on.
    Rows {
        table: Table,
        key: Vec<u8>,
    },
    End,
    Nothing,
}

/// A snapshot's chunks, in order; the last one says that it is the last.
pub struct SnapshotChunks {
    snapshot: Arc<StateSnapshot>,
    bytes_max: usize,
    number: u64,
    rows: u64,
    digest: RowsDigest,
    next: Next,
}

impl SnapshotChunks {
    /// Over all rows that were read so far: what [`super::Installer::digest`] is to be.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest.value()
    }

    /// The next chunk of `table`, if it has rows from `key` on; sets where to go on.
    fn table_chunk(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let frozen = &self.snapshot.frozen;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.snapshot.prefix.end());
        options.fill_cache(false);
        let family = column_family(frozen.borrow_owner(), family(table));
        let mut rows = frozen
            .borrow_dependent()
            .raw_iterator_cf_opt(family, options);
        rows.seek(key);
        let mut chunk = ChunkWriter::new(table, self.number);
        let mut next = match table {
            Table::Blocks => Next::Rows {
                table: Table::Rows,
                key: self.snapshot.prefix.0.to_vec(),
            },
            Table::Rows => Next::End,
        };
        while let Some((key, value)) = rows.item() {
            let own_key = key.get(PREFIX_BYTES..).unwrap_or_default();
            if !chunk.has_room(own_key, value, self.bytes_max) {
                next = Next::Rows {
                    table,
                    key: key.to_vec(),
                };
                break;
            }
            // Of the store's own memory, as the chunk's checksum.
            self.digest.row(table, own_key, value);
            chunk.push(own_key, value);
            rows.next();
        }
        rows.status()?;
        self.next = next;
        self.rows += chunk.rows();
        Ok((chunk.rows() > 0).then(|| chunk.finish()))
    }
}

impl Iterator for SnapshotChunks {
    type Item = Result<Bytes, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let chunk = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Rows { table, key } => self.table_chunk(table, &key).transpose(),
                Next::End => Some(Ok(end_chunk(self.number, self.rows))),
                Next::Nothing => return None,
            };
            if let Some(chunk) = chunk {
                self.number += 1;
                return Some(chunk.map(Bytes::from));
            }
        }
    }
}
