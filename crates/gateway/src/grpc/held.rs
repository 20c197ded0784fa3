//! What a consumer holds, by position and by delivery tag, and until when it may. Tags count from 1 on each stream. Pure.
//! Not here: settling (`settle_plan`), returning what was held too long (`consume`).

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use warren_shard::Held;
use warren_types::Position;

/// Deliveries that were lost through another door and are remembered, so that a late settle by tag is told so.
const LOST_MAX: usize = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeldDelivery {
    pub(super) held: Held,
    pub(super) bytes: u64,
    /// On the present stream; 0 = it came on an older one.
    pub(super) tag: u64,
    /// It returns if it is held still.
    pub(super) until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct HeldBook {
    by_position: BTreeMap<Position, HeldDelivery>,
    by_tag: BTreeMap<u64, Position>,
    last_tag: u64,
    lost: BTreeSet<u64>,
    by_time: BTreeSet<(Instant, Position)>,
    /// Held too long and returned; their credit comes back when the client settles them. Bounded by its credit.
    late: BTreeMap<Position, HeldDelivery>,
    /// Bytes of late ones that were settled since they were last asked for.
    settled_late: Vec<u64>,
}

/// Deliveries that a client wants to hold longer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extended {
    Receipt(Held),
    Tags { first: u64, last: u64 },
}

/// Why a tag names nothing that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotHeld {
    /// It was never given on this stream.
    NeverGiven,
    Settled,
    Lost,
}

impl HeldBook {
    /// What a client holds from before its stream.
    pub(super) fn resumed(held: Vec<(Held, u64)>, until: Option<Instant>) -> Self {
        let mut book = Self::default();
        for (held, bytes) in held {
            book.put_back(HeldDelivery {
                held,
                bytes,
                tag: 0,
                until,
            });
        }
        book
    }

    pub(super) fn len(&self) -> usize {
        self.by_position.len()
    }

    pub(super) fn holds(&self, position: Position) -> bool {
        self.by_position.contains_key(&position)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.by_position.values().map(|it| it.bytes).sum()
    }

    /// The next tag, for a delivery that needs no settle.
    pub(super) fn skip(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// A delivery is written: its tag.
    pub(super) fn add(&mut self, held: Held, bytes: u64, until: Option<Instant>) -> u64 {
        let tag = self.skip();
        self.put_back(HeldDelivery {
            held,
            bytes,
            tag,
            until,
        });
        tag
    }

    /// When the next delivery has been held too long.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out what has been held too long. A late settle of it is told so.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Held> {
        let mut late = Vec::new();
        while let Some(&(at, position)) = self.by_time.first() {
            if at > now {
                break;
            }
            let Some(taken) = self.remove(position) else {
                self.by_time.pop_first();
                continue;
            };
            self.by_tag.remove(&taken.tag);
            self.note_lost(taken.tag);
            late.push(taken.held);
            self.late.insert(position, taken);
        }
        late
    }

    /// Bytes of late deliveries that their client has settled since: it may have others now.
    pub(super) fn take_settled_late(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.settled_late)
    }

    /// A delivery may be held until then. `Late`: it was held too long already.
    pub(super) fn extend(&mut self, named: Extended, until: Instant) -> Result<(), NotHeld> {
        let positions: Vec<Position> = match named {
            Extended::Receipt(held) => vec![held.position],
            Extended::Tags { first, last } if first > last => Vec::new(),
            Extended::Tags { first, last } => {
                let named = self.by_tag.range(first..=last);
                named.map(|(_, position)| *position).collect()
            }
        };
        let mut is_late = match named {
            Extended::Receipt(held) => self
                .late
                .get(&held.position)
                .is_some_and(|it| it.held == held),
            Extended::Tags { first, last } => self
                .late
                .values()
                .any(|it| (first..=last).contains(&it.tag)),
        };
        for position in positions {
            if let Some(held) = self.by_position.get_mut(&position)
                && let Some(before) = held.until.replace(until)
            {
                self.by_time.remove(&(before, position));
                self.by_time.insert((until, position));
                is_late = false;
            }
        }
        if is_late { Err(NotHeld::Lost) } else { Ok(()) }
    }

    fn remove(&mut self, position: Position) -> Option<HeldDelivery> {
        let taken = self.by_position.remove(&position)?;
        if let Some(until) = taken.until {
            self.by_time.remove(&(until, position));
        }
        Some(taken)
    }

    /// The client settles what it held too long.
    fn settle_late(&mut self, is_meant: impl Fn(&HeldDelivery) -> bool) {
        let settled_late = &mut self.settled_late;
        self.late.retain(|_, it| {
            let is_meant = is_meant(it);
            if is_meant {
                settled_late.push(it.bytes);
            }
            !is_meant
        });
    }

    /// # Errors
    /// What is known of a tag that is not held.
    pub(super) fn take_tag(&mut self, tag: u64) -> Result<HeldDelivery, NotHeld> {
        if tag == 0 || tag > self.last_tag {
            return Err(NotHeld::NeverGiven);
        }
        let position = self.by_tag.remove(&tag);
        let taken = position.and_then(|position| self.remove(position));
        if taken.is_none() {
            self.settle_late(|it| it.tag == tag);
        }
        taken.ok_or(if self.lost.contains(&tag) {
            NotHeld::Lost
        } else {
            NotHeld::Settled
        })
    }

    /// Everything held between two tags, both included.
    ///
    /// # Errors
    /// Nothing is.
    pub(super) fn take_range(
        &mut self,
        first: u64,
        last: u64,
    ) -> Result<Vec<HeldDelivery>, NotHeld> {
        if first == 0 || first > last || first > self.last_tag {
            return Err(NotHeld::NeverGiven);
        }
        let mut inside = self.by_tag.split_off(&first);
        if let Some(after) = last.checked_add(1) {
            let mut rest = inside.split_off(&after);
            self.by_tag.append(&mut rest);
        }
        let inside = inside.into_values();
        let taken: Vec<HeldDelivery> = inside
            .filter_map(|position| self.remove(position))
            .collect();
        self.settle_late(|it| (first..=last).contains(&it.tag));
        if !taken.is_empty() {
            return Ok(taken);
        }
        Err(if self.lost.range(first..=last).next().is_some() {
            NotHeld::Lost
        } else {
            NotHeld::Settled
        })
    }

    /// A delivery named by its receipt; `None`: not held here, under this attempt.
    pub(super) fn take(&mut self, held: Held) -> Option<HeldDelivery> {
        self.settle_late(|it| it.held == held);
        if self.by_position.get(&held.position)?.held != held {
            return None;
        }
        let taken = self.remove(held.position)?;
        self.by_tag.remove(&taken.tag);
        Some(taken)
    }

    /// It was settled or returned through another door.
    pub(super) fn lose(&mut self, position: Position) -> Option<HeldDelivery> {
        let lost = self.remove(position)?;
        self.by_tag.remove(&lost.tag);
        self.note_lost(lost.tag);
        Some(lost)
    }

    fn note_lost(&mut self, tag: u64) {
        self.lost.insert(tag);
        if self.lost.len() > LOST_MAX {
            self.lost.pop_first();
        }
    }

    /// Tags between two, both included, that were lost: settling them does nothing.
    pub(super) fn lost_within(&self, first: u64, last: u64) -> Vec<u64> {
        if first > last {
            return Vec::new();
        }
        self.lost.range(first..=last).copied().collect()
    }

    /// A settle could not even be asked: it is held still.
    pub(super) fn put_back(&mut self, delivery: HeldDelivery) {
        if delivery.tag != 0 {
            self.by_tag.insert(delivery.tag, delivery.held.position);
        }
        let position = delivery.held.position;
        if let Some(until) = delivery.until {
            self.by_time.insert((until, position));
        }
        self.by_position.insert(position, delivery);
    }

    /// A new stream: tags start anew.
    pub(super) fn restart(&mut self) {
        self.by_tag.clear();
        self.lost.clear();
        self.late.clear();
        self.settled_late.clear();
        self.last_tag = 0;
        for held in self.by_position.values_mut() {
            held.tag = 0;
        }
    }

    /// In the order of the queue, with the bytes of the bodies.
    pub(super) fn all_with_bytes(&self) -> impl Iterator<Item = (Held, u64)> + '_ {
        self.by_position.values().map(|it| (it.held, it.bytes))
    }

    /// In the order of the queue.
    pub(super) fn all(&self) -> impl Iterator<Item = Held> + '_ {
        self.by_position.values().map(|it| it.held)
    }
}

#[cfg(test)]
mod tests {
    use warren_types::{Attempt, Term};

    use super::*;

    fn held(position: u64) -> Held {
        Held {
            position: Position(position),
            attempt: Attempt {
                term: Term(1),
                number: position,
            },
        }
    }

    fn book(count: u64) -> HeldBook {
        let mut book = HeldBook::default();
        for position in 1..=count {
            assert_eq!(book.add(held(position + 100), 10, None), position);
        }
        book
    }

    fn tags(taken: &[HeldDelivery]) -> Vec<u64> {
        taken.iter().map(|it| it.tag).collect()
    }

    #[test]
    fn tag_is_taken_once() {
        let mut book = book(3);
        assert_eq!(book.take_tag(2).unwrap().held, held(102));
        assert_eq!(book.take_tag(2), Err(NotHeld::Settled));
        assert_eq!(book.take_tag(4), Err(NotHeld::NeverGiven));
        assert_eq!(book.take_tag(0), Err(NotHeld::NeverGiven));
        assert_eq!((book.len(), book.bytes()), (2, 20));
    }

    #[test]
    fn range_takes_what_is_held_within() {
        let mut book = book(10);
        assert!(book.take_tag(4).is_ok());
        assert_eq!(tags(&book.take_range(3, 5).unwrap()), vec![3, 5]);
        assert_eq!(book.take_range(3, 5), Err(NotHeld::Settled));
        assert_eq!(tags(&book.take_range(9, u64::MAX).unwrap()), vec![9, 10]);
        assert_eq!(tags(&book.take_range(1, 8).unwrap()), vec![1, 2, 6, 7, 8]);
        for (first, last) in [(0, 5), (5, 4), (11, 12)] {
            assert_eq!(book.take_range(first, last), Err(NotHeld::NeverGiven));
        }
    }

    #[test]
    fn receipt_of_another_attempt_is_not_held() {
        let mut book = book(2);
        let mut other = held(101);
        other.attempt.number += 1;
        assert_eq!(book.take(other), None);
        assert_eq!(book.take(held(101)).unwrap().tag, 1);
        assert_eq!(book.take_tag(1), Err(NotHeld::Settled));
    }

    #[test]
    fn lost_delivery_is_remembered_as_lost() {
        let mut book = book(2);
        assert_eq!(book.lose(Position(101)).unwrap().tag, 1);
        assert_eq!(book.lose(Position(101)), None);
        assert_eq!(book.take_tag(1), Err(NotHeld::Lost));
        assert_eq!(book.take_range(1, 1), Err(NotHeld::Lost));
    }

    #[test]
    fn new_stream_starts_tags_anew_and_keeps_what_is_held() {
        let mut book = book(2);
        book.restart();
        assert_eq!(book.take_tag(1), Err(NotHeld::NeverGiven));
        assert_eq!(book.add(held(200), 1, None), 1);
        assert_eq!(book.take(held(101)).unwrap().tag, 0);
        assert_eq!(book.all().collect::<Vec<_>>(), vec![held(102), held(200)]);
    }

    #[test]
    fn delivery_put_back_can_be_taken_again() {
        let mut book = book(1);
        let taken = book.take_tag(1).unwrap();
        book.put_back(taken);
        assert_eq!(book.take_tag(1), Ok(taken));
    }

    #[test]
    fn delivery_held_too_long_is_late_once_and_frees_its_credit_when_settled() {
        let start = Instant::now();
        let at = |seconds| start + std::time::Duration::from_secs(seconds);
        let mut book = HeldBook::default();
        for (position, until) in [(1, 10), (2, 10), (3, 20), (4, 10), (5, 10)] {
            book.add(held(position), position, Some(at(until)));
        }
        let longer = Extended::Tags { first: 2, last: 2 };
        assert_eq!(book.extend(longer, at(30)), Ok(()));
        assert_eq!(book.next_time(), Some(at(10)));
        assert_eq!(book.take_late(at(9)), vec![]);
        assert_eq!(book.take_late(at(10)), [held(1), held(4), held(5)]);
        assert_eq!((book.take_late(at(10)), book.len()), (vec![], 2));
        assert_eq!(book.next_time(), Some(at(20)));
        assert_eq!(book.take_settled_late(), Vec::<u64>::new());
        let longer = Extended::Receipt(held(1));
        assert_eq!(book.extend(longer, at(30)), Err(NotHeld::Lost));
        // By tag, by receipt, and in a range with one that is held.
        assert_eq!(book.take_tag(1), Err(NotHeld::Lost));
        assert_eq!(book.take_settled_late(), [1]);
        assert_eq!(book.take(held(4)), None);
        assert_eq!(book.take_settled_late(), [4]);
        assert_eq!(tags(&book.take_range(2, 9).unwrap()), [2, 3]);
        assert_eq!(book.lost_within(2, 9), [4, 5]);
        assert_eq!(book.take_settled_late(), [5]);
        assert_eq!((book.next_time(), book.len()), (None, 0));
    }
}
