//! One group's log: what is known of it in memory, reads, and queueing of changes. Not here: writing (`writer`), opening (`recover`).

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::ReadOptions;
use tokio::sync::watch;
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Vote};

use super::core::{Core, column_family};
use super::format::{ENTRIES, decode_record, entry_index, entry_key};
use super::queue::Operation;
use crate::log::contract::{Done, Durable, GroupLog, GroupLogState, LogError, LogRecord};
use crate::log::tail::Tail;

pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) replica: ReplicaId,
    core: Arc<Core>,
    known: Mutex<Known>,
    durable: watch::Sender<Durable>,
}

struct Known {
    state: GroupLogState,
    tail: Tail,
    /// Counts truncations and purges: a read from disk that met one is repeated.
    cuts: u64,
    removed: bool,
}

impl Known {
    fn last_index(&self) -> LogIndex {
        index_of(self.state.last)
    }
}

fn index_of(id: Option<LogId>) -> LogIndex {
    id.map_or(LogIndex(0), |id| id.index)
}

/// What a read found in memory, and what it has to get from disk before.
struct Plan {
    disk: Range<LogIndex>,
    cuts: u64,
}

impl Group {
    pub(super) fn new(
        id: GroupId,
        replica: ReplicaId,
        core: Arc<Core>,
        state: GroupLogState,
    ) -> Self {
        let known = Known {
            state,
            tail: Tail::default(),
            cuts: 0,
            removed: false,
        };
        let durable = watch::Sender::new(Durable {
            last: state.last,
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

    /// Called by the writer once `records` are on disk. Returns how far that makes the log durable, unless all of them were truncated meanwhile.
    pub(super) fn appended(&self, records: &[LogRecord]) -> Option<LogIndex> {
        let known = self.known.lock();
        // Log ids, not indexes: what was truncated and replaced since is not what has become durable.
        let reached = records
            .iter()
            .rev()
            .map(|record| record.id)
            .find(|id| known.tail.id(id.index) == Some(*id))?;
        self.durable.send_if_modified(|durable| {
            let higher = index_of(durable.last) < reached.index;
            if higher {
                durable.last = Some(reached);
            }
            higher
        });
        Some(reached.index)
    }

    /// Called by the writer once the vote is on disk.
    pub(super) fn voted(&self, vote: Vote) {
        self.known.lock().state.vote = Some(vote);
    }

    /// Insertion stamp of the oldest record held that may be evicted.
    pub(super) fn oldest_evictable(&self) -> Option<u64> {
        let known = self.known.lock();
        let durable = index_of(self.durable.borrow().last);
        known.tail.first().filter(|first| *first <= durable)?;
        known.tail.oldest()
    }

    /// Drops records that are durable and not newer than `stamp` from memory.
    pub(super) fn evict(&self, stamp: u64) {
        let mut known = self.known.lock();
        let durable = index_of(self.durable.borrow().last);
        self.core.tail_shrank(known.tail.evict(durable, stamp));
    }

    pub(super) fn poison(&self) {
        self.durable.send_modify(|durable| durable.poisoned = true);
    }

    /// Nothing is written for this group any more; its memory is freed.
    pub(super) fn remove(&self) {
        let mut known = self.known.lock();
        known.removed = true;
        self.core
            .tail_shrank(known.tail.truncate_after(LogIndex(0)));
    }

    pub(super) fn is_removed(&self) -> bool {
        self.known.lock().removed
    }

    fn damaged(&self, detail: impl std::fmt::Display) -> LogError {
        LogError::Damaged {
            group: self.id,
            detail: detail.to_string().into(),
        }
    }

    /// Puts records that follow the last one into memory.
    fn accept(&self, records: &[LogRecord]) -> Result<(), LogError> {
        let mut known = self.known.lock();
        if known.removed {
            return Err(LogError::Closed);
        }
        for (next, record) in (known.last_index().0 + 1..).zip(records) {
            if record.id.index.0 != next {
                return Err(self.damaged(format_args!(
                    "append of {} where {next} follows",
                    record.id.index
                )));
            }
        }
        for record in records {
            let cost = known.tail.push(record.clone(), self.core.next_stamp());
            self.core.tail_grew(cost);
            known.state.last = Some(record.id);
        }
        Ok(())
    }

    /// Cuts the range to what exists and says which part of it is not in memory.
    fn plan(&self, range: &Range<LogIndex>) -> Plan {
        let known = self.known.lock();
        let first = range.start.0.max(index_of(known.state.purged).0 + 1);
        let end = range.end.0.min(known.last_index().0 + 1);
        let end = known.tail.first().map_or(end, |tail| end.min(tail.0));
        Plan {
            disk: LogIndex(first)..LogIndex(end.max(first)),
            cuts: known.cuts,
        }
    }

    /// Reads records that are on disk. They are there: only what is durable leaves memory.
    fn read_disk(
        &self,
        range: Range<LogIndex>,
        budget: &mut Budget,
    ) -> Result<Vec<LogRecord>, LogError> {
        let database = self.core.database()?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(entry_key(self.id, range.end));
        options.fill_cache(false);
        let mut rows = database.raw_iterator_cf_opt(column_family(&database, ENTRIES), options);
        rows.seek(entry_key(self.id, range.start));
        let mut records = Vec::new();
        for index in range.start.0..range.end.0 {
            rows.status().map_err(|error| self.damaged(error))?;
            let Some((key, value)) = rows.item() else {
                return Err(self.damaged(format_args!("entry {index} is missing")));
            };
            if entry_index(self.id, key) != Some(LogIndex(index)) {
                return Err(self.damaged(format_args!("entry {index} is missing")));
            }
            let record = decode_record(key, LogIndex(index), value.to_vec()).ok_or_else(|| {
                self.damaged(format_args!("entry {index} does not match its checksum"))
            })?;
            if !budget.take(record.bytes.len()) {
                return Ok(records);
            }
            records.push(record);
            rows.next();
        }
        Ok(records)
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
        let mut next = plan.disk.end;
        if plan.disk.start < plan.disk.end {
            let found = self.read_disk(plan.disk, &mut budget);
            if self.known.lock().cuts != plan.cuts {
                return Ok(None);
            }
            records = found?;
            next = records
                .last()
                .map_or(next, |record| LogIndex(record.id.index.0 + 1));
        }
        let known = self.known.lock();
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

/// The trait's handle on a group, so that operations can carry the group itself.
pub(super) struct Handle(pub(super) Arc<Group>);

impl GroupLog for Handle {
    fn state(&self) -> GroupLogState {
        self.0.known.lock().state
    }

    fn append(&self, records: Vec<LogRecord>, done: Done) {
        if let Some(error) = self.0.core.queue.closed() {
            return done(Err(error));
        }
        match self.0.accept(&records) {
            Ok(()) => self.0.core.queue.push(Operation::Append {
                group: self.0.clone(),
                records,
                done,
            }),
            Err(error) => done(Err(error)),
        }
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        if self.0.known.lock().removed {
            return done(Err(LogError::Closed));
        }
        self.0.core.queue.push(Operation::Vote {
            group: self.0.clone(),
            vote,
            done,
        });
    }

    fn truncate_after(&self, last_kept: Option<LogId>) {
        let group = &self.0;
        let mut known = group.known.lock();
        let last = known.last_index();
        let kept = index_of(last_kept).max(index_of(known.state.purged));
        if kept >= last || known.removed {
            return;
        }
        known.cuts += 1;
        known.state.last = if kept == index_of(last_kept) {
            last_kept
        } else {
            known.state.purged
        };
        let lowered = known.state.last;
        group.core.tail_shrank(known.tail.truncate_after(kept));
        group.durable.send_if_modified(|durable| {
            let higher = index_of(durable.last) > kept;
            if higher {
                durable.last = lowered;
            }
            higher
        });
        drop(known);
        group.core.queue.push(Operation::Truncate {
            group: group.clone(),
            kept,
            last,
        });
    }

    fn save_committed(&self, committed: Option<LogId>) {
        let mut known = self.0.known.lock();
        if known.removed || known.state.committed == committed {
            return;
        }
        known.state.committed = committed;
        drop(known);
        self.0.core.queue.push(Operation::Committed {
            group: self.0.clone(),
            committed,
        });
    }

    fn purge(&self, upto: LogId) {
        let group = &self.0;
        let mut known = group.known.lock();
        let from = index_of(known.state.purged);
        if upto.index <= from || known.removed {
            return;
        }
        known.cuts += 1;
        known.state.purged = Some(upto);
        if known.last_index() <= upto.index {
            known.state.last = Some(upto);
        }
        group.core.tail_shrank(known.tail.remove_upto(upto.index));
        // What is purged is covered by state that is on disk: nothing of it needs the log.
        group.durable.send_if_modified(|durable| {
            let higher = index_of(durable.last) < upto.index;
            if higher {
                durable.last = Some(upto);
            }
            higher
        });
        drop(known);
        group.core.queue.push(Operation::Purge {
            group: group.clone(),
            from: LogIndex(from.0 + 1),
            upto,
        });
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<LogRecord>, LogError> {
        // Fails when the engine has, also where memory could answer.
        self.0.core.database()?;
        loop {
            if let Some(records) = self.0.read_once(&range, bytes_max)? {
                return Ok(records);
            }
        }
    }

    fn log_id(&self, index: LogIndex) -> Result<Option<LogId>, LogError> {
        {
            let known = self.0.known.lock();
            if known
                .state
                .purged
                .is_some_and(|purged| purged.index == index)
            {
                return Ok(known.state.purged);
            }
            if let Some(id) = known.tail.id(index) {
                return Ok(Some(id));
            }
        }
        let end = LogIndex(index.0.saturating_add(1));
        Ok(self.read(index..end, 0)?.first().map(|record| record.id))
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.0.durable.subscribe()
    }
}
