//! The way from positions to live blocks: through memory first, then through `Rows`, past what the current entry removed.
//! Not here: what is done to the blocks (`command`), which stay in memory (`cache`).

use std::collections::BTreeMap;
use std::ops::Range;

use warren_types::{Position, PositionRange, Priority, QueueId};

use super::blocks::{Block, StoredRows};
use super::cache::Cache;
use super::queue::{Level, Queue};
use super::ranges;
use crate::rows::{BlockRow, LevelRow, Row, RowKey, Rows};

/// What the search needs beside the queue.
pub(super) struct Reach<'a> {
    pub(super) rows: &'a dyn Rows,
    pub(super) cache: &'a mut Cache,
}

/// What a visitor did to a piece of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    Read,
    Changed,
}

/// Where a position leads.
enum Spot {
    Block {
        level: usize,
        first: Position,
    },
    /// No live block holds it, nor any position before this one.
    Gap {
        until: Position,
    },
}

impl Queue {
    /// Shows the visitor every piece of the named ranges that lies in a block with live messages, in the order named.
    /// Blocks that have none left afterwards are removed.
    pub(super) fn each_piece(
        &mut self,
        reach: &mut Reach<'_>,
        named: &[PositionRange],
        mut visit: impl FnMut(&mut LevelRow, &mut Block, Range<u32>) -> Visit,
    ) {
        let mut cursor = Cursor::new(named, self.next);
        while let Some(piece) = cursor.piece() {
            match self.locate(reach, piece.first) {
                Spot::Gap { until } => cursor.pass(until),
                Spot::Block { level: at, first } => {
                    let level = self.levels.get_mut(at).expect("locate counted the levels");
                    let block = level
                        .blocks
                        .get_mut(&first)
                        .expect("locate found it in memory");
                    let mut did = Visit::Read;
                    while let Some(indexes) =
                        cursor.piece().and_then(|piece| block.indexes_at(piece))
                    {
                        cursor.pass(block.first.plus(u64::from(indexes.end)));
                        if visit(&mut level.row, block, indexes) == Visit::Changed {
                            did = Visit::Changed;
                        }
                    }
                    block.recent = true;
                    if did == Visit::Changed {
                        self.changed(reach, at, first);
                    }
                }
            }
        }
    }

    /// Puts a block on the entry's list, or removes it if it has nothing live left.
    fn changed(&mut self, reach: &mut Reach<'_>, at: usize, first: Position) {
        let Some(level) = self.levels.get_mut(at) else {
            return;
        };
        let Some(block) = level.blocks.get_mut(&first) else {
            return;
        };
        let name = (level.row.priority, first);
        if block.live() > 0 {
            if !block.touched {
                block.touched = true;
                self.touched_blocks.push(name);
            }
            return;
        }
        if let Some(block) = level.remove(first) {
            reach.cache.removed(block.count);
            if block.fresh.is_none() {
                self.removed.insert(name, block.stored);
            }
        }
    }

    fn locate(&mut self, reach: &mut Reach<'_>, position: Position) -> Spot {
        let (id, removed) = (self.id, &self.removed);
        let found =
            |level: usize, first: Option<Position>| first.map(|first| Spot::Block { level, first });
        let mut levels = self.levels.iter().enumerate();
        if let Some(spot) =
            levels.find_map(|(at, level)| found(at, level.holding_in_memory(position)))
        {
            return spot;
        }
        let mut levels = self.levels.iter_mut().enumerate();
        if let Some(spot) = levels
            .find_map(|(at, level)| found(at, level.holding_in_rows(id, removed, reach, position)))
        {
            return spot;
        }
        let later = self
            .levels
            .iter_mut()
            .filter_map(|level| level.at_or_after(id, removed, reach, position));
        let until = later.min().unwrap_or(self.next);
        Spot::Gap {
            until: until.max(position.plus(1)),
        }
    }
}

impl Level {
    fn holding_in_memory(&self, position: Position) -> Option<Position> {
        let (&first, block) = self.blocks.range(..=position).next_back()?;
        (position < block.end()).then_some(first)
    }

    fn holding_in_rows(
        &mut self,
        queue: QueueId,
        removed: &BTreeMap<(Priority, Position), StoredRows>,
        reach: &mut Reach<'_>,
        position: Position,
    ) -> Option<Position> {
        if self.row.live == 0 || position < self.row.head || position >= self.complete_from {
            return None;
        }
        let row = reach
            .rows
            .block_holding(queue, self.row.priority, position)?;
        let holds = position >= row.first && position < row.first.plus(row.facts.count());
        (holds && !removed.contains_key(&(self.row.priority, row.first)))
            .then(|| self.load(queue, reach, row))
    }

    /// The first live block that begins at or after `from`.
    pub(super) fn at_or_after(
        &mut self,
        queue: QueueId,
        removed: &BTreeMap<(Priority, Position), StoredRows>,
        reach: &mut Reach<'_>,
        from: Position,
    ) -> Option<Position> {
        if self.row.live == 0 {
            return None;
        }
        let mut from = from.max(self.row.head);
        let in_memory = self.blocks.range(from..).next().map(|(&first, _)| first);
        if from >= self.complete_from {
            return in_memory;
        }
        loop {
            let Some(row) = reach.rows.block_at_or_after(queue, self.row.priority, from) else {
                return in_memory;
            };
            if in_memory.is_some_and(|first| first <= row.first) {
                return in_memory;
            }
            if !removed.contains_key(&(self.row.priority, row.first)) {
                return Some(self.load(queue, reach, row));
            }
            from = row.first.plus(row.facts.count().max(1));
        }
    }

    /// Takes a block into memory that its rows describe.
    fn load(&mut self, queue: QueueId, reach: &mut Reach<'_>, row: BlockRow) -> Position {
        let (priority, first) = (self.row.priority, row.first);
        let settled = reach
            .rows
            .get(&RowKey::Settled {
                queue,
                priority,
                first,
            })
            .and_then(Row::into_settled);
        let counts = reach
            .rows
            .get(&RowKey::Counts {
                queue,
                priority,
                first,
            })
            .and_then(Row::into_counts);
        let marks = reach
            .rows
            .get(&RowKey::Marks {
                queue,
                priority,
                first,
            })
            .and_then(Row::into_marks);
        let block = Block::loaded(row, settled, counts, marks);
        reach.cache.added(queue, priority, first, block.count);
        self.blocks.insert(first, block);
        first
    }
}

impl Block {
    /// The part of a piece that lies in this block, if the piece begins here.
    fn indexes_at(&self, piece: PositionRange) -> Option<Range<u32>> {
        (piece.first >= self.first)
            .then(|| self.indexes(piece))
            .flatten()
            .filter(|_| piece.first < self.end())
    }
}

/// Walks over ranges, cut to what the queue has.
struct Cursor<'a> {
    named: std::slice::Iter<'a, PositionRange>,
    at: Option<PositionRange>,
    next: Position,
}

impl<'a> Cursor<'a> {
    fn new(named: &'a [PositionRange], next: Position) -> Self {
        let mut cursor = Self {
            named: named.iter(),
            at: None,
            next,
        };
        cursor.advance();
        cursor
    }

    /// What is left of the current range.
    fn piece(&self) -> Option<PositionRange> {
        self.at
    }

    /// All before `until` is done.
    fn pass(&mut self, until: Position) {
        self.at = self.at.and_then(|at| ranges::clip(at, until, at.end()));
        if self.at.is_none() {
            self.advance();
        }
    }

    fn advance(&mut self) {
        let next = self.next;
        self.at = self
            .named
            .find_map(|range| ranges::clip(*range, Position(0), next));
    }
}
