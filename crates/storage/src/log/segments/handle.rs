//! The trait's calls on one group: each changes what is visible at once and queues the change for the writer.
//! Not here: reads (`group`), writing (`writer`).

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use warren_types::{LogId, LogIndex, Vote};

use super::group::{Group, index_of};
use super::queue::{Change, Operation};
use crate::log::contract::{Done, Durable, GroupLog, GroupLogState, LogError, LogRecord};

/// A record that is shorter and shares its buffer is copied: it would keep a buffer many times its size in memory.
const COPIED_BYTES: usize = 16 << 10;

pub(super) struct Handle(pub(super) Arc<Group>);

impl Handle {
    fn queue(&self, change: Change, done: Option<Done>) {
        self.0.core.queue.push(Operation {
            group: self.0.clone(),
            change,
            done,
        });
    }

    /// Puts records that follow the last one into memory.
    fn accept(&self, records: &[LogRecord]) -> Result<(), LogError> {
        let group = &self.0;
        let mut known = group.known();
        if known.removed {
            return Err(LogError::Closed);
        }
        for (next, record) in (known.last_index().0 + 1..).zip(records) {
            if record.id.index.0 != next {
                return Err(group.damaged(format_args!(
                    "append of {} where {next} follows",
                    record.id.index
                )));
            }
        }
        for record in records {
            let cost = known.tail.push(record.clone(), group.core.next_stamp());
            group.core.tail_grew(cost);
            known
                .runs
                .learn(record.id.index.0, record.id.term, record.id.leader);
            known.visible.last = Some(record.id);
        }
        Ok(())
    }
}

/// Copies short records out of the buffers they share into one of their own.
fn unshared(mut records: Vec<LogRecord>) -> Vec<LogRecord> {
    let shares = |bytes: &Bytes| bytes.len() < COPIED_BYTES && !bytes.is_unique();
    let copied: usize = records
        .iter()
        .filter(|record| shares(&record.bytes))
        .map(|record| record.bytes.len())
        .sum();
    if copied == 0 {
        return records;
    }
    let mut buffer = BytesMut::with_capacity(copied);
    for record in &mut records {
        if shares(&record.bytes) {
            buffer.extend_from_slice(&record.bytes);
            record.bytes = buffer.split().freeze();
        }
    }
    records
}

impl GroupLog for Handle {
    fn state(&self) -> GroupLogState {
        self.0.known().visible
    }

    fn append(&self, records: Vec<LogRecord>, done: Done) {
        if let Some(error) = self.0.core.queue.closed() {
            return done(Err(error));
        }
        let records = unshared(records);
        match self.accept(&records) {
            Ok(()) => self.queue(Change::Append(records), Some(done)),
            Err(error) => done(Err(error)),
        }
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        if self.0.is_removed() {
            return done(Err(LogError::Closed));
        }
        self.queue(Change::Vote(vote), Some(done));
    }

    fn truncate_after(&self, last_kept: Option<LogId>) {
        let group = &self.0;
        let mut known = group.known();
        let kept = index_of(last_kept).max(index_of(known.visible.purged));
        if kept >= known.last_index() || known.removed {
            return;
        }
        let last = if kept == index_of(last_kept) {
            last_kept
        } else {
            known.visible.purged
        };
        known.cuts += 1;
        known.visible.last = last;
        known.runs.truncate_after(kept);
        group.core.tail_shrank(known.tail.truncate_after(kept));
        group.durable.send_if_modified(|durable| {
            let higher = index_of(durable.last) > kept;
            if higher {
                durable.last = last;
            }
            higher
        });
        drop(known);
        self.queue(Change::Truncate { kept, last }, None);
    }

    fn save_committed(&self, committed: Option<LogId>) {
        let mut known = self.0.known();
        if known.removed || known.visible.committed == committed {
            return;
        }
        known.visible.committed = committed;
        drop(known);
        self.queue(Change::Committed(committed), None);
    }

    fn purge(&self, upto: LogId) {
        let group = &self.0;
        let mut known = group.known();
        if upto.index <= index_of(known.visible.purged) || known.removed {
            return;
        }
        known.cuts += 1;
        known.visible.purged = Some(upto);
        if known.last_index() <= upto.index {
            known.visible.last = Some(upto);
        }
        known.runs.remove_upto(upto.index);
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
        self.queue(Change::Purge(upto), None);
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<LogRecord>, LogError> {
        // Fails when the engine has, also where memory could answer.
        self.0.core.check_open()?;
        let read = self.0.read(&range, bytes_max);
        if let Err(LogError::Damaged { detail, .. }) = &read {
            let last = LogIndex(range.end.0.saturating_sub(1));
            self.0.note_damage(last, detail.clone());
        }
        read
    }

    fn log_id(&self, index: LogIndex) -> Result<Option<LogId>, LogError> {
        self.0.core.check_open()?;
        Ok(self.0.known().log_id(index))
    }

    fn newest_within(&self, bytes: u64) -> LogIndex {
        self.0.known().spans.newest_within(bytes)
    }

    fn damage(&self) -> Option<Arc<str>> {
        self.0.damage()
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.0.durable.subscribe()
    }
}
