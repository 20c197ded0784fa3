//! One replica's rows: reads, atomic writes, what is known to be durable. Not here: snapshots (`snapshot`, `install`).

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use rocksdb::{DB, ReadOptions, WriteBatch};
use warren_types::{GroupId, ReplicaId};

use super::contract::{RowBatch, RowOp, Table};
use super::database::column_family;
use super::error::StateError;
use super::install::Installer;
use super::layout::{
    About, Epoch, META, PREFIX_BYTES, Prefix, RowsLife, about_key, decode_current, decode_meta,
    encode_current, encode_meta, encode_proven, family,
};
use super::snapshot::StateSnapshot;
use super::store::Shared;

/// What the key, checksum and framing of a meta take at most.
const META_FRAMING_BYTES: usize = 96;

/// What all handles of one replica share.
pub(super) struct Replica {
    pub(super) group: GroupId,
    pub(super) id: ReplicaId,
    current: RwLock<Current>,
}

struct Current {
    epoch: Epoch,
    meta: Option<Bytes>,
    durable_meta: Option<Bytes>,
    installed_meta: Option<Bytes>,
    removed: bool,
}

impl Replica {
    pub(super) fn new(group: GroupId, id: ReplicaId, epoch: Epoch) -> Self {
        let current = Current {
            epoch,
            meta: None,
            durable_meta: None,
            installed_meta: None,
            removed: false,
        };
        Self {
            group,
            id,
            current: RwLock::new(current),
        }
    }

    /// Reads what the database holds of a group's replica. Only right before its first write: then all of it is durable.
    pub(super) fn read(database: &DB, group: GroupId) -> Result<Option<Self>, StateError> {
        let read = |about| -> Result<Option<Vec<u8>>, StateError> {
            Ok(database.get_cf(column_family(database, META), about_key(about, group))?)
        };
        let damaged = |about: About| {
            StateError::damaged(format!("{about:?} of group {group} fails its checksum"))
        };
        let meta = |about| -> Result<Option<Bytes>, StateError> {
            let Some(value) = read(about)? else {
                return Ok(None);
            };
            decode_meta(&about_key(about, group), &value)
                .ok_or_else(|| damaged(about))
                .map(Some)
        };
        let Some(value) = read(About::Current)? else {
            return Ok(None);
        };
        let (epoch, id) = decode_current(&about_key(About::Current, group), &value)
            .ok_or_else(|| damaged(About::Current))?;
        let applied = meta(About::Meta)?;
        let installed_meta = meta(About::Installed)?;
        let current = Current {
            epoch,
            durable_meta: applied.clone(),
            meta: applied,
            installed_meta,
            removed: false,
        };
        Ok(Some(Self {
            group,
            id,
            current: RwLock::new(current),
        }))
    }

    pub(super) fn meta(&self) -> Option<Bytes> {
        self.current.read().meta.clone()
    }

    /// A flush that began when `meta` was the last written one is complete.
    pub(super) fn flushed(&self, meta: Option<Bytes>) {
        self.current.write().durable_meta = meta;
    }

    pub(super) fn remove(&self) {
        self.current.write().removed = true;
    }

    fn prefix(&self) -> Result<Prefix, StateError> {
        let current = self.current.read();
        if current.removed {
            return Err(StateError::Removed(self.group));
        }
        Ok(Prefix::new(self.group, current.epoch))
    }
}

/// One replica's rows (cheap clone; handles share one state). Writes come from one thread at a time.
/// Every call but the metas may block on the disk.
#[derive(Clone)]
pub struct ReplicaState {
    shared: Arc<Shared>,
    replica: Arc<Replica>,
}

impl ReplicaState {
    pub(super) fn new(shared: Arc<Shared>, replica: Arc<Replica>) -> Self {
        Self { shared, replica }
    }

    #[must_use]
    pub fn group(&self) -> GroupId {
        self.replica.group
    }

    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.replica.id
    }

    /// # Errors
    /// [`StateError::Damaged`] if what RocksDB holds does not match its checksum.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let database = self.shared.database()?;
        let key = self.replica.prefix()?.key(key);
        Ok(database
            .get_cf(column_family(&database, family(table)), key)?
            .map(Bytes::from))
    }

    /// Visits the rows of `[from, to)` in key order, as of now, until `visit` breaks.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        self.visit(table, from, to, Direction::Forward, visit)
    }

    /// Same, from the last row backwards.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        self.visit(table, from, to, Direction::Backward, visit)
    }

    fn visit(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        if from >= to {
            return Ok(());
        }
        let database = self.shared.database()?;
        let prefix = self.replica.prefix()?;
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(prefix.key(from));
        options.set_iterate_upper_bound(prefix.key(to));
        let mut rows =
            database.raw_iterator_cf_opt(column_family(&database, family(table)), options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Backward => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item() {
            let key = key.get(PREFIX_BYTES..).unwrap_or_default();
            if visit(key, value).is_break() {
                break;
            }
            match direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.prev(),
            }
        }
        Ok(rows.status()?)
    }

    /// Writes `rows` and `meta` (how far the replica has applied, and its membership; opaque here) as one atomic batch, without sync.
    ///
    /// # Errors
    /// [`StateError::Failed`]: then [`StateStore::failed`](super::StateStore::failed) says so too and the process must exit.
    pub fn write(&self, rows: RowBatch, meta: Bytes) -> Result<(), StateError> {
        let database = self.shared.database()?;
        let mut current = self.replica.current.write();
        if current.removed {
            return Err(StateError::Removed(self.replica.group));
        }
        let prefix = Prefix::new(self.replica.group, current.epoch);
        // A batch that grows copies what it holds.
        let bytes: usize = rows.ops.iter().map(RowOp::batch_bytes).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes + META_FRAMING_BYTES + meta.len());
        let mut deleted = Vec::new();
        for operation in rows.ops {
            add(&database, &mut batch, prefix, &operation);
            if let RowOp::DeleteRange {
                table: Table::Blocks,
                from,
                to,
            } = operation
            {
                deleted.push((from, to));
            }
        }
        let key = about_key(About::Meta, self.replica.group);
        batch.put_cf(
            column_family(&database, META),
            key,
            encode_meta(&key, &meta),
        );
        self.shared.write(&database, batch)?;
        for (from, to) in deleted {
            self.shared
                .deleted
                .lock()
                .note(prefix.key(&from), prefix.key(&to));
        }
        current.meta = Some(meta);
        Ok(())
    }

    /// Meta of the last write or install.
    #[must_use]
    pub fn meta(&self) -> Option<Bytes> {
        self.replica.meta()
    }

    /// Meta that is surely on disk: of the last completed flush, after an opening what was found. RocksDB may have flushed more by itself.
    #[must_use]
    pub fn durable_meta(&self) -> Option<Bytes> {
        self.replica.current.read().durable_meta.clone()
    }

    /// Meta with which a snapshot was installed last, if one was. It explains a log that ends before what is applied.
    #[must_use]
    pub fn installed_meta(&self) -> Option<Bytes> {
        self.replica.current.read().installed_meta.clone()
    }

    /// Rows and meta as they are now, frozen. Costs nothing in proportion to the rows.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn snapshot(&self) -> Result<StateSnapshot, StateError> {
        self.replica.prefix()?;
        StateSnapshot::new(self.shared.database()?, self.replica.group)
    }

    /// Remembers that the rows of this life are those of most replicas. Not synced: what a crash takes is found again. False: they
    /// have another life meanwhile.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn prove(&self, life: RowsLife) -> Result<bool, StateError> {
        let database = self.shared.database()?;
        let current = self.replica.current.write();
        if current.removed {
            return Err(StateError::Removed(self.replica.group));
        }
        if current.epoch != life.0 {
            return Ok(false);
        }
        let key = about_key(About::Proven, self.replica.group);
        let mut batch = WriteBatch::default();
        let family = column_family(&database, META);
        batch.put_cf(family, key, encode_proven(&key, life.0));
        self.shared.write(&database, batch)?;
        Ok(true)
    }

    /// Receives a snapshot beside the rows; nothing of them changes until it is finished.
    ///
    /// # Errors
    /// [`StateError::Failed`] if its place on disk cannot be made.
    pub fn installer(&self) -> Result<Installer, StateError> {
        self.replica.prefix()?;
        Installer::new(self.clone(), self.shared.clone())
    }

    /// Makes `epoch` the replica's rows, with `meta`; returns the epoch they replace. Durable only after a flush.
    pub(super) fn switch(&self, epoch: Epoch, meta: Bytes) -> Result<Prefix, StateError> {
        let database = self.shared.database()?;
        let group = self.replica.group;
        let mut current = self.replica.current.write();
        if current.removed {
            return Err(StateError::Removed(group));
        }
        let about = column_family(&database, META);
        let mut batch = WriteBatch::default();
        let key = about_key(About::Current, group);
        batch.put_cf(about, key, encode_current(&key, epoch, self.replica.id));
        for about_meta in [About::Meta, About::Installed] {
            let key = about_key(about_meta, group);
            batch.put_cf(about, key, encode_meta(&key, &meta));
        }
        self.shared.write(&database, batch)?;
        let replaced = Prefix::new(group, current.epoch);
        current.epoch = epoch;
        current.installed_meta = Some(meta.clone());
        current.meta = Some(meta);
        Ok(replaced)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

fn add(database: &DB, batch: &mut WriteBatch, prefix: Prefix, operation: &RowOp) {
    match operation {
        RowOp::Put { table, key, value } => {
            batch.put_cf(
                column_family(database, family(*table)),
                prefix.key(key),
                value,
            );
        }
        RowOp::Delete {
            table: Table::Blocks,
            key,
        } => {
            batch.single_delete_cf(
                column_family(database, family(Table::Blocks)),
                prefix.key(key),
            );
        }
        RowOp::Delete {
            table: Table::Rows,
            key,
        } => {
            batch.delete_cf(
                column_family(database, family(Table::Rows)),
                prefix.key(key),
            );
        }
        // RocksDB refuses a range that ends before it begins only when it is applied: too late for a batch that was written.
        RowOp::DeleteRange { table, from, to } if from < to => {
            batch.delete_range_cf(
                column_family(database, family(*table)),
                prefix.key(from),
                prefix.key(to),
            );
        }
        RowOp::DeleteRange { .. } => {}
    }
}
