//! What the dispatcher knows of one queue. Not here: what happens to it (one file per input).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use warren_types::{
    Attempt, Overflow, Position, PositionRange, Priority, QueueId, QueueSettings, ShardTime,
};

use super::back::Back;
use super::claim::Claim;
use super::consumer::Holder;
use super::groups::Groups;
use super::in_flight::{Flight, InFlight, State};
use super::io::{Held, LeavingOpening, QueueOpening};
use super::level::Level;
use super::purge::Purging;
use super::request::Item;
use super::ring::Ring;
use super::single_active::SingleActive;
use crate::outcome::Tally;

/// What an item asked for that waits for another item's fact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Settle,
    Return,
}

/// A returned message that is not ready before its time.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) until: ShardTime,
    pub(super) priority: Priority,
    pub(super) back: Back,
}

/// When the queue's timers are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Nothing is due before this time.
    pub(super) first: Option<ShardTime>,
    /// A look is asked for, or what it found is proposed.
    pub(super) busy: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: QueueId,
    /// What is in force.
    pub(super) settings: Arc<QueueSettings>,
    /// The next position to be given.
    pub(super) next: Position,
    /// Messages in the queue, in whatever state but parked.
    pub(super) live: Tally,
    /// Of them: not due yet.
    pub(super) scheduled: Tally,
    /// Set aside: dispatch has nothing to do with them.
    pub(super) parked: u64,
    pub(super) watch: Watch,
    /// Messages from here on, if they expire as soon as they come, may still be handed out in this turn.
    pub(super) newborn: Option<Position>,
    /// Highest priority first.
    pub(super) levels: Vec<Level>,
    pub(super) in_flight: InFlight,
    /// Of those in flight: how many are settling.
    pub(super) settling: u64,
    /// Above it nothing was claimed in this term; so what the cursor meets there is not in flight.
    pub(super) claimed_end: Position,
    pub(super) claims: BTreeMap<Position, Claim>,
    pub(super) delayed: BTreeMap<Position, Delayed>,
    pub(super) delayed_bytes: u64,
    /// Items that wait for the fact that another item caused.
    pub(super) also: BTreeMap<Position, Vec<(Item, Asked)>>,
    pub(super) attached: BTreeSet<Holder>,
    pub(super) ring: Ring,
    /// One consumer is served at a time.
    pub(super) single: Option<SingleActive>,
    /// Keys are kept in order.
    pub(super) groups: Option<Box<Groups>>,
    /// Of the last activation.
    pub(super) fencing: u64,
    /// On their way to other queues when dispatch opened.
    pub(super) leaving: Vec<PositionRange>,
    /// To be told that messages wait for their credit.
    pub(super) dry: Vec<Holder>,
    /// Proposed and not applied; nothing is handed out meanwhile.
    pub(super) purges: VecDeque<Purging>,
    /// Since dispatch opened: messages handed out, and those of them that may have been seen before.
    pub(super) handed_out: (u64, u64),
    /// As counted in the shard's total.
    pub(super) hot_bytes: usize,
    /// The same: messages that its cursors passed over.
    pub(super) passed: usize,
    /// Stands in the list of queues to be looked at.
    pub(super) dirty: bool,
}

impl Queue {
    pub(super) fn new(id: QueueId, next: Position) -> Self {
        Self {
            id,
            settings: Arc::default(),
            next,
            live: Tally::default(),
            scheduled: Tally::default(),
            parked: 0,
            watch: Watch::default(),
            newborn: None,
            levels: Vec::new(),
            in_flight: InFlight::default(),
            settling: 0,
            claimed_end: Position(0),
            claims: BTreeMap::new(),
            delayed: BTreeMap::new(),
            delayed_bytes: 0,
            also: BTreeMap::new(),
            attached: BTreeSet::new(),
            ring: Ring::default(),
            single: None,
            groups: None,
            fencing: 0,
            leaving: Vec::new(),
            dry: Vec::new(),
            purges: VecDeque::new(),
            handed_out: (0, 0),
            hot_bytes: 0,
            passed: 0,
            dirty: false,
        }
    }

    pub(super) fn opened(opening: QueueOpening) -> Self {
        let mut queue = Self::new(opening.queue, opening.next);
        queue.fencing = opening.fencing;
        let levels = || opening.levels.iter();
        queue.parked = levels().map(|it| it.parked).sum();
        queue.scheduled = Tally {
            messages: levels().map(|it| it.scheduled).sum(),
            body_bytes: opening.scheduled_body_bytes,
        };
        let live: u64 = levels().map(|it| it.live).sum();
        queue.live = Tally {
            messages: live.saturating_sub(queue.parked),
            body_bytes: opening
                .live_body_bytes
                .saturating_sub(opening.parked_body_bytes),
        };
        queue.watch.first = opening.first_timer;
        queue.levels = opening
            .levels
            .into_iter()
            .map(|it| Level::opened(it, opening.next))
            .collect();
        queue
            .levels
            .sort_by_key(|it| std::cmp::Reverse(it.priority));
        queue.take_leaving(&opening.leaving);
        queue
    }

    /// Nobody holds what is on its way to other queues; it is in flight until it has left.
    fn take_leaving(&mut self, leaving: &[LeavingOpening]) {
        for it in leaving {
            self.take_leaving_one(it);
        }
        self.leaving = PositionRange::collect(leaving.iter().map(|it| it.position));
    }

    /// As `take_settling`, of one that may come back: its time goes on.
    pub(super) fn take_leaving_one(&mut self, it: &LeavingOpening) {
        self.take_settling(it.position, it.priority, it.body_bytes, it.group);
        if let Some(flight) = self.in_flight.get_mut(it.position) {
            flight.expiry = it.expiry.unwrap_or(flight.expiry);
            flight.leaving = it.dies;
        }
    }

    /// Nobody's any more, until it has left. It must not be in flight.
    pub(super) fn take_settling(
        &mut self,
        position: Position,
        priority: Priority,
        body_bytes: u32,
        group: u64,
    ) {
        self.in_flight.insert(
            position,
            Flight {
                priority,
                body_bytes,
                group,
                state: State::Settling,
                leaving: true,
                ..Flight::claimed(Attempt::default(), Holder::NOBODY)
            },
        );
        self.settling += 1;
        self.claimed_end = self.claimed_end.max(position.plus(1));
    }

    pub(super) fn level(&self, priority: Priority) -> Option<&Level> {
        self.levels.iter().find(|it| it.priority == priority)
    }

    pub(super) fn level_mut(&mut self, priority: Priority) -> &mut Level {
        let at = match self
            .levels
            .binary_search_by(|it| priority.cmp(&it.priority))
        {
            Ok(at) => at,
            Err(at) => {
                let mut level = Level::new(priority, self.next);
                level.set_grouped(self.groups.is_some());
                self.levels.insert(at, level);
                at
            }
        };
        self.levels.get_mut(at).expect("found or just made")
    }

    /// It was returned in this term: ready again, or waiting for its time.
    pub(super) fn is_back(&self, position: Position) -> bool {
        self.delayed.contains_key(&position)
            || self.levels.iter().any(|it| it.back.contains(position))
    }

    /// Takes a returned message from the ready ones for who held it under this attempt; `None` if it was handed out again since, or
    /// its key is another's.
    pub(super) fn take_ready_again(
        &mut self,
        held: Held,
        holder: Holder,
    ) -> Option<(Priority, Back)> {
        let position = held.position;
        let level = self.levels.iter();
        let mut found = level.filter_map(|it| Some((it.priority, *it.back.get(position)?)));
        let (priority, back) = found.next()?;
        let fenced = back.attempt > held.attempt;
        if fenced || self.is_with_another(back.group, holder) {
            return None;
        }
        Some((priority, self.level_mut(priority).back.remove(position)?))
    }

    /// Something of the key is in flight, and not all of it with this consumer.
    pub(super) fn is_with_another(&self, group: u64, holder: Holder) -> bool {
        let flights = self.in_flight.of_key(group);
        flights.is_some_and(|it| it.holder() != Some(holder))
    }

    /// No messages, in whatever state, and no consumers.
    pub(super) fn is_quiet(&self) -> bool {
        self.live.messages + self.parked == 0 && self.attached.is_empty()
    }

    /// Messages that are due and neither in flight nor delayed.
    pub(super) fn ready(&self) -> u64 {
        let elsewhere = (self.in_flight.len() + self.delayed.len()) as u64;
        let due = self.live.messages.saturating_sub(self.scheduled.messages);
        due.saturating_sub(elsewhere)
    }

    /// Their body bytes.
    pub(super) fn ready_bytes(&self) -> u64 {
        let elsewhere = self.in_flight.body_bytes() + self.delayed_bytes;
        let due = self
            .live
            .body_bytes
            .saturating_sub(self.scheduled.body_bytes);
        due.saturating_sub(elsewhere)
    }

    pub(super) fn delay(&mut self, position: Position, delayed: Delayed) {
        self.claimed_end = self.claimed_end.max(position.plus(1));
        self.delayed_bytes += u64::from(delayed.back.body_bytes);
        if let Some(groups) = &mut self.groups {
            groups.delayed(delayed.back.group, position);
        }
        self.delayed.insert(position, delayed);
    }

    pub(super) fn undelay(&mut self, position: Position) -> Option<Delayed> {
        let delayed = self.delayed.remove(&position)?;
        self.delayed_bytes -= u64::from(delayed.back.body_bytes);
        if let Some(groups) = &mut self.groups {
            groups.undelayed(delayed.back.group, position);
        }
        Some(delayed)
    }

    /// Blocks are worth keeping: somebody may want them.
    pub(super) fn wants_blocks(&self) -> bool {
        !self.attached.is_empty() || self.is_over_limit()
    }

    /// More is ready than the queue may hold, and the oldest gives way.
    pub(super) fn is_over_limit(&self) -> bool {
        let settings = &self.settings;
        let over = |limit: Option<u64>, has: u64| limit.is_some_and(|it| has > it);
        settings.overflow == Overflow::DropHead
            && (over(settings.max_length, self.ready())
                || over(settings.max_length_bytes, self.ready_bytes()))
    }
}
