//! The node's applied state as a whole: opening, flushing, which replicas there are. Not here: one replica's rows (`replica`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use rocksdb::{DB, FlushOptions, WriteBatch};
use tokio::sync::watch;
use warren_types::{GroupId, ReplicaId};

use super::contract::Table;
use super::database::{self, StateOptions, column_family};
use super::deleted::DeletedRanges;
use super::epochs::Epochs;
use super::error::StateError;
use super::garbage;
use super::layout::{
    ABOUT, About, Epoch, FAMILIES, META, Prefix, TABLES, about_key, current_group, decode_current,
    encode_current, family, last_key,
};
use super::replica::{Replica, ReplicaState};
use crate::files::create_directory;
use crate::log::direct::is_possible_in;

/// The node's applied state (cheap clone). Every call may block on the disk: none belongs on a runtime thread.
#[derive(Clone)]
pub struct StateStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    database: RwLock<Option<Arc<DB>>>,
    epochs: Mutex<Epochs>,
    replicas: Mutex<BTreeMap<GroupId, Arc<Replica>>>,
    /// Held during a flush, so that what is known to be durable only moves forward.
    flushing: Mutex<()>,
    /// Whether compactions collect garbage of the blob files, if that is known.
    pub(super) collecting: Mutex<Option<bool>>,
    pub(super) deleted: Mutex<DeletedRanges>,
    failed: watch::Sender<Option<Arc<str>>>,
    /// It failed because something on the disk is not what was written.
    is_damaged: AtomicBool,
    /// Where snapshots are received.
    install_dir: PathBuf,
}

impl StateStore {
    /// Opens or creates the store in `dir` and drops what replicas left behind: snapshots half received, epochs that are not current.
    ///
    /// # Errors
    /// [`StateError::Damaged`] or [`StateError::Failed`] with the path or RocksDB's text.
    pub fn open(dir: &Path, options: StateOptions) -> Result<Self, StateError> {
        let path = dir.join("rocks");
        let install_dir = dir.join("install");
        create_directory(dir)?;
        let epochs = Epochs::open(&dir.join("epochs"), !path.exists())?;
        if install_dir.exists() {
            std::fs::remove_dir_all(&install_dir)?;
        }
        create_directory(&install_dir)?;
        let options = StateOptions {
            direct: options.direct && is_possible_in(&install_dir),
            ..options
        };
        let database = database::open(&path, &options)?;
        let deleted = Mutex::default();
        drop_stale_epochs(&database, &deleted)?;
        let shared = Shared {
            database: RwLock::new(Some(Arc::new(database))),
            epochs: Mutex::new(epochs),
            replicas: Mutex::default(),
            flushing: Mutex::new(()),
            collecting: Mutex::new(Some(false)),
            deleted,
            failed: watch::Sender::new(None),
            is_damaged: AtomicBool::new(false),
            install_dir,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Opens the rows of `group` for `replica`, empty if there are none. All handles of a group share one state.
    ///
    /// # Errors
    /// [`StateError::WrongReplica`] if the rows are another replica's.
    pub fn replica(&self, group: GroupId, replica: ReplicaId) -> Result<ReplicaState, StateError> {
        let mut replicas = self.shared.replicas.lock();
        let opened = match replicas.get(&group) {
            Some(open) => open.clone(),
            None => {
                let opened = Arc::new(self.shared.open_replica(group, replica)?);
                replicas.insert(group, opened.clone());
                opened
            }
        };
        if opened.id != replica {
            return Err(StateError::WrongReplica {
                group,
                found: opened.id,
                expected: replica,
            });
        }
        Ok(ReplicaState::new(self.shared.clone(), opened))
    }

    /// Makes everything written before the call durable, over all tables and groups at once.
    ///
    /// # Errors
    /// [`StateError::Failed`]: then [`failed`](Self::failed) says so too and the process must exit.
    pub fn flush(&self) -> Result<(), StateError> {
        self.shared.flush()
    }

    /// Removes a group's rows for good; durable when it returns. Handles of it fail from now on.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn remove_group(&self, group: GroupId) -> Result<(), StateError> {
        let database = self.shared.database()?;
        let mut replicas = self.shared.replicas.lock();
        if let Some(open) = replicas.remove(&group) {
            open.remove();
        }
        let mut batch = WriteBatch::default();
        for about in ABOUT {
            batch.delete_cf(column_family(&database, META), about_key(about, group));
        }
        let first = Prefix::new(group, Epoch(0)).0.to_vec();
        let end = Prefix::new(group, Epoch(u64::MAX)).end();
        for table in TABLES {
            batch.delete_range_cf(column_family(&database, family(table)), &first, &end);
        }
        self.shared.write(&database, batch)?;
        self.shared.deleted.lock().note(first, end);
        drop(replicas);
        self.shared.flush()
    }

    /// Follows the store's failure: once it is `Some(cause)` the process must exit.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.failed.subscribe()
    }

    /// Whether it failed because something on the disk is not what was written; known before [`failed`](Self::failed) tells.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.shared.is_damaged.load(Ordering::Acquire)
    }

    /// Rows of all epochs of all groups.
    #[cfg(test)]
    pub(super) fn row_count(&self) -> usize {
        let database = self.shared.database().unwrap();
        let count = |table| {
            let family = column_family(&database, family(table));
            database
                .iterator_cf(family, rocksdb::IteratorMode::Start)
                .map(Result::unwrap)
                .count()
        };
        TABLES.into_iter().map(count).sum()
    }

    /// To be called now and then: space of queues and replicas that are gone is given back, and what only dead message blocks hold when it is
    /// as much as living ones hold. May take seconds for hundreds of gigabytes.
    ///
    /// # Errors
    /// [`StateError::Closed`]; [`StateError::Failed`]: what was deleted is left to RocksDB, the rest is tried again with the next call.
    pub fn tend(&self) -> Result<(), StateError> {
        let database = self.shared.database()?;
        let deleted = self.shared.deleted.lock().take();
        deleted.compact(&database)?;
        garbage::tend(&database, &mut self.shared.collecting.lock())
    }

    /// Compacts everything, which drops what is deleted or replaced. Takes as long as it takes.
    ///
    /// # Errors
    /// [`StateError::Closed`].
    pub fn compact(&self) -> Result<(), StateError> {
        let database = self.shared.database()?;
        for name in FAMILIES {
            database.compact_range_cf(column_family(&database, name), None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    /// Flushes and closes; later calls, through whatever handle, fail with [`StateError::Closed`].
    /// The directory is free once snapshots and calls under way are gone, too.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); the store is closed all the same.
    pub fn close(&self) -> Result<(), StateError> {
        let flushed = self.flush();
        if let Some(database) = self.shared.database.write().take() {
            // Compactions are not waited for: what they do is done again.
            database.cancel_all_background_work(false);
        }
        flushed
    }
}

impl Shared {
    pub(super) fn database(&self) -> Result<Arc<DB>, StateError> {
        self.database.read().clone().ok_or(StateError::Closed)
    }

    pub(super) fn install_dir(&self) -> &Path {
        &self.install_dir
    }

    pub(super) fn allot_epoch(&self) -> Result<Epoch, StateError> {
        self.epochs.lock().allot()
    }

    pub(super) fn write(&self, database: &DB, batch: WriteBatch) -> Result<(), StateError> {
        database::write(database, batch).map_err(|error| self.fail(error))
    }

    pub(super) fn flush(&self) -> Result<(), StateError> {
        let database = self.database()?;
        let _one_at_a_time = self.flushing.lock();
        let replicas: Vec<Arc<Replica>> = self.replicas.lock().values().cloned().collect();
        let written: Vec<_> = replicas.iter().map(|replica| replica.meta()).collect();
        let families = FAMILIES.map(|name| column_family(&database, name));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        database
            .flush_cfs_opt(&families, &options)
            .map_err(|error| self.fail(error))?;
        for (replica, meta) in replicas.iter().zip(written) {
            replica.flushed(meta);
        }
        Ok(())
    }

    /// A write or flush failed: what RocksDB holds is unknown from here on. The first cause stays.
    fn fail(&self, error: rocksdb::Error) -> StateError {
        if error.kind() == rocksdb::ErrorKind::Corruption {
            self.is_damaged.store(true, Ordering::Release);
        }
        let cause: Arc<str> = error.into_string().into();
        tracing::error!(%cause, "state store failed");
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| cause.clone());
            first
        });
        StateError::Failed(cause)
    }

    fn open_replica(&self, group: GroupId, replica: ReplicaId) -> Result<Replica, StateError> {
        let database = self.database()?;
        if let Some(found) = Replica::read(&database, group)? {
            return Ok(found);
        }
        let epoch = self.allot_epoch()?;
        let key = about_key(About::Current, group);
        let mut batch = WriteBatch::default();
        batch.put_cf(
            column_family(&database, META),
            key,
            encode_current(&key, epoch, replica),
        );
        self.write(&database, batch)?;
        Ok(Replica::new(group, replica, epoch))
    }
}

/// Deletes the rows of all epochs that are not their group's current one.
fn drop_stale_epochs(database: &DB, deleted: &Mutex<DeletedRanges>) -> Result<(), StateError> {
    let mut current = Vec::new();
    let mut rows = database.raw_iterator_cf(column_family(database, META));
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        if let Some(group) = current_group(key) {
            let (epoch, _) = decode_current(key, value)
                .ok_or_else(|| StateError::damaged(format!("current epoch of group {group}")))?;
            current.push(Prefix::new(group, epoch));
        }
        rows.next();
    }
    rows.status()?;
    let mut gap = Vec::new();
    for prefix in current {
        delete_rows(database, deleted, &gap, &prefix.0)?;
        gap = prefix.end();
    }
    delete_rows(database, deleted, &gap, &last_key())
}

/// Deletes `[from, to)` from all tables, where there is something to delete.
pub(super) fn delete_rows(
    database: &DB,
    deleted: &Mutex<DeletedRanges>,
    from: &[u8],
    to: &[u8],
) -> Result<(), StateError> {
    for table in TABLES {
        let family = column_family(database, family(table));
        let mut rows = database.raw_iterator_cf(family);
        rows.seek(from);
        rows.status()?;
        if rows.key().is_some_and(|key| key < to) {
            let mut batch = WriteBatch::default();
            batch.delete_range_cf(family, from, to);
            database::write(database, batch)?;
            if table == Table::Blocks {
                deleted.lock().note(from, to);
            }
        }
    }
    Ok(())
}
