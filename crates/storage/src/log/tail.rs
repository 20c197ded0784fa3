//! The newest records of one group's log, in memory. Not here: the budget over all groups (`writer`), older records (`group`).

use std::collections::VecDeque;

use bytes::Bytes;
use warren_types::{LogId, LogIndex};

use crate::log::contract::LogRecord;

/// Counted for a record beside its bytes.
const RECORD_BYTES: usize = 64;

#[derive(Debug)]
struct Held {
    record: LogRecord,
    /// Order of insertion over all groups, for eviction of the oldest.
    stamp: u64,
}

/// A run of records without a gap that ends at the log's last one.
#[derive(Debug, Default)]
pub(super) struct Tail {
    records: VecDeque<Held>,
}

impl Tail {
    pub(super) fn cost(bytes: &Bytes) -> usize {
        bytes.len() + RECORD_BYTES
    }

    /// Index of the first record held.
    pub(super) fn first(&self) -> Option<LogIndex> {
        self.records.front().map(|held| held.record.id.index)
    }

    /// Insertion stamp of the first record held.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.records.front().map(|held| held.stamp)
    }

    pub(super) fn get(&self, index: LogIndex) -> Option<&LogRecord> {
        let offset = index.0.checked_sub(self.first()?.0)?;
        self.records
            .get(usize::try_from(offset).ok()?)
            .map(|held| &held.record)
    }

    pub(super) fn id(&self, index: LogIndex) -> Option<LogId> {
        self.get(index).map(|record| record.id)
    }

    /// Adds the record that follows the last one; returns its cost.
    pub(super) fn push(&mut self, record: LogRecord, stamp: u64) -> usize {
        debug_assert!(
            self.records
                .back()
                .is_none_or(|held| held.record.id.index.0 + 1 == record.id.index.0)
        );
        let cost = Self::cost(&record.bytes);
        self.records.push_back(Held { record, stamp });
        cost
    }

    /// Removes what lies after `kept`; returns what it cost.
    pub(super) fn truncate_after(&mut self, kept: LogIndex) -> usize {
        let mut freed = 0;
        while let Some(held) = self.records.pop_back_if(|held| held.record.id.index > kept) {
            freed += Self::cost(&held.record.bytes);
        }
        freed
    }

    /// Removes what lies at or before `upto`; returns what it cost.
    pub(super) fn remove_upto(&mut self, upto: LogIndex) -> usize {
        let mut freed = 0;
        while let Some(held) = self
            .records
            .pop_front_if(|held| held.record.id.index <= upto)
        {
            freed += Self::cost(&held.record.bytes);
        }
        freed
    }

    /// Removes records up to `durable` that are not newer than `stamp`; returns what they cost.
    pub(super) fn evict(&mut self, durable: LogIndex, stamp: u64) -> usize {
        let mut freed = 0;
        while let Some(held) = self
            .records
            .pop_front_if(|held| held.record.id.index <= durable && held.stamp <= stamp)
        {
            freed += Self::cost(&held.record.bytes);
        }
        freed
    }
}
