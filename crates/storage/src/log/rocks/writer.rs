//! The one thread that writes: takes what all groups queued, writes it as one batch with one sync, answers in order.
//! Not here: what is readable before (`group`), the queue's bound (`queue`).
//!
//! There is no timer: while one batch is being synced the next one forms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::{DB, WriteBatch, WriteOptions};
use warren_types::{GroupId, LogIndex};

use super::core::{Core, Written, column_family};
use super::format::{
    ENTRIES, FIELDS, Field, GROUPS, encode_log_id, encode_record, encode_replica, encode_vote,
    entry_key, field_key,
};
use super::group::Group;
use super::queue::Operation;
use crate::log::acked::Acked;
use crate::log::contract::LogError;

/// A batch takes no more operations beyond this.
const BATCH_BYTES: usize = 8 << 20;
/// How long operations that nobody waits for may lie in the queue, and marks in memory.
const PATIENCE: Duration = Duration::from_millis(50);
const ACKED_SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// Up to so many entries are deleted one by one: a range tombstone costs every later read a little.
const POINT_DELETES_MAX: u64 = 64;

pub(super) type Groups = Mutex<BTreeMap<GroupId, Arc<Group>>>;

/// Where batches go. The seam at which tests let the disk fail: RocksDB itself has none.
pub(super) trait Sink: Send {
    fn write(&mut self, batch: WriteBatch, sync: bool) -> Result<(), String>;
}

pub(super) struct RocksSink(pub(super) Arc<DB>);

impl Sink for RocksSink {
    fn write(&mut self, batch: WriteBatch, sync: bool) -> Result<(), String> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.0
            .write_opt(batch, &options)
            .map_err(rocksdb::Error::into_string)
    }
}

pub(super) struct Writer {
    pub(super) core: Arc<Core>,
    pub(super) groups: Arc<Groups>,
    pub(super) database: Arc<DB>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) acked: Acked,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut acked_written = Instant::now();
        let mut acked_synced = Instant::now();
        loop {
            let taken = self.core.queue.take(BATCH_BYTES, PATIENCE);
            if !taken.operations.is_empty() {
                self.round(taken.operations);
            }
            let now = Instant::now();
            if taken.closed || now.duration_since(acked_synced) >= ACKED_SYNC_INTERVAL {
                acked_synced = now;
                self.keep_marks(Acked::sync);
            } else if now.duration_since(acked_written) >= PATIENCE {
                acked_written = now;
                self.keep_marks(Acked::write);
            }
            if taken.closed {
                return;
            }
            self.evict();
        }
    }

    fn keep_marks(&mut self, keep: impl FnOnce(&mut Acked) -> std::io::Result<()>) {
        if (self.acked.is_behind() || self.acked.is_unsynced())
            && let Err(error) = keep(&mut self.acked)
        {
            self.poison(&format!("acknowledged marks: {error}"));
        }
    }

    fn round(&mut self, operations: Vec<Operation>) {
        let (void, operations): (Vec<_>, Vec<_>) =
            operations.into_iter().partition(Operation::is_void);
        void.into_iter()
            .for_each(|operation| operation.fail(&LogError::Closed));
        match self.write(&operations) {
            Ok(()) => operations
                .into_iter()
                .for_each(|operation| self.complete(operation)),
            Err(error) => operations
                .into_iter()
                .for_each(|operation| operation.fail(&error)),
        }
    }

    fn write(&mut self, operations: &[Operation]) -> Result<(), LogError> {
        if let Some(error @ LogError::Failed(_)) = self.core.queue.closed() {
            return Err(error);
        }
        let mut lowered = false;
        for operation in operations {
            lowered |= match operation {
                Operation::Truncate { group, kept, .. } => self.acked.lower(group.id, *kept),
                Operation::Remove { group, .. } => self.acked.lower(*group, LogIndex(0)),
                Operation::Append { .. }
                | Operation::Vote { .. }
                | Operation::Committed { .. }
                | Operation::Purge { .. }
                | Operation::Create { .. }
                | Operation::Barrier { .. } => false,
            };
        }
        // Before the log can be shorter, or a crash in between would look like damage.
        if lowered && let Err(error) = self.acked.sync() {
            return Err(self.poison(&format!("acknowledged marks: {error}")));
        }
        let mut batch = WriteBatch::default();
        let mut value = Vec::new();
        let mut records = 0;
        for operation in operations {
            records += encode(&self.database, operation, &mut batch, &mut value);
        }
        let synced = operations.iter().any(Operation::needs_sync);
        if batch.is_empty() {
            return Ok(());
        }
        let written = Written {
            synced,
            bytes: batch.size_in_bytes(),
            records,
        };
        self.sink
            .write(batch, synced)
            .map_err(|error| self.poison(&error))?;
        self.core.count(&written);
        Ok(())
    }

    /// Answers one operation that is on disk.
    fn complete(&mut self, operation: Operation) {
        match operation {
            Operation::Append {
                group,
                records,
                done,
            } => {
                let reached = group.appended(&records);
                done(Ok(()));
                if let Some(index) = reached {
                    self.acked.raise(group.id, index);
                }
            }
            Operation::Vote { group, vote, done } => {
                group.voted(vote);
                done(Ok(()));
            }
            Operation::Create { done, .. }
            | Operation::Remove { done, .. }
            | Operation::Barrier { done } => {
                done(Ok(()));
            }
            Operation::Truncate { .. } | Operation::Committed { .. } | Operation::Purge { .. } => {}
        }
    }

    /// The disk failed once: what it holds is unknown from here on, so nothing is tried again.
    fn poison(&self, cause: &str) -> LogError {
        let cause: Arc<str> = cause.into();
        tracing::error!(%cause, "log engine failed");
        self.core.poison(&cause);
        for group in self.groups.lock().values() {
            group.poison();
        }
        LogError::Failed(cause)
    }

    /// Frees the oldest durable records of all groups until a tenth of the budget is free again.
    fn evict(&self) {
        let target = self.core.tail_cache_bytes_max / 10 * 9;
        if self.core.tail_bytes() <= self.core.tail_cache_bytes_max {
            return;
        }
        let groups: Vec<Arc<Group>> = self.groups.lock().values().cloned().collect();
        while self.core.tail_bytes() > target {
            let mut oldest: Vec<(u64, &Arc<Group>)> = groups
                .iter()
                .filter_map(|group| Some((group.oldest_evictable()?, group)))
                .collect();
            oldest.sort_by_key(|(stamp, _)| *stamp);
            let Some((stamp, group)) = oldest.first() else {
                return;
            };
            // Up to where the next group's oldest begins, and at least a few records at a time.
            let next = oldest.get(1).map_or(u64::MAX, |(stamp, _)| *stamp);
            group.evict(next.min(stamp.saturating_add(64)));
        }
    }
}

/// Adds one operation to the batch; returns how many records it holds. `value` is scratch space.
fn encode(
    database: &DB,
    operation: &Operation,
    batch: &mut WriteBatch,
    value: &mut Vec<u8>,
) -> usize {
    let entries = column_family(database, ENTRIES);
    let fields = column_family(database, GROUPS);
    match operation {
        Operation::Append { group, records, .. } => {
            for record in records {
                let key = entry_key(group.id, record.id.index);
                encode_record(&key, record, value);
                batch.put_cf(entries, key, &value);
            }
            return records.len();
        }
        Operation::Vote { group, vote, .. } => {
            let key = field_key(group.id, Field::Vote);
            batch.put_cf(fields, key, encode_vote(&key, *vote));
        }
        Operation::Truncate { group, kept, last } => {
            delete_entries(database, batch, group.id, kept.0.saturating_add(1), last.0);
        }
        Operation::Committed { group, committed } => {
            let key = field_key(group.id, Field::Committed);
            match committed {
                Some(id) => batch.put_cf(fields, key, encode_log_id(&key, *id)),
                None => batch.delete_cf(fields, key),
            }
        }
        Operation::Purge { group, from, upto } => {
            delete_entries(database, batch, group.id, from.0, upto.index.0);
            let key = field_key(group.id, Field::Purged);
            batch.put_cf(fields, key, encode_log_id(&key, *upto));
        }
        Operation::Create { group, replica, .. } => {
            let key = field_key(*group, Field::Replica);
            batch.put_cf(fields, key, encode_replica(&key, *replica));
        }
        Operation::Remove { group, .. } => {
            batch.delete_range_cf(
                entries,
                entry_key(*group, LogIndex(0)),
                entry_key(*group, LogIndex(u64::MAX)),
            );
            FIELDS
                .iter()
                .for_each(|field| batch.delete_cf(fields, field_key(*group, *field)));
        }
        Operation::Barrier { .. } => {}
    }
    0
}

fn delete_entries(database: &DB, batch: &mut WriteBatch, group: GroupId, first: u64, last: u64) {
    let entries = column_family(database, ENTRIES);
    if last.saturating_sub(first) < POINT_DELETES_MAX {
        for index in first..=last {
            batch.delete_cf(entries, entry_key(group, LogIndex(index)));
        }
    } else {
        let end = LogIndex(last.saturating_add(1));
        batch.delete_range_cf(
            entries,
            entry_key(group, LogIndex(first)),
            entry_key(group, end),
        );
    }
}
