//! What all parts of one engine share: the queue, counters, the failure. Not here: who writes (`writer`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;

use super::queue::Queue;
use crate::log::contract::LogError;
use crate::log::options::{LogOptions, LogStats};

pub(super) struct Core {
    pub(super) queue: Queue,
    pub(super) tail_cache_bytes_max: usize,
    tail_bytes: AtomicUsize,
    stamps: AtomicU64,
    failed: watch::Sender<Option<Arc<str>>>,
    closed: AtomicBool,
    pub(super) counters: Counters,
}

/// What has been done since the engine was opened.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) batches: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) bytes_rewritten: AtomicU64,
    /// Bytes of all segment files, spare ones too.
    pub(super) bytes_used: AtomicU64,
    pub(super) bytes_scrubbed: AtomicU64,
    pub(super) segments_scrubbed: AtomicU64,
    /// Segments that the scrub found damaged.
    pub(super) damage_found: AtomicU64,
    /// The disk took no more when the writer last asked.
    pub(super) full: AtomicBool,
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Core {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            queue: Queue::new(options.queue_bytes),
            tail_cache_bytes_max: options.tail_cache_bytes,
            tail_bytes: AtomicUsize::new(0),
            stamps: AtomicU64::new(0),
            failed: watch::Sender::new(None),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    /// Refuses once the engine failed or was closed.
    pub(super) fn check_open(&self) -> Result<(), LogError> {
        if let Some(cause) = &*self.failed.borrow() {
            return Err(LogError::Failed(cause.clone()));
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(LogError::Closed);
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
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

    pub(super) fn stats(&self) -> LogStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogStats {
            syncs: read(&self.counters.batches),
            batches: read(&self.counters.batches),
            bytes_written: read(&self.counters.bytes_written),
            records: read(&self.counters.records),
            bytes_rewritten: read(&self.counters.bytes_rewritten),
        }
    }
}
