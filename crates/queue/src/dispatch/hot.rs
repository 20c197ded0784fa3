//! One block kept ready: its bytes and what is known to be gone of it. Not here: which blocks are kept (`level`).

use std::sync::Arc;

use bytes::Bytes;
use warren_types::{Facts, Position, PositionRange, ShardTime};

use super::io::LoadedBlock;
use crate::outcome::{Added, BlockRef};

/// What the dispatcher must know of a message to hand it out.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) message: Bytes,
    pub(super) body_bytes: u32,
    pub(super) delivery_count: u32,
    pub(super) acquired_count: u32,
    /// `NEVER`: it does not expire.
    pub(super) expiry: ShardTime,
    /// Stored with a due time: no mark covers it.
    pub(super) scheduled: bool,
    /// Hash of its group key; 0 = none.
    pub(super) group: u64,
}

/// The expiry of what does not expire.
pub(super) const NEVER: ShardTime = ShardTime(u64::MAX);

#[derive(Debug)]
pub(super) struct HotBlock {
    block: BlockRef,
    facts: Arc<Facts>,
    payload: Bytes,
    gone: Vec<PositionRange>,
    /// Of those stored with a due time: due since.
    released: Vec<PositionRange>,
    /// `(position, delivery count, acquired count)`, ascending.
    counts: Vec<(Position, u32, u32)>,
    /// The next message to be looked at, and where its bytes begin.
    index: usize,
    offset: usize,
}

/// Memory of the facts of one message, roughly.
const FACTS_BYTES: usize = 48;

impl HotBlock {
    pub(super) fn added(added: Added) -> Self {
        Self::new(
            added.block,
            added.facts,
            added.payload,
            added.absent,
            Vec::new(),
            Vec::new(),
        )
    }

    pub(super) fn loaded(loaded: &LoadedBlock) -> Self {
        Self::new(
            loaded.block,
            Arc::clone(&loaded.facts),
            loaded.payload.clone(),
            loaded.settled.clone(),
            loaded.released.clone(),
            loaded.counts.clone(),
        )
    }

    fn new(
        block: BlockRef,
        facts: Arc<Facts>,
        payload: Bytes,
        gone: Vec<PositionRange>,
        released: Vec<PositionRange>,
        counts: Vec<(Position, u32, u32)>,
    ) -> Self {
        debug_assert_eq!(facts.count(), u64::from(block.count));
        Self {
            block,
            facts,
            payload,
            gone,
            released,
            counts,
            index: 0,
            offset: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.payload.len() + self.facts.size.len() * FACTS_BYTES
    }

    /// Bytes not yet walked over.
    pub(super) fn bytes_ahead(&self) -> usize {
        self.payload.len().saturating_sub(self.offset)
    }

    pub(super) fn first(&self) -> Position {
        self.block.first
    }

    pub(super) fn end(&self) -> Position {
        self.block.first.plus(u64::from(self.block.count))
    }

    pub(super) fn holds(&self, position: Position) -> bool {
        self.first() <= position && position < self.end()
    }

    /// The next message to be looked at; `None` when all were.
    pub(super) fn next(&self) -> Option<Position> {
        (self.index < self.facts.size.len()).then(|| self.first().plus(self.index as u64))
    }

    pub(super) fn skip(&mut self) {
        self.offset += self.size(self.index);
        self.index += 1;
    }

    pub(super) fn skip_to(&mut self, position: Position) {
        while self.next().is_some_and(|it| it < position) {
            self.skip();
        }
    }

    /// The next message, which is then behind.
    pub(super) fn take(&mut self) -> Option<Stored> {
        let position = self.next()?;
        let stored = self.stored(position, self.index, self.offset);
        self.skip();
        Some(stored)
    }

    /// Any message of the block.
    pub(super) fn look(&self, position: Position) -> Option<Stored> {
        if !self.holds(position) || self.is_gone(position) {
            return None;
        }
        let index = usize::try_from(position.0 - self.first().0).ok()?;
        let offset = (0..index).map(|it| self.size(it)).sum();
        Some(self.stored(position, index, offset))
    }

    pub(super) fn is_gone(&self, position: Position) -> bool {
        !self.gone.is_empty() && self.gone.iter().any(|it| it.contains(position))
    }

    /// It was not due when the block was read: when it is, it comes by itself.
    pub(super) fn is_waiting(&self, position: Position) -> bool {
        if self.facts.due.is_empty() {
            return false;
        }
        let index = usize::try_from(position.0.saturating_sub(self.first().0));
        let due = index.ok().and_then(|it| self.facts.due.get(it)?.as_ref());
        due.is_some() && !self.released.iter().any(|it| it.contains(position))
    }

    /// Left the queue since the block was read.
    pub(super) fn strike(&mut self, range: PositionRange) {
        if range.first < self.end() && self.first() < range.end() {
            match self.gone.last_mut() {
                Some(last) if last.end() == range.first => last.count += range.count,
                Some(_) | None => self.gone.push(range),
            }
        }
    }

    fn size(&self, index: usize) -> usize {
        self.facts.size.get(index).map_or(0, |&it| it as usize)
    }

    fn stored(&self, position: Position, index: usize, offset: usize) -> Stored {
        let end = offset + self.size(index);
        assert!(
            end <= self.payload.len(),
            "a block's sizes add up to its payload: checked when it was decoded"
        );
        let (delivery_count, acquired_count) = match self
            .counts
            .binary_search_by_key(&position, |&(at, _, _)| at)
        {
            Ok(at) => self.counts.get(at).map_or((0, 0), |&(_, d, a)| (d, a)),
            Err(_) => (0, 0),
        };
        Stored {
            message: self.payload.slice(offset..end),
            body_bytes: self.facts.body_size.get(index).copied().unwrap_or(0),
            delivery_count,
            acquired_count,
            expiry: self
                .facts
                .expiry
                .get(index)
                .copied()
                .flatten()
                .unwrap_or(NEVER),
            scheduled: self.is_scheduled(index),
            group: self.facts.group_hash.get(index).copied().unwrap_or(0),
        }
    }

    /// The message with this index was stored with a due time.
    fn is_scheduled(&self, index: usize) -> bool {
        self.facts.due.get(index).is_some_and(Option::is_some)
    }

    /// The next message was stored with a due time.
    pub(super) fn next_is_scheduled(&self) -> bool {
        self.is_scheduled(self.index)
    }
}
