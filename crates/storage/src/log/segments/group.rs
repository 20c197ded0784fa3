//! One group's log: what is known of it in memory, and reads. Not here: the trait's calls (`handle`), writing (`writer`).
//!
//! Two states are kept: `visible` changes when a call is made, `written` when the writer has made it durable. A checkpoint and
//! the spans on disk belong to the latter.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use warren_types::{GroupId, LogId, LogIndex, ReplicaId};

use super::core::Core;
use super::format::CheckpointGroup;
use super::index::{Runs, Spans};
use super::read::{Place, ReadError};
use super::replay::Replayed;
use super::segment::Segment;
use crate::log::contract::{Durable, GroupLogState, LogError, LogRecord};
use crate::log::tail::Tail;

pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) replica: ReplicaId,
    pub(super) core: Arc<Core>,
    known: Mutex<Known>,
    pub(super) durable: watch::Sender<Durable>,
}

pub(super) struct Known {
    pub(super) visible: GroupLogState,
    pub(super) runs: Runs,
    pub(super) tail: Tail,
    /// Counts truncations and purges: a read from disk that met one is repeated.
    pub(super) cuts: u64,
    pub(super) removed: bool,
    pub(super) written: GroupLogState,
    pub(super) spans: Spans,
    /// The last entry of those that could not be read, and why.
    damage: Option<(LogIndex, Arc<str>)>,
}

impl Known {
    pub(super) fn last_index(&self) -> LogIndex {
        index_of(self.visible.last)
    }

    /// The id of an entry the log holds, or of the last purged one.
    pub(super) fn log_id(&self, index: LogIndex) -> Option<LogId> {
        let purged = index_of(self.visible.purged);
        if index <= purged {
            return self.visible.purged.filter(|id| id.index == index);
        }
        if index > self.last_index() {
            return None;
        }
        self.runs.id(index)
    }
}

pub(super) fn index_of(id: Option<LogId>) -> LogIndex {
    id.map_or(LogIndex(0), |id| id.index)
}

/// What a read found in memory, and what it has to get from disk before.
struct Plan {
    disk: Range<u64>,
    cuts: u64,
}

impl Group {
    pub(super) fn new(id: GroupId, replica: ReplicaId, core: Arc<Core>, found: Replayed) -> Self {
        let known = Known {
            visible: found.state,
            runs: found.runs,
            tail: Tail::default(),
            cuts: 0,
            removed: false,
            written: found.state,
            spans: found.spans,
            damage: None,
        };
        let durable = watch::Sender::new(Durable {
            last: found.state.last,
            poisoned: false,
        });
        Self {
            id,
            replica,
            core,
            known: Mutex::new(known),
            durable,
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// The group as it is on disk.
    pub(super) fn checkpoint(&self) -> CheckpointGroup {
        CheckpointGroup {
            group: self.id,
            replica: self.replica,
            state: self.known().written,
        }
    }

    /// Called by the writer once entries up to `last` are on disk. Returns how far that makes the log durable, unless all that
    /// was written was truncated meanwhile.
    pub(super) fn appended(&self, records: &[LogRecord]) -> Option<LogIndex> {
        let known = self.known();
        // Log ids, not indexes: what was truncated and replaced since is not what has become durable.
        let reached = records
            .iter()
            .rev()
            .map(|record| record.id)
            .find(|id| known.log_id(id.index) == Some(*id))?;
        self.durable.send_if_modified(|durable| {
            let higher = index_of(durable.last) < reached.index;
            if higher {
                durable.last = Some(reached);
            }
            higher
        });
        Some(reached.index)
    }

    /// Insertion stamp of the oldest record held that may be evicted.
    pub(super) fn oldest_evictable(&self) -> Option<u64> {
        let known = self.known();
        let durable = index_of(self.durable.borrow().last);
        known.tail.first().filter(|first| *first <= durable)?;
        known.tail.oldest()
    }

    /// Drops records that are durable and not newer than `stamp` from memory.
    pub(super) fn evict(&self, stamp: u64) {
        let mut known = self.known();
        let durable = index_of(self.durable.borrow().last);
        self.core.tail_shrank(known.tail.evict(durable, stamp));
    }

    pub(super) fn poison(&self) {
        self.durable.send_modify(|durable| durable.poisoned = true);
    }

    /// Nothing is written for this group any more; its memory is freed.
    pub(super) fn remove(&self) {
        let mut known = self.known();
        known.removed = true;
        known.cuts += 1;
        self.core
            .tail_shrank(known.tail.truncate_after(LogIndex(0)));
    }

    pub(super) fn is_removed(&self) -> bool {
        self.known().removed
    }

    pub(super) fn damaged(&self, detail: impl std::fmt::Display) -> LogError {
        LogError::Damaged {
            group: self.id,
            detail: detail.to_string().into(),
        }
    }

    /// Entries up to `last` cannot be read.
    pub(super) fn note_damage(&self, last: LogIndex, detail: Arc<str>) {
        let mut known = self.known();
        if known.damage.as_ref().is_none_or(|it| it.0 < last) {
            known.damage = Some((last, detail));
        }
    }

    /// Entries up to `last` were not read. Only what is not what was written is remembered: the disk may give another time what it did not.
    pub(super) fn note(&self, last: LogIndex, error: ReadError) {
        match error {
            ReadError::Damaged(detail) => self.note_damage(last, detail.into()),
            ReadError::Failed(detail) => {
                tracing::warn!(group = %self.id, detail, "entries were not read");
            }
        }
    }

    /// What is wrong with entries that are still needed.
    pub(super) fn damage(&self) -> Option<Arc<str>> {
        let known = self.known();
        let purged = index_of(known.visible.purged);
        let damage = known.damage.as_ref().filter(|it| it.0 > purged);
        damage.map(|(_, detail)| detail.clone())
    }

    /// Whether all that the group needs of a segment can be read. What cannot is remembered.
    pub(super) fn is_whole_in(&self, segment: &Arc<Segment>) -> bool {
        let places: Vec<(Place, u64, u64)> = {
            let known = self.known();
            let there = known.spans.iter();
            let there = there.filter(|it| Arc::ptr_eq(&it.segment, segment));
            there.map(|it| (Place::of(it), it.first, it.last)).collect()
        };
        let mut whole = true;
        for (place, first, last) in places {
            if let Err(error) = place.read_whole(self.id, first..=last) {
                whole = false;
                self.note(LogIndex(last), error);
            }
        }
        whole
    }

    /// Entries of a range, as the trait promises.
    pub(super) fn read(
        &self,
        range: &Range<LogIndex>,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        loop {
            if let Some(records) = self.read_once(range, bytes_max)? {
                return Ok(records);
            }
        }
    }

    /// Cuts the range to what exists and says which part of it is not in memory.
    fn plan(&self, range: &Range<LogIndex>) -> Plan {
        let known = self.known();
        let first = range.start.0.max(index_of(known.visible.purged).0 + 1);
        let end = range.end.0.min(known.last_index().0 + 1);
        let end = known.tail.first().map_or(end, |tail| end.min(tail.0));
        Plan {
            disk: first..end.max(first),
            cuts: known.cuts,
        }
    }

    fn read_once(
        &self,
        range: &Range<LogIndex>,
        bytes_max: usize,
    ) -> Result<Option<Vec<LogRecord>>, LogError> {
        let plan = self.plan(range);
        let mut budget = Budget {
            left: bytes_max,
            first: true,
            spent: false,
        };
        let mut records = Vec::new();
        if !plan.disk.is_empty() {
            let found = self.read_disk(&plan.disk, &mut budget);
            if self.known().cuts != plan.cuts {
                return Ok(None);
            }
            records = found?;
        }
        let mut next = LogIndex(plan.disk.start + records.len() as u64);
        let known = self.known();
        if known.cuts != plan.cuts {
            return Ok(None);
        }
        while !budget.spent && next < range.end {
            let Some(record) = known.tail.get(next) else {
                // Evicted since the plan was made: it is on disk now.
                return Ok((next > known.last_index()).then_some(records));
            };
            if !budget.take(record.bytes.len()) {
                break;
            }
            records.push(record.clone());
            next = LogIndex(next.0 + 1);
        }
        Ok(Some(records))
    }

    /// Reads records that are on disk. They are there: only what is durable leaves memory.
    fn read_disk(
        &self,
        range: &Range<u64>,
        budget: &mut Budget,
    ) -> Result<Vec<LogRecord>, LogError> {
        let mut records = Vec::new();
        let mut next = range.start;
        while next < range.end && !budget.spent {
            let (place, last) = {
                let known = self.known();
                let span = known.spans.find(LogIndex(next));
                let span =
                    span.ok_or_else(|| self.damaged(format_args!("entry {next} is missing")))?;
                (Place::of(span), span.last.min(range.end - 1))
            };
            self.core.check_open()?;
            let found = place
                .read(self.id, next..=last)
                .map_err(|error| error.of(self.id))?;
            for record in found {
                if record.id.index.0 != next {
                    return Err(self.damaged(format_args!("entry {next} is not where it was put")));
                }
                if !budget.take(record.bytes.len()) {
                    return Ok(records);
                }
                records.push(record);
                next += 1;
            }
            if next <= last {
                return Err(self.damaged(format_args!("entry {next} is not where it was put")));
            }
        }
        Ok(records)
    }
}

/// Bytes a read may still return; the first record always passes.
struct Budget {
    left: usize,
    first: bool,
    spent: bool,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.first || bytes <= self.left;
        self.first = false;
        self.left = self.left.saturating_sub(bytes);
        self.spent = !fits;
        fits
    }
}
