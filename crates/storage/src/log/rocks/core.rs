//! What all parts of one engine share: the queue, the database while it is open, counters, the failure. Not here: who writes (`writer`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use rocksdb::{ColumnFamily, DB};
use tokio::sync::watch;

use super::queue::Queue;
use crate::log::contract::LogError;
use crate::log::options::{LogOptions, LogStats};

pub(super) struct Core {
    pub(super) queue: Queue,
    pub(super) tail_cache_bytes_max: usize,
    /// Taken out by `close`, so that the directory is free again whoever still holds a group.
    database: RwLock<Option<Arc<DB>>>,
    tail_bytes: AtomicUsize,
    stamps: AtomicU64,
    failed: watch::Sender<Option<Arc<str>>>,
    syncs: AtomicU64,
    batches: AtomicU64,
    bytes_written: AtomicU64,
    records: AtomicU64,
}

/// One written batch, for the counters.
pub(super) struct Written {
    pub(super) synced: bool,
    pub(super) bytes: usize,
    pub(super) records: usize,
}

impl Core {
    pub(super) fn new(database: Arc<DB>, options: &LogOptions) -> Self {
        Self {
            queue: Queue::new(options.queue_bytes),
            tail_cache_bytes_max: options.tail_cache_bytes,
            database: RwLock::new(Some(database)),
            tail_bytes: AtomicUsize::new(0),
            stamps: AtomicU64::new(0),
            failed: watch::Sender::new(None),
            syncs: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            records: AtomicU64::new(0),
        }
    }

    /// The database, as long as the engine neither failed nor was closed.
    pub(super) fn database(&self) -> Result<Arc<DB>, LogError> {
        if let Some(cause) = &*self.failed.borrow() {
            return Err(LogError::Failed(cause.clone()));
        }
        self.database.read().clone().ok_or(LogError::Closed)
    }

    pub(super) fn release_database(&self) {
        *self.database.write() = None;
    }

    pub(super) fn next_stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn tail_grew(&self, bytes: usize) {
        self.tail_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn tail_shrank(&self, bytes: usize) {
        self.tail_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn tail_bytes(&self) -> usize {
        self.tail_bytes.load(Ordering::Relaxed)
    }

    /// Nothing is written any more. The first cause stays.
    pub(super) fn poison(&self, cause: &Arc<str>) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| cause.clone());
            first
        });
        self.queue.close(LogError::Failed(cause.clone()));
    }

    pub(super) fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.failed.subscribe()
    }

    pub(super) fn count(&self, written: &Written) {
        self.syncs
            .fetch_add(u64::from(written.synced), Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.bytes_written
            .fetch_add(written.bytes as u64, Ordering::Relaxed);
        self.records
            .fetch_add(written.records as u64, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> LogStats {
        LogStats {
            syncs: self.syncs.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes_rewritten: 0,
        }
    }
}

/// A column family that was named when the database was opened.
pub(super) fn column_family<'a>(database: &'a DB, name: &str) -> &'a ColumnFamily {
    database
        .cf_handle(name)
        .expect("column families are opened with the database")
}
