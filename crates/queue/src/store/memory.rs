//! What a queue remembers for a while, so that whoever asks again gets the same answer: facts under keys of 64 bits, numbered as they
//! come. Bounded by count, and by time where there is one; the oldest is forgotten first. All of it is rows: nothing stays in memory but
//! what the current entry changed. Not here: what is remembered (`command`).

use std::collections::BTreeMap;

use warren_types::{QueueId, ShardTime};

use super::limits::FORGOTTEN_AT_ONCE;
use crate::rows::{Change, MemoryOf, MemoryOrderRow, MemoryRow, MemorySpan, Row, RowKey, Rows};

/// How much is kept. The same on every replica: it comes with the command, or is a constant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// At least 1.
    pub(super) most: u64,
    /// What came before is forgotten; `None` = nothing for its age.
    pub(super) since: Option<ShardTime>,
}

/// What is to be remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) key: u64,
    pub(super) at: ShardTime,
    pub(super) check: u64,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Memories {
    spans: BTreeMap<MemoryOf, MemorySpan>,
    /// As the current entry leaves them; with whether there is such a row.
    rows: BTreeMap<(MemoryOf, u64), Changed<MemoryRow>>,
    order: BTreeMap<(MemoryOf, u64), Changed<MemoryOrderRow>>,
}

#[derive(Debug, Clone, Copy)]
struct Changed<T> {
    is_stored: bool,
    row: Option<T>,
}

impl Memories {
    pub(super) fn open(spans: Vec<(MemoryOf, MemorySpan)>) -> Self {
        Self {
            spans: spans.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(super) fn spans(&self) -> Vec<(MemoryOf, MemorySpan)> {
        self.spans.iter().map(|(of, span)| (*of, *span)).collect()
    }

    /// What is remembered under a key. It may be older than what would be kept now.
    pub(super) fn find(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        of: MemoryOf,
        key: u64,
    ) -> Option<MemoryRow> {
        let span = self.spans.get(&of)?;
        if span.first == span.next {
            return None;
        }
        self.row(rows, queue, of, key).row
    }

    /// Remembers a key under the next number, in place of what was under it, and forgets what is too much or too old.
    pub(super) fn remember(
        &mut self,
        rows: &dyn Rows,
        queue: QueueId,
        of: MemoryOf,
        fact: Fact,
        keep: Keep,
    ) {
        let Fact { key, at, check } = fact;
        let mut span = self.spans.get(&of).copied().unwrap_or_default();
        let number = span.next;
        span.next += 1;
        let mut place = self.row(rows, queue, of, key);
        place.row = Some(MemoryRow { number, at, check });
        self.rows.insert((of, key), place);
        let order = Changed {
            is_stored: false,
            row: Some(MemoryOrderRow { key, at }),
        };
        self.order.insert((of, number), order);
        let mut forgotten = 0;
        while span.first < number {
            let too_many = span.next - span.first > keep.most.max(1);
            if !too_many && (keep.since.is_none() || forgotten >= FORGOTTEN_AT_ONCE) {
                break;
            }
            let oldest = self.numbered(rows, queue, of, span.first);
            let too_old = oldest
                .row
                .is_none_or(|it| keep.since.is_some_and(|since| it.at < since));
            if !too_many && !too_old {
                break;
            }
            self.forget(rows, queue, of, span.first, oldest);
            span.first += 1;
            forgotten += 1;
        }
        self.spans.insert(of, span);
    }

    fn forget(
        &mut self,
        rows: &dyn Rows,
        queue: QueueId,
        of: MemoryOf,
        number: u64,
        mut oldest: Changed<MemoryOrderRow>,
    ) {
        if let Some(MemoryOrderRow { key, .. }) = oldest.row.take() {
            let mut place = self.row(rows, queue, of, key);
            // It may have come again, under a later number.
            if place.row.is_some_and(|it| it.number == number) {
                place.row = None;
                self.rows.insert((of, key), place);
            }
        }
        self.order.insert((of, number), oldest);
    }

    fn row(&self, rows: &dyn Rows, queue: QueueId, of: MemoryOf, key: u64) -> Changed<MemoryRow> {
        if let Some(changed) = self.rows.get(&(of, key)) {
            return *changed;
        }
        let row = rows.get(&RowKey::Memory { queue, of, key });
        let row = row.and_then(Row::into_memory);
        let is_stored = row.is_some();
        Changed { is_stored, row }
    }

    fn numbered(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        of: MemoryOf,
        number: u64,
    ) -> Changed<MemoryOrderRow> {
        if let Some(changed) = self.order.get(&(of, number)) {
            return *changed;
        }
        let row = rows.get(&RowKey::MemoryOrder { queue, of, number });
        let row = row.and_then(Row::into_memory_order);
        let is_stored = row.is_some();
        Changed { is_stored, row }
    }

    pub(super) fn flush(&mut self, queue: QueueId, changes: &mut Vec<Change>) {
        while let Some(((of, key), changed)) = self.rows.pop_first() {
            let key = RowKey::Memory { queue, of, key };
            changes.extend(changed.change(key, Row::Memory));
        }
        while let Some(((of, number), changed)) = self.order.pop_first() {
            let key = RowKey::MemoryOrder { queue, of, number };
            changes.extend(changed.change(key, Row::MemoryOrder));
        }
    }
}

impl<T> Changed<T> {
    fn change(self, key: RowKey, row: impl FnOnce(T) -> Row) -> Option<Change> {
        match self.row {
            Some(it) => Some(Change::Put(key, row(it))),
            None => self.is_stored.then_some(Change::Delete(key)),
        }
    }
}
