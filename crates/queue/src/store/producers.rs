//! A queue's memory of its producers: which sequences are stored, which epoch rules (features X8).
//! Not here: which messages carry a sequence (`command::enqueue`), deduplication by message key.
//!
//! The epoch fences and nothing else: sequences run on through epochs, so that a successor that sends again what its predecessor
//! may have sent stores it once. A producer that begins anew at 1 takes a new id.

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{NotStored, ProducerId, ProducerSpan, QueueId, ShardTime};

use super::limits::{
    PRODUCER_IDLE_MS_MAX, PRODUCER_WINDOW, PRODUCERS_FORGOTTEN_AT_ONCE, PRODUCERS_MAX,
};
use crate::rows::{Change, ProducerRow, Row, RowKey, Rows};

const WINDOW_WORDS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Producers {
    /// Who is remembered, and since when unseen. Read at first need.
    list: Option<List>,
    /// Rows as the current entry leaves them; `None` = forgotten.
    changed: BTreeMap<ProducerId, Option<ProducerRow>>,
    /// How many of the list the store has counted; a list that shrinks is not counted back until it is dropped.
    counted: usize,
}

#[derive(Debug, Default)]
struct List {
    seen: BTreeMap<ProducerId, ShardTime>,
    by_seen: BTreeSet<(ShardTime, ProducerId)>,
}

impl Producers {
    /// Marks in `absent` what must not be stored (by index in the block), and remembers the rest as stored.
    /// Messages that are absent already are left alone.
    pub(super) fn check(
        &mut self,
        queue: QueueId,
        rows: &dyn Rows,
        now: ShardTime,
        span: &ProducerSpan,
        count: u32,
        absent: &mut BTreeMap<u32, NotStored>,
    ) {
        if !is_due(span, count, absent) {
            return;
        }
        self.list
            .get_or_insert_with(|| List::read(rows.producers(queue)));
        let mut row = self.row(queue, rows, now, &span.producer);
        if row.judge(now, span, count, absent) {
            self.keep(&span.producer, row, now);
        }
    }

    /// As `check`, but remembers nothing: gives the row as it would be, from `known` on if that is told.
    #[expect(clippy::too_many_arguments, reason = "those of `check`, and the row")]
    pub(super) fn try_out(
        &self,
        queue: QueueId,
        rows: &dyn Rows,
        now: ShardTime,
        span: &ProducerSpan,
        count: u32,
        known: Option<&ProducerRow>,
        absent: &mut BTreeMap<u32, NotStored>,
    ) -> Option<ProducerRow> {
        if !is_due(span, count, absent) {
            return None;
        }
        let mut row = match known {
            Some(row) => row.clone(),
            None => self.row(queue, rows, now, &span.producer),
        };
        row.judge(now, span, count, absent).then_some(row)
    }

    fn row(
        &self,
        queue: QueueId,
        rows: &dyn Rows,
        now: ShardTime,
        producer: &ProducerId,
    ) -> ProducerRow {
        let known = match self.changed.get(producer) {
            Some(row) => row.clone(),
            None => rows
                .get(&RowKey::Producer {
                    queue,
                    producer: producer.clone(),
                })
                .and_then(Row::into_producer),
        };
        known
            .filter(|row| !is_idle(row.seen, now))
            .unwrap_or_default()
    }

    fn keep(&mut self, producer: &ProducerId, row: ProducerRow, now: ShardTime) {
        let Some(list) = &mut self.list else { return };
        list.put(producer, row.seen);
        self.changed.insert(producer.clone(), Some(row));
        let mut forgotten = 0;
        while let Some((seen, oldest)) = list.by_seen.first().cloned() {
            let idle = is_idle(seen, now) && forgotten < PRODUCERS_FORGOTTEN_AT_ONCE;
            if !idle && list.seen.len() <= PRODUCERS_MAX {
                break;
            }
            forgotten += 1;
            list.remove(&oldest);
            self.changed.insert(oldest, None);
        }
    }

    pub(super) fn flush(&mut self, queue: QueueId, changes: &mut Vec<Change>) {
        while let Some((producer, row)) = self.changed.pop_first() {
            let key = RowKey::Producer { queue, producer };
            changes.push(match row {
                Some(row) => Change::Put(key, Row::Producer(row)),
                None => Change::Delete(key),
            });
        }
    }

    /// How many more are listed than when last asked.
    pub(super) fn newly_listed(&mut self) -> usize {
        let listed = self.list.as_ref().map_or(0, |list| list.seen.len());
        let more = listed.saturating_sub(self.counted);
        self.counted += more;
        more
    }

    /// Between entries: the list is what the rows say, so it may go.
    pub(super) fn drop_list(&mut self) {
        self.list = None;
        self.counted = 0;
    }
}

impl List {
    fn read(producers: Vec<(ProducerId, ShardTime)>) -> Self {
        let mut list = Self::default();
        for (producer, seen) in producers {
            list.put(&producer, seen);
        }
        list
    }

    fn put(&mut self, producer: &ProducerId, seen: ShardTime) {
        if let Some(before) = self.seen.insert(producer.clone(), seen) {
            self.by_seen.remove(&(before, producer.clone()));
        }
        self.by_seen.insert((seen, producer.clone()));
    }

    fn remove(&mut self, producer: &ProducerId) {
        if let Some(seen) = self.seen.remove(producer) {
            self.by_seen.remove(&(seen, producer.clone()));
        }
    }
}

fn is_idle(seen: ShardTime, now: ShardTime) -> bool {
    now.0.saturating_sub(seen.0) > PRODUCER_IDLE_MS_MAX
}

/// Whether a message of the span is to be decided.
fn is_due(span: &ProducerSpan, count: u32, absent: &BTreeMap<u32, NotStored>) -> bool {
    let mut indexes = span.sequences.iter().map(|&(index, _)| index);
    indexes.any(|index| index < count && !absent.contains_key(&index))
}

impl ProducerRow {
    /// Decides the messages of a span that are not absent. False: an older epoch, nothing has changed.
    fn judge(
        &mut self,
        now: ShardTime,
        span: &ProducerSpan,
        count: u32,
        absent: &mut BTreeMap<u32, NotStored>,
    ) -> bool {
        let is_fenced = span.epoch < self.epoch;
        if !is_fenced {
            self.epoch = span.epoch;
            self.seen = now;
        }
        for &(index, sequence) in &span.sequences {
            if index >= count || absent.contains_key(&index) {
                continue;
            }
            if is_fenced {
                absent.insert(index, NotStored::ProducerFenced);
            } else if let Err(why) = self.take(sequence) {
                absent.insert(index, why);
            }
        }
        !is_fenced
    }

    /// Remembers a sequence as stored, or tells why its message must not be.
    fn take(&mut self, sequence: u64) -> Result<(), NotStored> {
        if sequence > self.last {
            self.shift(sequence - self.last);
            self.last = sequence;
        }
        let behind = self.last - sequence;
        if behind >= PRODUCER_WINDOW {
            return Err(NotStored::SequenceTooOld);
        }
        self.window.resize(WINDOW_WORDS, 0);
        let bit = 1_u64 << (behind % 64);
        let word = usize::try_from(behind / 64)
            .ok()
            .and_then(|at| self.window.get_mut(at));
        match word {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                Ok(())
            }
            Some(_) => Err(NotStored::Duplicate),
            None => Err(NotStored::SequenceTooOld),
        }
    }

    /// The last sequence moves on by so many: bit `n` becomes bit `n + by`.
    fn shift(&mut self, by: u64) {
        let whole = usize::try_from(by / 64).unwrap_or(usize::MAX);
        let bits = by % 64;
        let word = |at: Option<usize>| at.and_then(|at| self.window.get(at)).copied().unwrap_or(0);
        let carried = |low: u64| {
            low.checked_shr(u32::try_from(64 - bits).unwrap_or(64))
                .unwrap_or(0)
        };
        self.window = (0..WINDOW_WORDS)
            .map(|at| {
                let from = at.checked_sub(whole);
                (word(from) << bits) | carried(word(from.and_then(|from| from.checked_sub(1))))
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn window_random_sequences_equals_a_set_of_numbers(
            sequences in prop::collection::vec(prop_oneof![0..40_u64, 0..3_000_u64, 0..u64::MAX], 0..200),
        ) {
            let mut row = ProducerRow::default();
            let mut stored = BTreeSet::new();
            let mut last = 0;
            for sequence in sequences {
                let expected = if sequence + PRODUCER_WINDOW <= last {
                    Err(NotStored::SequenceTooOld)
                } else if stored.insert(sequence) {
                    Ok(())
                } else {
                    Err(NotStored::Duplicate)
                };
                last = last.max(sequence);
                prop_assert_eq!(row.take(sequence), expected);
            }
        }
    }
}
