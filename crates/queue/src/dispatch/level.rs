//! One priority of a queue: what was never looked at (from the cursor on), what came back, and which blocks are at hand.
//! Not here: who gets it (`hand_out`), how far it may be handed out (`mark`).

use std::collections::{BTreeMap, VecDeque};

use warren_types::{Position, PositionRange, Priority};

use super::back::{Back, Backs};
use super::hot::{HotBlock, Stored};
use super::io::{LevelOpening, LoadedBlock};

/// A block that was asked for.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) from: Position,
    /// The level's tail when asked: "no block" says that nothing is left below it.
    tail: Position,
    /// What left the queue since: the block may have been read before.
    gone: Vec<PositionRange>,
}

/// The answer to a `Load`.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) from: Position,
    tail: Position,
    pub(super) block: Option<HotBlock>,
}

impl Arrival {
    /// From where it was asked up to here the level has no block.
    pub(super) fn void_to(&self) -> Position {
        self.block.as_ref().map_or(self.tail, HotBlock::first)
    }
}

/// What the level would hand out next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Nothing,
    /// Never considered before; the front hot block has it.
    Fresh(Position),
    /// Came back; its block is at hand.
    Back(Position),
    /// A block must be read from here on.
    Cold(Position),
}

/// What the level knows of a position that somebody claims to hold.
#[derive(Debug)]
pub(super) enum Known {
    /// Not this level's, or settled.
    Absent,
    Ready(Stored),
    /// A block must be read to know.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Level {
    pub(super) priority: Priority,
    /// At or above it nothing may be handed out.
    pub(super) mark: Position,
    /// A raise is proposed.
    pub(super) mark_asked: bool,
    /// Below it, and not `released`, a message may have been seen in an older term.
    pub(super) suspect_below: Position,
    /// Above it nothing is of an older term.
    opened_below: Position,
    /// Below the mark, yet never handed out; must be taken out by a committed fact before they are.
    pub(super) released: Vec<PositionRange>,
    /// That fact is proposed.
    pub(super) taking: bool,
    /// Taken out: may be handed out, as never seen.
    pub(super) taken: Vec<PositionRange>,
    /// Everything below was considered: it is gone, in flight, back or delayed.
    pub(super) cursor: Position,
    /// The end of the newest block.
    pub(super) tail: Position,
    /// Every block between the cursor and here is hot.
    pub(super) hot_to: Position,
    hot: VecDeque<HotBlock>,
    /// Of all of `hot` and `aside`.
    hot_bytes: usize,
    pub(super) back: Backs,
    /// Came due, and join `back` when the fact that lets them be handed out is committed; with their group keys' hashes.
    pub(super) coming: BTreeMap<Position, u64>,
    /// Where the cursor began.
    begin: Position,
    /// Blocks at hand for messages in `back`, by where they begin: the last one that was read or, where keys are kept in order, as many as
    /// memory allows.
    aside: BTreeMap<Position, HotBlock>,
    /// Keys are kept in order: the cursor passes over what may not be handed out now.
    grouped: bool,
    pub(super) load: Option<Load>,
}

impl Level {
    /// Nothing below is ready.
    pub(super) fn ready_from(&self) -> Position {
        let back = self.back.first();
        back.map_or(self.cursor, |first| first.min(self.cursor))
    }

    pub(super) fn opened(opening: LevelOpening, next: Position) -> Self {
        let cursor = if opening.live == 0 {
            next
        } else {
            opening.head
        };
        Self {
            mark: opening.handed_out,
            suspect_below: opening.handed_out.min(next),
            opened_below: next,
            released: opening.released,
            tail: next,
            ..Self::new(opening.priority, cursor)
        }
    }

    pub(super) fn new(priority: Priority, cursor: Position) -> Self {
        Self {
            priority,
            mark: Position(0),
            mark_asked: false,
            suspect_below: Position(0),
            opened_below: Position(0),
            released: Vec::new(),
            taking: false,
            taken: Vec::new(),
            cursor,
            tail: cursor,
            hot_to: cursor,
            hot: VecDeque::new(),
            hot_bytes: 0,
            back: Backs::default(),
            coming: BTreeMap::new(),
            begin: cursor,
            aside: BTreeMap::new(),
            grouped: false,
            load: None,
        }
    }

    pub(super) fn hot_bytes(&self) -> usize {
        self.hot_bytes
    }

    /// Few hot bytes are left before the cursor reaches a cold block.
    pub(super) fn runs_cold_within(&self, bytes: usize) -> bool {
        let mut left = 0;
        for block in &self.hot {
            left += block.bytes_ahead();
            if left >= bytes {
                return false;
            }
        }
        self.hot_to < self.tail
    }

    /// No mark covers what was stored with a due time: in an older term it may have been seen since it was cleared for hand-out.
    pub(super) fn is_suspect(&self, position: Position, scheduled: bool) -> bool {
        let below = if scheduled {
            self.opened_below
        } else {
            self.suspect_below
        };
        position < below && !self.taken.iter().any(|it| it.contains(position))
    }

    /// The message under the cursor was stored with a due time.
    pub(super) fn fresh_is_scheduled(&self) -> bool {
        self.hot.front().is_some_and(HotBlock::next_is_scheduled)
    }

    /// Moves the cursor to the next message that can be handed out, over those for which `is_elsewhere` (in flight, back, delayed) holds.
    pub(super) fn next(&mut self, is_elsewhere: impl Fn(&Self, Position) -> bool) -> Next {
        loop {
            let Some(first) = self.back.first() else {
                return self.next_fresh(&is_elsewhere);
            };
            if first >= self.cursor {
                match self.next_fresh(&is_elsewhere) {
                    Next::Fresh(at) | Next::Cold(at) if at < first => {
                        return self.next_fresh(&is_elsewhere);
                    }
                    Next::Fresh(_) | Next::Cold(_) | Next::Back(_) | Next::Nothing => {}
                }
            }
            match self.block_of(first) {
                Some(block) if block.is_gone(first) => {
                    self.back.remove(first);
                }
                Some(_) => return Next::Back(first),
                None => return Next::Cold(first),
            }
        }
    }

    fn next_fresh(&mut self, is_elsewhere: &impl Fn(&Self, Position) -> bool) -> Next {
        loop {
            let Some(block) = self.hot.front() else {
                self.cursor = self.cursor.max(self.hot_to);
                return if self.cursor < self.tail {
                    Next::Cold(self.cursor)
                } else {
                    Next::Nothing
                };
            };
            match block.next() {
                None => {
                    self.cursor = self.cursor.max(block.end());
                    self.leave_front();
                }
                Some(at) => {
                    self.cursor = at;
                    if !block.is_gone(at) && !block.is_waiting(at) && !is_elsewhere(self, at) {
                        return Next::Fresh(at);
                    }
                    if let Some(block) = self.hot.front_mut() {
                        block.skip();
                    }
                    self.cursor = at.plus(1);
                }
            }
        }
    }

    /// It is not the cursor's to find: it came back, or comes by itself.
    pub(super) fn is_apart(&self, position: Position) -> bool {
        self.back.contains(position) || self.coming.contains_key(&position)
    }

    /// The cursor is past the front block; what it passed over of it is still wanted.
    fn leave_front(&mut self) {
        let Some(block) = self.hot.pop_front() else {
            return;
        };
        if self.grouped && self.is_wanted(&block) {
            self.aside.insert(block.first(), block);
        } else {
            self.hot_bytes -= block.bytes();
        }
    }

    fn is_wanted(&self, block: &HotBlock) -> bool {
        self.back.first_in(block.first()..block.end()).is_some()
    }

    /// Whether keys are kept in order from now on.
    pub(super) fn set_grouped(&mut self, grouped: bool) {
        self.grouped = grouped;
        self.back.tell(grouped);
    }

    /// What the cursor finds; messages in `back` must be elsewhere.
    pub(super) fn fresh(&mut self, is_elsewhere: impl Fn(&Self, Position) -> bool) -> Next {
        self.next_fresh(&is_elsewhere)
    }

    /// The message under the cursor is to be found by its key; the cursor goes on.
    pub(super) fn pass_over(&mut self, position: Position) {
        let redelivered = self.is_suspect(position, self.fresh_is_scheduled());
        if let Some(stored) = self.take_fresh() {
            let back = Back::passed_over(&stored, redelivered);
            self.back.insert(position, back);
        }
    }

    /// Where a message in `back` is: its block may have to be read, or it is gone.
    pub(super) fn find_back(&mut self, position: Position) -> Next {
        match self.block_of(position) {
            Some(block) if block.is_gone(position) => {
                self.back.remove(position);
                Next::Nothing
            }
            Some(_) => Next::Back(position),
            None => Next::Cold(position),
        }
    }

    /// The message under the cursor, which moves on.
    pub(super) fn take_fresh(&mut self) -> Option<Stored> {
        let block = self.hot.front_mut()?;
        let stored = block.take()?;
        self.cursor = self.cursor.plus(1);
        Some(stored)
    }

    /// A message that came back, with its committed counts, and whether it was handed out before.
    pub(super) fn take_back(&mut self, position: Position) -> Option<(Stored, bool)> {
        let stored = self.block_of(position)?.look(position)?;
        let back = self.back.remove(position)?;
        self.drop_unwanted(position);
        let stored = Stored {
            delivery_count: back.delivery_count,
            acquired_count: back.acquired_count,
            ..stored
        };
        Some((stored, back.redelivered))
    }

    /// The block at hand for this position only, if nothing else of it is wanted. Where keys do not matter it stays until another is read.
    fn drop_unwanted(&mut self, position: Position) {
        if !self.grouped {
            return;
        }
        let found = self.aside.range(..=position).next_back();
        let Some((&first, block)) = found.filter(|(_, it)| it.holds(position)) else {
            return;
        };
        if !self.is_wanted(block) {
            self.hot_bytes -= block.bytes();
            self.aside.remove(&first);
        }
    }

    fn block_of(&self, position: Position) -> Option<&HotBlock> {
        let near = self.aside.range(..=position).next_back();
        let near = near.map(|(_, it)| it).filter(|it| it.holds(position));
        near.or_else(|| {
            let at = self.hot.partition_point(|it| it.end() <= position);
            self.hot.get(at).filter(|it| it.holds(position))
        })
    }

    /// A block was added at the tail; kept if nothing cold lies before it and somebody may want it.
    pub(super) fn add(&mut self, block: HotBlock, keep: bool) {
        if block.first() < self.hot_to {
            self.tail = self.tail.max(block.end());
            return; // It was read before its effect was heard.
        }
        let complete = self.hot_to >= self.tail;
        self.tail = block.end();
        if complete && keep {
            self.hot_to = block.end();
            self.push_hot(block);
        }
    }

    fn push_hot(&mut self, block: HotBlock) {
        self.hot_bytes += block.bytes();
        self.hot.push_back(block);
    }

    pub(super) fn ask(&mut self, from: Position) {
        debug_assert!(self.load.is_none());
        self.load = Some(Load {
            from,
            tail: self.tail,
            gone: Vec::new(),
        });
    }

    /// Takes the answer to `ask`, with what left since struck from it. `None`: nothing was asked.
    pub(super) fn arrive(&mut self, block: Option<&LoadedBlock>) -> Option<Arrival> {
        let load = self.load.take()?;
        let mut block = block.map(HotBlock::loaded);
        if let Some(block) = &mut block {
            for &range in &load.gone {
                block.strike(range);
            }
        }
        Some(Arrival {
            from: load.from,
            tail: load.tail,
            block,
        })
    }

    /// Keeps what arrived as far as it is of use.
    pub(super) fn keep(&mut self, arrival: Arrival) {
        let from = arrival.from;
        self.forget_back_between(from, arrival.void_to());
        let Some(mut block) = arrival.block else {
            if from == self.hot_to {
                self.hot_to = self.hot_to.max(arrival.tail);
            }
            return;
        };
        if from == self.hot_to {
            self.hot_to = block.end();
            self.tail = self.tail.max(block.end());
            block.skip_to(self.cursor);
            self.push_hot(block);
        } else if self.is_wanted(&block) {
            if !self.grouped {
                self.drop_aside();
            }
            self.hot_bytes += block.bytes();
            if let Some(old) = self.aside.insert(block.first(), block) {
                self.hot_bytes -= old.bytes();
            }
        }
    }

    fn drop_aside(&mut self) {
        while let Some((_, block)) = self.aside.pop_last() {
            self.hot_bytes -= block.bytes();
        }
    }

    /// The store says that these are not there: whatever removed them, they cannot be handed out.
    fn forget_back_between(&mut self, from: Position, to: Position) {
        self.back.remove_range(from..to);
    }

    /// These left the queue: not by being in flight.
    pub(super) fn strike(&mut self, range: PositionRange) {
        // The block may begin below what was asked for.
        if let Some(load) = self.load.as_mut() {
            load.gone.push(range);
        }
        if !self.aside.is_empty() {
            let from = self.aside.range(..=range.first).next_back();
            let from = from.map_or(range.first, |(&at, _)| at);
            for (_, block) in self.aside.range_mut(from..range.end().max(from)) {
                block.strike(range);
            }
        }
        if range.end() <= self.cursor {
            return;
        }
        let from = self.hot.partition_point(|it| it.end() <= range.first);
        for block in self.hot.range_mut(from..) {
            if block.first() >= range.end() {
                break;
            }
            block.strike(range);
        }
    }

    /// In an older term the message may have been handed out.
    pub(super) fn may_have_been_seen(&self, position: Position, stored: &Stored) -> bool {
        self.is_suspect(position, stored.scheduled)
            && !self.released.iter().any(|it| it.contains(position))
    }

    /// What the level knows of a claimed position that is not in flight, back or delayed.
    pub(super) fn look(&self, position: Position) -> Known {
        if position < self.cursor || position >= self.tail {
            return Known::Absent;
        }
        match self.block_of(position) {
            Some(block) if block.is_waiting(position) => Known::Absent,
            Some(block) => block.look(position).map_or(Known::Absent, Known::Ready),
            None if position < self.hot_to => Known::Absent,
            None => Known::Unknown,
        }
    }

    /// Drops one block, the newest. The front one stays if `keep_front`. Says whether there was one to drop.
    pub(super) fn trim(&mut self, keep_front: bool) -> bool {
        if self.hot.len() > usize::from(keep_front) {
            if let Some(block) = self.hot.pop_back() {
                self.hot_bytes -= block.bytes();
                self.hot_to = block.first().max(self.cursor);
            }
            return true;
        }
        // What is at hand for the oldest of those that wait is wanted first.
        if self.aside.len() <= usize::from(keep_front) {
            return false;
        }
        match self.aside.pop_last() {
            Some((_, block)) => {
                self.hot_bytes -= block.bytes();
                true
            }
            None => false,
        }
    }

    /// It came due while nobody wanted it: below the mark or not, it was never handed out.
    pub(super) fn add_released(&mut self, position: Position) {
        match self.released.last_mut() {
            Some(last) if last.end() == position => last.count += 1,
            Some(_) | None => self.released.push(PositionRange::one(position)),
        }
    }

    /// Begins anew from where the cursor began. All it passed must be known as elsewhere, gone or not due.
    pub(super) fn rewind(&mut self) {
        self.cursor = self.begin;
        self.drop_hot();
    }

    /// Nobody consumes any more.
    pub(super) fn drop_hot(&mut self) {
        self.hot.clear();
        self.aside.clear();
        self.hot_bytes = 0;
        self.hot_to = self.cursor;
    }
}
