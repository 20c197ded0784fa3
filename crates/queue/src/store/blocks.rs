//! One block as the store keeps it in memory: the facts, a bitmap of what is settled, counts of what came back.
//! Not here: the payload (only until its row is written), finding blocks (`reach`), how many are kept (`cache`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use warren_types::{Facts, Position, PositionRange, ShardTime};

use super::ranges;
use super::states::{self, States};
use crate::outcome::{Left, Tally};
use crate::rows::{BlockRow, CountsRow, MarksRow, Row, SettledRow};

/// A block with at least one live message.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) first: Position,
    pub(super) count: u32,
    pub(super) facts: Arc<Facts>,
    /// The bytes of a block that the current entry added: its row is not written yet.
    pub(super) fresh: Option<Bytes>,
    settled: Bits,
    settled_count: u32,
    /// By index in the block: `(delivery count, acquired count)`.
    counts: BTreeMap<u32, (u32, u32)>,
    /// What most blocks have none of.
    pub(super) states: Option<Box<States>>,
    /// When something of it comes due or expires.
    pub(super) timer: Option<ShardTime>,
    /// The current entry has it on its list.
    pub(super) touched: bool,
    pub(super) settled_changed: bool,
    pub(super) counts_changed: bool,
    pub(super) marks_changed: bool,
    pub(super) stored: StoredRows,
    /// Used since the cache last looked.
    pub(super) recent: bool,
}

/// Which rows beside the block's own exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StoredRows {
    pub(super) settled: bool,
    pub(super) counts: bool,
    pub(super) marks: bool,
    /// The time of its timer's row.
    pub(super) timer: Option<ShardTime>,
}

impl Block {
    /// A block that the current entry adds; `absent` (indexes, ascending) is settled from the start.
    pub(super) fn added(
        first: Position,
        count: u32,
        facts: Arc<Facts>,
        payload: Bytes,
        absent: impl IntoIterator<Item = u32>,
    ) -> Self {
        let mut block = Self::bare(first, count, facts);
        block.fresh = Some(payload);
        block.timer = states::first_wake(&block.facts);
        for index in absent {
            block.settled.set(index..index + 1, count);
            block.settled_count += 1;
            block.settled_changed = true;
        }
        block
    }

    /// A block as its rows describe it.
    pub(super) fn loaded(
        row: BlockRow,
        settled: Option<SettledRow>,
        counts: Option<CountsRow>,
        marks: Option<MarksRow>,
    ) -> Self {
        let mut block = Self::bare(row.first, block_count(&row.facts), row.facts);
        block.timer = states::first_wake(&block.facts);
        block.stored = StoredRows {
            settled: settled.is_some(),
            counts: counts.is_some(),
            marks: false,
            timer: block.timer,
        };
        if let Some(marks) = marks {
            block.take_marks(marks);
        }
        for range in settled.iter().flat_map(|row| &row.ranges) {
            if let Some(indexes) = block.indexes(*range) {
                block.settled_count += indexes.end - indexes.start;
                block.settled.set(indexes, block.count);
            }
        }
        let counts = counts.unwrap_or_default();
        for (position, delivered, acquired) in counts.counts {
            if let Some(indexes) = block.indexes(PositionRange::one(position)) {
                block.counts.insert(indexes.start, (delivered, acquired));
            }
        }
        for (position, until) in counts.delayed {
            block.delay(position, Some(until));
        }
        for (position, said) in counts.said {
            block.take_said(position, said);
        }
        block
    }

    fn bare(first: Position, count: u32, facts: Arc<Facts>) -> Self {
        Self {
            first,
            count,
            facts,
            fresh: None,
            settled: Bits::default(),
            settled_count: 0,
            counts: BTreeMap::new(),
            states: None,
            timer: None,
            touched: false,
            settled_changed: false,
            counts_changed: false,
            marks_changed: false,
            stored: StoredRows::default(),
            recent: false,
        }
    }

    /// The first position after the block.
    pub(super) fn end(&self) -> Position {
        self.first.plus(u64::from(self.count))
    }

    pub(super) fn live(&self) -> u32 {
        self.count.saturating_sub(self.settled_count)
    }

    /// The part of a range that lies in this block, as indexes.
    pub(super) fn indexes(&self, range: PositionRange) -> Option<Range<u32>> {
        let inside = ranges::clip(range, self.first, self.end())?;
        let start = u32::try_from(inside.first.0 - self.first.0).ok()?;
        let end = u32::try_from(inside.end().0 - self.first.0).ok()?;
        Some(start..end)
    }

    /// Hash of a message's group key; 0 = none.
    pub(super) fn group(&self, position: Position) -> u64 {
        let index = self.indexes(PositionRange::one(position));
        let index = index.map_or(usize::MAX, |it| it.start as usize);
        self.facts.group_hash.get(index).copied().unwrap_or(0)
    }

    fn positions(&self, indexes: &Range<u32>) -> PositionRange {
        PositionRange {
            first: self.first.plus(u64::from(indexes.start)),
            count: u64::from(indexes.end - indexes.start),
        }
    }

    /// The first run of live messages at or after `at`, before `end`.
    fn live_run(&self, at: u32, end: u32) -> Option<Range<u32>> {
        if self.live() == 0 {
            return None; // its bits were not kept up
        }
        let start = self.settled.next_clear(at, end);
        (start < end).then(|| start..self.settled.next_set(start, end))
    }

    /// Settles what is live of `within`; tells each run.
    pub(super) fn settle(
        &mut self,
        within: Range<u32>,
        mut left: impl FnMut(PositionRange),
    ) -> Left {
        let mut total = Left::default();
        let mut at = within.start;
        while let Some(run) = self.live_run(at, within.end) {
            at = run.end;
            total.all.add(Tally {
                messages: u64::from(run.end - run.start),
                body_bytes: self.body_bytes(&run),
            });
            self.leave_states(&run, &mut total);
            left(self.positions(&run));
            self.settled_count += run.end - run.start;
            self.forget_counts(&run);
            if self.live() > 0 {
                self.settled.set(run, self.count); // a block that is wholly settled goes: nobody asks its bits again
            }
            self.settled_changed = true;
        }
        total
    }

    /// Tells each run of live messages of `within`.
    pub(super) fn each_live(&self, within: Range<u32>, mut live: impl FnMut(PositionRange)) {
        let mut at = within.start;
        while let Some(run) = self.live_run(at, within.end) {
            at = run.end;
            live(self.positions(&run));
        }
    }

    /// Counts one more hand-out of a message (and one more failure, if it was one); returns both counts.
    pub(super) fn count_return(&mut self, position: Position, failed: u32) -> (u32, u32) {
        let Some(indexes) = self.indexes(PositionRange::one(position)) else {
            return (0, 0);
        };
        self.counts_changed = true;
        let (delivered, acquired) = self.counts.entry(indexes.start).or_default();
        *delivered = delivered.saturating_add(failed);
        *acquired = acquired.saturating_add(1);
        (*delivered, *acquired)
    }

    fn body_bytes(&self, run: &Range<u32>) -> u64 {
        body_bytes(&self.facts, run)
    }

    fn forget_counts(&mut self, run: &Range<u32>) {
        if self.counts.is_empty() {
            return;
        }
        let mut from_start = self.counts.split_off(&run.start);
        let mut after = from_start.split_off(&run.end);
        self.counts_changed |= !from_start.is_empty();
        self.counts.append(&mut after);
    }

    /// The row of a block that is written for the first time.
    pub(super) fn row(&self, payload: Bytes) -> Row {
        Row::Block(BlockRow {
            first: self.first,
            facts: Arc::clone(&self.facts),
            payload,
        })
    }

    pub(super) fn settled_row(&self) -> SettledRow {
        let mut row = SettledRow::default();
        let mut at = 0;
        while at < self.count {
            let start = self.settled.next_set(at, self.count);
            at = self.settled.next_clear(start, self.count);
            if start < at {
                row.ranges.push(self.positions(&(start..at)));
            }
        }
        row
    }

    pub(super) fn counts_row(&self) -> CountsRow {
        let position = |index: u32| self.first.plus(u64::from(index));
        CountsRow {
            counts: self
                .counts
                .iter()
                .map(|(&index, &(d, a))| (position(index), d, a))
                .collect(),
            delayed: self
                .states
                .iter()
                .flat_map(|it| &it.delayed)
                .map(|(&index, &until)| (position(index), until))
                .collect(),
            said: self
                .states
                .iter()
                .flat_map(|it| &it.said)
                .map(|(&index, said)| (position(index), said.clone()))
                .collect(),
        }
    }
}

/// Messages of a block, as its own counter. More than 2^32 do not fit into an entry.
pub(super) fn block_count(facts: &Facts) -> u32 {
    u32::try_from(facts.count()).unwrap_or(u32::MAX)
}

/// Body bytes of some messages of a block; a column that is too short counts as zeros.
pub(super) fn body_bytes(facts: &Facts, run: &Range<u32>) -> u64 {
    let sizes = facts.body_size.as_slice();
    let start = (run.start as usize).min(sizes.len());
    let end = (run.end as usize).min(sizes.len());
    sizes
        .get(start..end)
        .unwrap_or_default()
        .iter()
        .map(|&bytes| u64::from(bytes))
        .sum()
}

/// Bits of a block's messages; no words at all while none is set.
#[derive(Debug, Default)]
struct Bits {
    words: Vec<u64>,
}

const WORD_BITS: u32 = u64::BITS;

impl Bits {
    fn set(&mut self, range: Range<u32>, count: u32) {
        if self.words.is_empty() {
            self.words.resize(count.div_ceil(WORD_BITS) as usize, 0);
        }
        let mut at = range.start;
        while at < range.end {
            let bit = at % WORD_BITS;
            let taken = (WORD_BITS - bit).min(range.end - at);
            let mask = (u64::MAX >> (WORD_BITS - taken)) << bit;
            if let Some(word) = self.words.get_mut((at / WORD_BITS) as usize) {
                *word |= mask;
            }
            at += taken;
        }
    }

    /// The first index from `at` on whose bit is set; `end` if none is before it.
    fn next_set(&self, at: u32, end: u32) -> u32 {
        self.next(at, end, 0)
    }

    /// The first index from `at` on whose bit is not set; `end` if none is before it.
    fn next_clear(&self, at: u32, end: u32) -> u32 {
        self.next(at, end, u64::MAX)
    }

    /// The first bit that differs from `skipped`, looked for word by word.
    fn next(&self, mut at: u32, end: u32, skipped: u64) -> u32 {
        while at < end {
            let bit = at % WORD_BITS;
            let word = self
                .words
                .get((at / WORD_BITS) as usize)
                .copied()
                .unwrap_or(0);
            let found = ((word ^ skipped) >> bit).trailing_zeros();
            if found < WORD_BITS - bit {
                return (at + found).min(end);
            }
            at += WORD_BITS - bit;
        }
        end
    }
}
