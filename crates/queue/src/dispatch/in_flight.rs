//! What a queue has handed out and not yet seen settled or returned. Not here: who may hold more (`consumer`), what is ready (`level`).
//!
//! Hand-outs come almost always in ascending order and end almost always near the front, so they stand in one line: found by
//! guess or binary search, struck out in place, dropped from the front. What comes out of order goes beside it.

use std::collections::{BTreeMap, VecDeque};

use warren_types::{Attempt, Position, PositionRange, Priority, ShardTime};

use super::back::Back;
use super::consumer::Holder;
use super::hot::{NEVER, Stored};
use super::keys::{KeyFlights, Keys};
use super::request::RequestId;

/// What is happening to a message in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Claimed after a change of leader; its block is not read yet, so it may be settled already.
    Unverified,
    Held,
    /// A settle is proposed.
    Settling,
    /// A return is proposed.
    Returning,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) attempt: Attempt,
    pub(super) holder: Holder,
    /// Who waits for the proposed settle or return.
    pub(super) request: Option<RequestId>,
    pub(super) body_bytes: u32,
    pub(super) priority: Priority,
    pub(super) state: State,
    /// Its node reports anew, or its consumer has attached anew, and has not named it: no credit of the consumer is spent on it.
    pub(super) unclaimed: bool,
    /// The credit it used comes back at the commit, not before.
    pub(super) refill_due: bool,
    /// Failed attempts before this one.
    pub(super) delivery_count: u32,
    pub(super) expiry: ShardTime,
    /// Hash of its group key; 0 = none, or not known yet.
    pub(super) group: u64,
    /// It came back before, or goes otherwise than acked: where keys are strict, its key waits for it.
    pub(super) failed: bool,
    /// It is to leave otherwise than acked: on its way to a dead-letter target, or to be dropped.
    pub(super) leaving: bool,
}

impl Flight {
    /// In flight by somebody's word; what the message is like is not known yet.
    pub(super) fn claimed(attempt: Attempt, holder: Holder) -> Self {
        Self {
            attempt,
            holder,
            request: None,
            body_bytes: 0,
            priority: Priority::DEFAULT,
            state: State::Unverified,
            unclaimed: false,
            refill_due: false,
            delivery_count: 0,
            expiry: NEVER,
            group: 0,
            failed: false,
            leaving: false,
        }
    }

    /// The group key it holds: what nobody was handed holds none.
    fn key(&self) -> Option<u64> {
        (self.group != 0 && self.attempt != Attempt::default()).then_some(self.group)
    }

    /// The message is there.
    pub(super) fn verified(self, priority: Priority, stored: &Stored) -> Self {
        Self {
            priority,
            body_bytes: stored.body_bytes,
            state: State::Held,
            delivery_count: stored.delivery_count,
            expiry: stored.expiry,
            group: stored.group,
            failed: stored.acquired_count > 0,
            ..self
        }
    }

    /// It was ready again, and is taken back by who held it.
    pub(super) fn taken_back(self, priority: Priority, back: &Back) -> Self {
        Self {
            priority,
            body_bytes: back.body_bytes,
            state: State::Held,
            delivery_count: back.delivery_count,
            expiry: back.expiry,
            group: back.group,
            failed: back.acquired_count > 0,
            ..self
        }
    }
}

#[derive(Debug)]
struct Place {
    position: Position,
    flight: Option<Flight>,
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Ascending; settled places stay as holes until the front moves past them or holes prevail.
    line: VecDeque<Place>,
    holes: usize,
    strays: BTreeMap<Position, Flight>,
    /// Of all of them.
    body_bytes: u64,
    /// Where keys are kept in order.
    keys: Option<Keys>,
}

/// Below this many holes the line is not worth closing up.
const HOLES_TOLERATED: usize = 1_024;

impl InFlight {
    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Keeps account of who holds which key from now on, or no more.
    pub(super) fn keep_keys(&mut self, wanted: bool) {
        let mut keys = Keys::default();
        for (_, flight) in self.iter() {
            if let Some(key) = flight.key() {
                keys.add(key, flight.holder, flight.failed);
            }
        }
        self.keys = wanted.then_some(keys);
    }

    /// What is in flight of a key, where account of it is kept.
    pub(super) fn of_key(&self, group: u64) -> Option<&KeyFlights> {
        self.keys.as_ref()?.get(group)
    }

    /// Keys of which something came or went since this was last asked.
    pub(super) fn take_touched(&mut self) -> Vec<u64> {
        let keys = self.keys.as_mut();
        keys.map(Keys::take_touched).unwrap_or_default()
    }

    /// Its holder did not make an end of it.
    pub(super) fn fail(&mut self, position: Position) {
        let Some(flight) = self.get_mut(position).filter(|it| !it.failed) else {
            return;
        };
        flight.failed = true;
        let key = flight.key();
        if let (Some(key), Some(keys)) = (key, &mut self.keys) {
            keys.stop(key);
        }
    }

    /// Another holds it now, under this attempt.
    pub(super) fn pass_on(&mut self, position: Position, holder: Holder, attempt: Attempt) {
        let Some(flight) = self.get_mut(position) else {
            return;
        };
        let before = *flight;
        (flight.holder, flight.attempt) = (holder, attempt);
        let after = *flight;
        self.changed(Some(&before), Some(&after));
    }

    fn changed(&mut self, before: Option<&Flight>, after: Option<&Flight>) {
        let Some(keys) = &mut self.keys else {
            return;
        };
        if let Some(it) = after
            && let Some(key) = it.key()
        {
            keys.add(key, it.holder, it.failed);
        }
        if let Some(it) = before
            && let Some(key) = it.key()
        {
            keys.take(key, it.holder, it.failed);
        }
    }

    /// The message of a claim is there: its claim is verified.
    pub(super) fn verify(&mut self, position: Position, priority: Priority, stored: &Stored) {
        let Some(flight) = self.get_mut(position) else {
            return;
        };
        let before = *flight;
        *flight = flight.verified(priority, stored);
        let after = *flight;
        self.body_bytes =
            self.body_bytes + u64::from(after.body_bytes) - u64::from(before.body_bytes);
        self.changed(Some(&before), Some(&after));
    }

    pub(super) fn len(&self) -> usize {
        self.line.len() - self.holes + self.strays.len()
    }

    pub(super) fn get(&self, position: Position) -> Option<&Flight> {
        self.index(position)
            .and_then(|at| self.line.get(at)?.flight.as_ref())
            .or_else(|| self.strays.get(&position))
    }

    pub(super) fn get_mut(&mut self, position: Position) -> Option<&mut Flight> {
        match self.index(position) {
            Some(at) if self.line.get(at).is_some_and(|it| it.flight.is_some()) => {
                self.line.get_mut(at)?.flight.as_mut()
            }
            Some(_) | None => self.strays.get_mut(&position),
        }
    }

    /// The position must not be in flight.
    pub(super) fn insert(&mut self, position: Position, flight: Flight) {
        debug_assert!(self.get(position).is_none(), "handed out twice: {position}");
        self.body_bytes += u64::from(flight.body_bytes);
        self.changed(None, Some(&flight));
        if self.line.back().is_none_or(|last| last.position < position) {
            self.line.push_back(Place {
                position,
                flight: Some(flight),
            });
            return;
        }
        match self.index(position).and_then(|at| self.line.get_mut(at)) {
            Some(hole) => {
                hole.flight = Some(flight);
                self.holes -= 1;
            }
            None => {
                self.strays.insert(position, flight);
            }
        }
    }

    pub(super) fn remove(&mut self, position: Position) -> Option<Flight> {
        let flight = self.take(position)?;
        self.body_bytes -= u64::from(flight.body_bytes);
        self.changed(Some(&flight), None);
        Some(flight)
    }

    fn take(&mut self, position: Position) -> Option<Flight> {
        let found = self
            .index(position)
            .and_then(|at| self.line.get_mut(at))
            .and_then(|place| place.flight.take());
        if found.is_none() {
            return self.strays.remove(&position);
        }
        self.holes += 1;
        while self.line.front().is_some_and(|it| it.flight.is_none()) {
            self.line.pop_front();
            self.holes -= 1;
        }
        if self.holes > HOLES_TOLERATED && self.holes > self.line.len() / 2 {
            self.line.retain(|it| it.flight.is_some());
            self.holes = 0;
        }
        found
    }

    /// In no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Position, &Flight)> {
        self.line
            .iter()
            .filter_map(|it| Some((it.position, it.flight.as_ref()?)))
            .chain(self.strays.iter().map(|(&at, flight)| (at, flight)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Position, &mut Flight)> {
        self.line
            .iter_mut()
            .filter_map(|it| Some((it.position, it.flight.as_mut()?)))
            .chain(self.strays.iter_mut().map(|(&at, flight)| (at, flight)))
    }

    pub(super) fn ranges(&self) -> Vec<PositionRange> {
        let mut positions: Vec<Position> = self.iter().map(|(at, _)| at).collect();
        positions.sort_unstable();
        PositionRange::collect(positions)
    }

    /// What is to leave otherwise than acked.
    pub(super) fn leaving(&self) -> Vec<PositionRange> {
        let leaving = self.iter().filter(|(_, it)| it.leaving);
        let mut positions: Vec<Position> = leaving.map(|(at, _)| at).collect();
        positions.sort_unstable();
        PositionRange::collect(positions)
    }

    fn index(&self, position: Position) -> Option<usize> {
        let first = self.line.front()?.position;
        let guess = usize::try_from(position.0.checked_sub(first.0)?).ok()?;
        if self
            .line
            .get(guess)
            .is_some_and(|it| it.position == position)
        {
            return Some(guess);
        }
        self.line
            .binary_search_by_key(&position, |it| it.position)
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(number: u64) -> Flight {
        Flight {
            attempt: Attempt {
                term: warren_types::Term(1),
                number,
            },
            ..Flight::claimed(Attempt::default(), Holder::NOBODY)
        }
    }

    #[test]
    fn in_flight_with_one_stuck_message_stays_small() {
        let mut all = InFlight::default();
        all.insert(Position(1), flight(1));
        for at in 2..100_000 {
            all.insert(Position(at), flight(at));
            assert!(all.remove(Position(at)).is_some());
        }
        assert_eq!(all.len(), 1);
        assert!(all.line.len() <= 2 * HOLES_TOLERATED + 4);
        assert_eq!(all.ranges(), vec![PositionRange::one(Position(1))]);
    }

    #[test]
    fn in_flight_out_of_order_finds_all() {
        let mut all = InFlight::default();
        for at in [10, 20, 30, 15, 5, 40] {
            all.insert(Position(at), flight(at));
        }
        assert_eq!(all.remove(Position(20)).unwrap().attempt.number, 20);
        all.insert(Position(20), flight(21));
        assert_eq!(all.get(Position(20)).unwrap().attempt.number, 21);
        assert_eq!(all.get_mut(Position(15)).unwrap().attempt.number, 15);
        for at in [5, 10, 15, 20, 30, 40] {
            assert!(all.remove(Position(at)).is_some(), "{at}");
        }
        assert_eq!(all.len(), 0);
        assert!(all.get(Position(10)).is_none());
    }
}
