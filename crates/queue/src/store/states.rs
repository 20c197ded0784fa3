//! States of a block's messages that most blocks know nothing of: scheduled, released, parked, delayed; and the block's timer.
//! Not here: what is settled (`blocks`), the rows (`flush`), who acts when a timer rings (`dispatch`).
//!
//! A message stored with a due time is *scheduled* until a release; one set aside is *parked*. A block whose messages come due or
//! expire has one timer: the earliest time at which something is to be done. An expired message that is in flight stays; the
//! timer comes back to it.

use std::collections::BTreeMap;
use std::ops::Range;

use warren_types::{Facts, Position, PositionRange, ShardTime};

use super::blocks::Block;
use super::limits::TIMER_RECHECK_MS;
use super::ranges;
use crate::entry::ParkCause;
use crate::outcome::{Left, Tally};
use crate::rows::{MarksRow, SaidAt};

/// The timer of a block that has none, as its row of marks says it.
const NEVER: ShardTime = ShardTime(u64::MAX);

#[derive(Debug, Default)]
pub(super) struct States {
    /// Stored with a due time, and due since.
    pub(super) released: Vec<PositionRange>,
    /// By index in the block.
    pub(super) parked: BTreeMap<u32, ParkCause>,
    /// Not ready again before a time, by index in the block.
    pub(super) delayed: BTreeMap<u32, ShardTime>,
    /// What consumers said of them, by index in the block; oldest first.
    pub(super) said: BTreeMap<u32, Vec<SaidAt>>,
    /// What all of that takes.
    pub(super) said_bytes: usize,
}

impl States {
    /// False: nothing was said of it.
    fn forget_said(&mut self, index: u32) -> bool {
        let Some(said) = self.said.remove(&index) else {
            return false;
        };
        let bytes: usize = said.iter().map(|it| it.said.bytes()).sum();
        self.said_bytes = self.said_bytes.saturating_sub(bytes);
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageState {
    /// Ready or in flight: the dispatcher knows.
    Ready,
    Scheduled,
    /// Not ready again before this time.
    Delayed(ShardTime),
    Parked(ParkCause),
}

/// When the first of a block's messages comes due or expires, by its facts alone. The end of time never comes.
pub(super) fn first_wake(facts: &Facts) -> Option<ShardTime> {
    earliest(facts).filter(|&it| it != NEVER)
}

fn earliest(facts: &Facts) -> Option<ShardTime> {
    if facts.due.is_empty() {
        return facts.expiry.iter().flatten().min().copied();
    }
    let expiry = |index: usize| facts.expiry.get(index).copied().flatten();
    let due = facts.due.iter().enumerate();
    due.filter_map(|(index, due)| due.or_else(|| expiry(index)))
        .min()
}

/// Messages of a block that were stored with a due time, and their bytes, but for those in `absent` (ascending).
pub(super) fn scheduled(facts: &Facts, absent: &[u32]) -> Tally {
    let mut tally = Tally::default();
    for (index, due) in facts.due.iter().take(facts.size.len()).enumerate() {
        let there = u32::try_from(index).is_ok_and(|it| absent.binary_search(&it).is_err());
        if due.is_some() && there {
            tally.messages += 1;
            tally.body_bytes += facts.body_size.get(index).map_or(0, |&it| u64::from(it));
        }
    }
    tally
}

impl Block {
    /// Takes the states that rows tell of.
    pub(super) fn take_marks(&mut self, marks: MarksRow) {
        self.stored.marks = true;
        if let Some(timer) = marks.timer {
            self.timer = Some(timer).filter(|&it| it != NEVER);
            self.stored.timer = self.timer;
        }
        let parked = marks.parked.into_iter().filter_map(|(position, cause)| {
            let indexes = self.indexes(PositionRange::one(position))?;
            Some((indexes.start, cause))
        });
        let parked = parked.collect();
        let states = self.states.get_or_insert_default();
        states.released = marks.released;
        states.parked = parked;
    }

    pub(super) fn marks_row(&self) -> MarksRow {
        let first = first_wake(&self.facts);
        let timer = (self.timer != first).then(|| self.timer.unwrap_or(NEVER));
        let Some(states) = &self.states else {
            return MarksRow {
                timer,
                ..MarksRow::default()
            };
        };
        let parked = states.parked.iter();
        MarksRow {
            released: states.released.clone(),
            parked: parked
                .map(|(&index, &cause)| (self.first.plus(u64::from(index)), cause))
                .collect(),
            timer,
        }
    }

    /// Ascending.
    pub(super) fn parked_positions(&self) -> impl Iterator<Item = Position> + '_ {
        let parked = self.states.iter().flat_map(|it| it.parked.keys());
        parked.map(|&index| self.first.plus(u64::from(index)))
    }

    /// Whether a message may be in another state than ready or in flight.
    pub(super) fn has_states(&self) -> bool {
        !self.facts.due.is_empty() || self.states.is_some()
    }

    pub(super) fn state(&self, index: u32) -> MessageState {
        if let Some(states) = &self.states {
            if let Some(&cause) = states.parked.get(&index) {
                return MessageState::Parked(cause);
            }
            if let Some(&until) = states.delayed.get(&index) {
                return MessageState::Delayed(until);
            }
        }
        if self.is_scheduled(index) {
            return MessageState::Scheduled;
        }
        MessageState::Ready
    }

    fn is_scheduled(&self, index: u32) -> bool {
        let due = self.facts.due.get(index as usize).copied().flatten();
        due.is_some()
            && self.states.as_ref().is_none_or(|states| {
                !ranges::contains(&states.released, self.first.plus(u64::from(index)))
            })
    }

    /// Counts a run that leaves by the states it was in, and forgets them.
    pub(super) fn leave_states(&mut self, run: &Range<u32>, left: &mut Left) {
        if !self.has_states() {
            return;
        }
        for index in run.clone() {
            let tally = self.tally(index);
            match self.state(index) {
                MessageState::Ready | MessageState::Delayed(_) => {}
                MessageState::Scheduled => left.scheduled.add(tally),
                MessageState::Parked(_) => left.parked.add(tally),
            }
            if let Some(states) = &mut self.states {
                self.marks_changed |= states.parked.remove(&index).is_some();
                states.delayed.remove(&index);
                self.counts_changed |= states.forget_said(index);
            }
        }
    }

    /// A scheduled message is due. False: it is not scheduled.
    pub(super) fn release(&mut self, position: Position) -> Option<Tally> {
        let index = self.indexes(PositionRange::one(position))?.start;
        if self.state(index) != MessageState::Scheduled {
            return None;
        }
        let states = self.states.get_or_insert_default();
        ranges::insert(&mut states.released, PositionRange::one(position));
        self.marks_changed = true;
        Some(self.tally(index))
    }

    /// Sets a message aside that is ready or in flight.
    pub(super) fn park(&mut self, position: Position, cause: ParkCause) -> Option<Tally> {
        let index = self.indexes(PositionRange::one(position))?.start;
        match self.state(index) {
            MessageState::Ready | MessageState::Delayed(_) => {}
            MessageState::Scheduled | MessageState::Parked(_) => return None,
        }
        let states = self.states.get_or_insert_default();
        states.parked.insert(index, cause);
        states.delayed.remove(&index);
        self.marks_changed = true;
        Some(self.tally(index))
    }

    /// A returned message is not ready before a time, or at once.
    pub(super) fn delay(&mut self, position: Position, until: Option<ShardTime>) {
        let Some(indexes) = self.indexes(PositionRange::one(position)) else {
            return;
        };
        match self.state(indexes.start) {
            MessageState::Ready | MessageState::Delayed(_) => {}
            MessageState::Scheduled | MessageState::Parked(_) => return,
        }
        match until {
            Some(until) => {
                let states = self.states.get_or_insert_default();
                states.delayed.insert(indexes.start, until);
            }
            None => {
                if let Some(states) = &mut self.states {
                    states.delayed.remove(&indexes.start);
                }
            }
        }
    }

    /// Tells each live message of `within` with its state.
    pub(super) fn each_live_index(
        &self,
        within: Range<u32>,
        mut live: impl FnMut(Position, MessageState),
    ) {
        self.each_live(within, |run| {
            for position in run.positions() {
                if let Some(indexes) = self.indexes(PositionRange::one(position)) {
                    live(position, self.state(indexes.start));
                }
            }
        });
    }

    pub(super) fn tally(&self, index: u32) -> Tally {
        Tally {
            messages: 1,
            body_bytes: super::blocks::body_bytes(&self.facts, &(index..index + 1)),
        }
    }

    /// Sets the timer to what comes next: what is due by `now` and still scheduled rings at once, what has expired by `now` and is
    /// still here is looked at again later.
    pub(super) fn rearm(&mut self, now: ShardTime) {
        self.rearm_with(now, &[]);
    }

    /// As [`Self::rearm`]; what has just been released was not looked at yet, so its expiry rings even if it has passed.
    pub(super) fn rearm_with(&mut self, now: ShardTime, released: &[PositionRange]) {
        if self.facts.due.is_empty() && self.facts.expiry.is_empty() {
            return;
        }
        let mut next: Option<ShardTime> = None;
        let mut live = Vec::new();
        self.each_live(0..self.count, |run| live.push(run));
        for position in live.iter().flat_map(|run| run.positions()) {
            let is_new = released.iter().any(|it| it.contains(position));
            let wake = self.wake_of(position, now, is_new);
            next = match (next, wake) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        let next = next.filter(|&it| it != NEVER);
        self.marks_changed |= self.timer != next;
        self.timer = next;
    }

    fn wake_of(&self, position: Position, now: ShardTime, is_new: bool) -> Option<ShardTime> {
        let index = self.indexes(PositionRange::one(position))?.start;
        match self.state(index) {
            MessageState::Scheduled => self.facts.due.get(index as usize).copied().flatten(),
            MessageState::Parked(_) => None,
            MessageState::Ready | MessageState::Delayed(_) => {
                let expiry = self.facts.expiry.get(index as usize).copied().flatten()?;
                let again = ShardTime(now.0.saturating_add(TIMER_RECHECK_MS));
                let is_ahead = expiry > now || is_new;
                Some(if is_ahead { expiry } else { again })
            }
        }
    }
}
