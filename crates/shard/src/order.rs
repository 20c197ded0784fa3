//! What a producer was refused for now, by the numbers that it gave: it sends that again, and what it had sent later meanwhile must not come
//! before it. Kept for each shard: queues of others promise no order with its own. Not here: duplicates (`queue`), who refuses what.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A client that sends again does so within a few seconds of being told; one that does not has taken the refusal for an end, and is not held
/// up by it.
const AWAITED_FOR: Duration = Duration::from_secs(5);
/// Overdue ones are looked for so often: each look goes through all of them.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a client may have on its way: the credit of a stream (`publish_credit_messages`). One that goes on without end is not held up.
const AWAITED_MAX: usize = 20_000;

/// The numbers of one producer that are to come again.
#[derive(Debug, Default)]
pub struct Awaited {
    /// Until when each is awaited.
    numbers: BTreeMap<u64, Instant>,
    /// None is overdue before; set while there are any.
    look_at: Option<Instant>,
    /// One has come again since some were overdue.
    came_again: bool,
}

impl Awaited {
    /// It was refused, and is to come again; perhaps for several queues at once.
    pub fn refused(&mut self, sequence: u64, now: Instant) {
        self.forget_overdue(now);
        let until = now + AWAITED_FOR;
        let before = self.numbers.insert(sequence, until);
        self.came_again |= before.is_some_and(|it| it < until);
        self.look_at.get_or_insert(until);
        if self.numbers.len() > AWAITED_MAX {
            *self = Self::default();
        }
    }

    /// Whether nothing else before any of these is awaited.
    #[must_use]
    pub fn is_next(&mut self, sequences: &[u64], now: Instant) -> bool {
        self.forget_overdue(now);
        if self.numbers.is_empty() {
            return true;
        }
        let mut sorted = sequences.to_vec();
        sorted.sort_unstable();
        let last = sorted.last().copied().unwrap_or_default();
        let mut before = self.numbers.range(..last);
        before.all(|(it, _)| sorted.binary_search(it).is_ok())
    }

    /// They are taken.
    pub fn taken(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            self.came_again |= self.numbers.remove(sequence).is_some();
        }
    }

    /// Whether these may be taken, all or none. If not, they are awaited as well.
    #[must_use]
    pub fn may_pass(&mut self, sequences: &[u64], now: Instant) -> bool {
        let passes = self.is_next(sequences, now);
        if passes {
            self.taken(sequences);
        } else {
            sequences.iter().for_each(|it| self.refused(*it, now));
        }
        passes
    }

    /// Nothing is awaited, whatever the time: costs no look at the clock.
    #[must_use]
    pub fn holds_nothing(&self) -> bool {
        self.numbers.is_empty()
    }

    pub fn is_empty(&mut self, now: Instant) -> bool {
        self.forget_overdue(now);
        self.numbers.is_empty()
    }

    /// Of a client of which some is overdue and nothing came again nothing is awaited any more: else what is turned down since it waits for
    /// what never comes would be waited for in turn, without end.
    fn forget_overdue(&mut self, now: Instant) {
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        let count = self.numbers.len();
        self.numbers.retain(|_, until| now < *until);
        if self.numbers.len() < count {
            if !self.came_again {
                self.numbers.clear();
            }
            self.came_again = false;
        }
        let first = self.numbers.values().min();
        self.look_at = first.map(|until| (*until).max(now + LOOK_EVERY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ones_wait_until_all_that_was_refused_has_come_again_in_order() {
        let now = Instant::now();
        let mut awaited = Awaited::default();
        assert!(awaited.may_pass(&[3], now));
        for sequence in [4, 5, 6] {
            awaited.refused(sequence, now);
        }
        assert!(!awaited.may_pass(&[7], now), "it was on its way meanwhile");
        for sequence in [4, 5, 6] {
            assert!(awaited.may_pass(&[sequence], now));
            assert!(!awaited.may_pass(&[8], now), "7 is awaited as well");
        }
        assert!(!awaited.may_pass(&[8, 9], now));
        assert!(awaited.may_pass(&[7, 8, 9], now), "all of them at once");
        assert!(awaited.is_empty(now));
    }

    #[test]
    fn who_does_not_send_again_is_not_held_up_for_long() {
        let now = Instant::now();
        let mut awaited = Awaited::default();
        awaited.refused(4, now);
        awaited.refused(4, now); // it has two queues in the shard
        // What is turned down meanwhile, up to the last moment, holds nothing up after it.
        for (sequence, tenth) in (5..).zip(0..10) {
            assert!(!awaited.may_pass(&[sequence], now + AWAITED_FOR * tenth / 10));
        }
        assert!(awaited.may_pass(&[20], now + AWAITED_FOR));
        awaited.refused(21, now);
        let passed = (22..50_000)
            .filter(|it| awaited.may_pass(&[*it], now))
            .count();
        assert!(passed > 25_000, "{passed}");
    }

    #[test]
    fn all_that_a_client_has_on_its_way_is_awaited() {
        let now = Instant::now();
        let mut awaited = Awaited::default();
        (1..=20_000).for_each(|it| awaited.refused(it, now));
        for sequence in 1..=20_000 {
            assert!(!awaited.is_next(&[sequence + 1], now));
            assert!(awaited.may_pass(&[sequence], now));
        }
        assert!(awaited.is_empty(now));
    }

    #[test]
    fn each_is_awaited_from_when_it_was_turned_down() {
        let now = Instant::now();
        let late = now + AWAITED_FOR * 9 / 10;
        let mut awaited = Awaited::default();
        awaited.refused(4, now);
        assert!(!awaited.may_pass(&[5], late));
        assert!(awaited.may_pass(&[4], late), "it comes again, late");
        let later = now + AWAITED_FOR * 3 / 2;
        assert!(!awaited.may_pass(&[6], later), "5 was told a moment ago");
        assert!(awaited.may_pass(&[5, 6], later));
    }

    #[test]
    fn what_a_client_gives_up_delays_the_others_and_does_not_let_them_overtake_each_other() {
        let now = Instant::now();
        let at = |tenth| now + AWAITED_FOR * tenth / 10;
        let mut awaited = Awaited::default();
        awaited.refused(4, now);
        for tenth in [2, 5, 9] {
            assert!(!awaited.may_pass(&[5], at(tenth)));
            assert!(!awaited.may_pass(&[6], at(tenth)));
        }
        // 4 is given up on; 5 and 6 were told not long ago.
        assert!(!awaited.may_pass(&[7], at(12)));
        assert!(!awaited.may_pass(&[6], at(12)));
        assert!(awaited.may_pass(&[5], at(12)));
        assert!(awaited.may_pass(&[6, 7], at(12)));
    }
}
