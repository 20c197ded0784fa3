//! The one thread that writes: takes what all groups queued, writes it as one batch with one sync, answers in order; between
//! batches it keeps the files in order. Not here: what is visible before (`handle`), the files (`files`), the bytes (`batch`).
//!
//! There is no timer before a sync: while one batch is being synced the next one forms.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use warren_types::{GroupId, LogIndex};

use super::batch::Batch;
use super::core::{Core, add};
use super::files::{SegmentFiles, WriteError, Written};
use super::format::{CheckpointGroup, Kind};
use super::group::Group;
use super::queue::{Change, Operation, Patience};
use super::relog::{Relog, Rewrite};
use super::replay;
use super::segment::Span;
use super::vote_mark;
use crate::log::acked::Acked;
use crate::log::contract::LogError;

/// A batch takes no more operations beyond this.
const BATCH_BYTES: usize = 8 << 20;
/// How long operations that nobody waits for may lie in the queue, and marks in memory.
const PATIENCE: Duration = Duration::from_millis(100);
const ACKED_SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// How long a full disk is left alone before it is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// Same, while there is still room in the active segment.
const FULL_RETRY: Duration = Duration::from_secs(1);

pub(super) type Groups = Mutex<BTreeMap<GroupId, Arc<Group>>>;

pub(super) struct Writer {
    pub(super) core: Arc<Core>,
    /// Those that are open, for poison and eviction.
    pub(super) groups: Arc<Groups>,
    /// Those that are on disk.
    pub(super) written: BTreeMap<GroupId, Arc<Group>>,
    pub(super) files: SegmentFiles,
    pub(super) acked: Acked,
    pub(super) batch: Batch,
    pub(super) relog: Relog,
    pub(super) acked_at: Instant,
    pub(super) acked_synced_at: Instant,
    /// When there was no space for the next segment.
    pub(super) full_at: Option<Instant>,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut patience = Patience::Some(PATIENCE);
        loop {
            let taken = self.core.queue.take(BATCH_BYTES, patience);
            let rested = taken.operations.is_empty() && patience != Patience::None;
            // It takes space before it gives some back.
            let rewrites = if self.may_rewrite() {
                self.relog.step(&self.files, &self.written)
            } else {
                Vec::new()
            };
            if !taken.operations.is_empty() || !rewrites.is_empty() {
                self.round(taken.operations, rewrites);
            }
            if taken.closed {
                self.keep_marks(Acked::sync);
                return;
            }
            self.keep_marks_in_time(rested);
            self.evict();
            let relog = self.may_rewrite() && self.relog.is_due(&self.files);
            let busy = self.maintain() || relog;
            patience = if busy {
                Patience::None
            } else if self.full_at.is_some() {
                Patience::Some(FULL_RETRY)
            } else if rested && !self.acked.is_unsynced() {
                Patience::Endless
            } else {
                Patience::Some(PATIENCE)
            };
        }
    }

    /// On a full disk only what surely fits into the segment that is there already.
    fn may_rewrite(&self) -> bool {
        let oldest = self.files.closed.front();
        let live = oldest.map_or(0, |held| held.segment.live_bytes());
        self.full_at.is_none() || 2 * live < self.files.active.bytes - self.files.offset
    }

    fn keep_marks_in_time(&mut self, rested: bool) {
        let now = Instant::now();
        if rested || now.duration_since(self.acked_synced_at) >= ACKED_SYNC_INTERVAL {
            (self.acked_at, self.acked_synced_at) = (now, now);
            self.keep_marks(Acked::sync);
        } else if now.duration_since(self.acked_at) >= PATIENCE {
            self.acked_at = now;
            self.keep_marks(Acked::write);
        }
    }

    fn keep_marks(&mut self, keep: impl FnOnce(&mut Acked) -> std::io::Result<()>) {
        let failed = matches!(self.core.queue.closed(), Some(LogError::Failed(_)));
        if failed || (!self.acked.is_behind() && !self.acked.is_unsynced()) {
            return;
        }
        match keep(&mut self.acked) {
            Ok(()) => {}
            // They may lag: nothing was synced, and they are written again later.
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            Err(error) => {
                self.poison(&format!("acknowledged marks: {error}"));
            }
        }
    }

    fn round(&mut self, operations: Vec<Operation>, rewrites: Vec<Rewrite>) {
        let (void, operations): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_void);
        void.into_iter()
            .for_each(|operation| operation.answer(Err(LogError::Closed)));
        match self.write(&operations, &rewrites) {
            Ok(written) => self.complete(operations, written.as_ref()),
            Err(error) => operations
                .into_iter()
                .for_each(|operation| operation.answer(Err(error.clone()))),
        }
    }

    fn write(
        &mut self,
        operations: &[Operation],
        rewrites: &[Rewrite],
    ) -> Result<Option<Written>, LogError> {
        if let Some(error @ LogError::Failed(_)) = self.core.queue.closed() {
            return Err(error);
        }
        self.lower_marks(operations)?;
        self.batch.clear();
        for rewrite in rewrites {
            self.batch
                .add_records(Kind::Rewrite, &rewrite.group, &rewrite.records, None);
        }
        // Of the commit marks of one group only the last says something.
        let mut committed = BTreeMap::new();
        for (number, operation) in operations.iter().enumerate() {
            if matches!(operation.change, Change::Committed(_)) {
                committed.insert(operation.group.id, number);
            }
        }
        for (number, operation) in operations.iter().enumerate() {
            let stale = matches!(operation.change, Change::Committed(_))
                && committed.get(&operation.group.id) != Some(&number);
            if !stale {
                self.batch.add(number, operation);
            }
        }
        if self.batch.is_empty() {
            return Ok(None);
        }
        let written = self.append()?;
        let counters = &self.core.counters;
        add(&counters.batches, 1);
        add(&counters.bytes_written, written.bytes);
        add(&counters.records, self.batch.records);
        Ok(Some(written))
    }

    /// Before the log can be shorter, or a crash in between would look like damage.
    fn lower_marks(&mut self, operations: &[Operation]) -> Result<(), LogError> {
        let mut lowered = false;
        for operation in operations {
            let group = operation.group.id;
            lowered |= match &operation.change {
                Change::Truncate { kept, .. } => self.acked.lower(group, *kept),
                Change::Remove => {
                    let votes = self.acked.lower(vote_mark(group), LogIndex(0));
                    self.acked.lower(group, LogIndex(0)) || votes
                }
                Change::Append(_)
                | Change::Vote(_)
                | Change::Committed(_)
                | Change::Purge(_)
                | Change::Create => false,
            };
        }
        if lowered && let Err(error) = self.acked.sync() {
            return Err(self.poison(&format!("acknowledged marks: {error}")));
        }
        Ok(())
    }

    /// Writes and syncs the batch. On a full disk it tries again until there is space: nobody is told of a failure that is none,
    /// and what was written is in no doubt, for nothing was synced.
    fn append(&mut self) -> Result<Written, LogError> {
        loop {
            let written = &self.written;
            let groups = || -> Vec<CheckpointGroup> {
                written.values().map(|group| group.checkpoint()).collect()
            };
            match self.files.append(&mut self.batch, groups) {
                Ok(written) => {
                    if self.full_at.is_none() {
                        self.core.counters.full.store(false, Ordering::Relaxed);
                    }
                    return Ok(written);
                }
                Err(WriteError::Failed(cause)) => return Err(self.poison(&cause)),
                Err(WriteError::Full(cause)) => {
                    if !self.core.counters.full.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%cause, "log waits for space on its disk");
                    }
                    if let Some(error) = self.core.queue.closed() {
                        return Err(error);
                    }
                    self.retire();
                    std::thread::sleep(FULL_PAUSE);
                }
            }
        }
    }

    /// Everything is on disk: places and states first, then the answers, in order.
    fn complete(&mut self, operations: Vec<Operation>, written: Option<&Written>) {
        let mut placed = std::mem::take(&mut self.batch.placed);
        let mut places = placed.drain(..).peekable();
        let span = |it: &super::batch::Placed, written: &Written| {
            let frame = written.frames_at + it.frame.start..written.frames_at + it.frame.end;
            Span::new(written.segment.clone(), frame, it.first..=it.last, it.bytes)
        };
        while let Some(rewritten) = places.next_if(|it| it.operation.is_none()) {
            if let Some(written) = written {
                add(&self.core.counters.bytes_rewritten, rewritten.bytes);
                let span = span(&rewritten, written);
                rewritten.group.known().spans.replace(span);
            }
        }
        for (number, operation) in operations.into_iter().enumerate() {
            let group = operation.group.clone();
            while let Some(place) = places.next_if(|it| it.operation == Some(number)) {
                if let Some(written) = written {
                    group.known().spans.add(span(&place, written));
                }
            }
            self.apply(&group, &operation.change);
            operation.answer(Ok(()));
        }
        drop(places);
        // Its memory is used again.
        self.batch.placed = placed;
    }

    /// What one change means for what is on disk.
    fn apply(&mut self, group: &Arc<Group>, change: &Change) {
        match change {
            Change::Append(records) => {
                if let Some(last) = records.last() {
                    group.known().written.last = Some(last.id);
                }
                if let Some(reached) = group.appended(records) {
                    self.acked.raise(group.id, reached);
                }
            }
            Change::Vote(vote) => {
                let mut known = group.known();
                known.written.vote = Some(*vote);
                known.visible.vote = Some(*vote);
                drop(known);
                self.acked.raise(vote_mark(group.id), LogIndex(vote.term.0));
            }
            Change::Truncate { kept, last } => {
                let known = &mut *group.known();
                replay::truncate(&mut known.written, &mut known.spans, *kept, *last);
            }
            Change::Committed(committed) => group.known().written.committed = *committed,
            Change::Purge(upto) => {
                let known = &mut *group.known();
                replay::purge(&mut known.written, &mut known.spans, *upto);
            }
            Change::Create => {
                self.written.insert(group.id, group.clone());
            }
            Change::Remove => {
                self.written.remove(&group.id);
                group.known().spans.clear();
            }
        }
    }

    /// Keeps the files in order, one step at a time. True if more could be done at once.
    fn maintain(&mut self) -> bool {
        if self.core.queue.closed().is_some() {
            return false;
        }
        let tried_lately = self.full_at.is_some_and(|at| at.elapsed() < FULL_RETRY);
        if (self.files.wants_next() || self.full_at.is_some()) && !tried_lately {
            self.prepare_next();
        }
        self.retire()
    }

    fn prepare_next(&mut self) {
        let full = &self.core.counters.full;
        match self.files.prepare_next() {
            Ok(()) => {
                self.full_at = None;
                full.store(false, Ordering::Relaxed);
            }
            Err(WriteError::Full(cause)) => {
                if self.full_at.replace(Instant::now()).is_none() {
                    tracing::warn!(%cause, "no space for the log's next segment");
                }
                full.store(true, Ordering::Relaxed);
            }
            Err(WriteError::Failed(cause)) => {
                self.poison(&cause);
            }
        }
    }

    /// Gives the oldest segment back if nothing needs it.
    fn retire(&mut self) -> bool {
        let retired = match self.files.retire() {
            Ok(retired) => retired,
            Err(WriteError::Full(cause) | WriteError::Failed(cause)) => {
                self.poison(&cause);
                false
            }
        };
        let used = &self.core.counters.bytes_used;
        used.store(self.files.used_bytes(), Ordering::Relaxed);
        retired
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
        let max = self.core.tail_cache_bytes_max;
        if self.core.tail_bytes() <= max {
            return;
        }
        let groups: Vec<Arc<Group>> = self.groups.lock().values().cloned().collect();
        let mut oldest: BinaryHeap<Reverse<(u64, usize)>> = groups
            .iter()
            .enumerate()
            .filter_map(|(number, group)| Some(Reverse((group.oldest_evictable()?, number))))
            .collect();
        while self.core.tail_bytes() > max / 10 * 9
            && let Some(Reverse((stamp, number))) = oldest.pop()
            && let Some(group) = groups.get(number)
        {
            // Up to where the next group's oldest begins, but not all at once when there is none.
            let next = oldest.peek().map_or(u64::MAX, |Reverse((next, _))| *next);
            group.evict(next.min(stamp.saturating_add(16)));
            if let Some(stamp) = group.oldest_evictable() {
                oldest.push(Reverse((stamp, number)));
            }
        }
    }
}

/// It belongs to a group that was removed since: written now, it would stay behind.
fn is_void(operation: &Operation) -> bool {
    !matches!(operation.change, Change::Remove) && operation.group.is_removed()
}
