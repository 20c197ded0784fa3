//! What a producer was refused for now, by the numbers that it gave: it sends that again, and what it had sent later meanwhile must not come
//! before it. Not here: duplicates (`queue`), who refuses what.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// A client that sends again does so within a few seconds; one that does not has taken the refusal for an end, and is not held up by it.
const AWAITED_FOR: Duration = Duration::from_secs(5);
/// More than a client has on its way: one that goes on without end is not held up either.
const AWAITED_MAX: usize = 4_096;

/// The numbers of one producer that are to come again.
#[derive(Debug, Default)]
pub struct Awaited {
    sequences: BTreeSet<u64>,
    until: Option<Instant>,
}

impl Awaited {
    /// It was refused for now.
    pub fn refused(&mut self, sequence: u64, now: Instant) {
        self.forget_overdue(now);
        self.until = Some(now + AWAITED_FOR);
        self.awaits(sequence);
    }

    /// Whether these may be taken, all or none: nothing else before any of them is awaited. If not, they are awaited as well.
    #[must_use]
    pub fn may_pass(&mut self, sequences: &[u64], now: Instant) -> bool {
        self.forget_overdue(now);
        let mut sorted = sequences.to_vec();
        sorted.sort_unstable();
        let last = sorted.last().copied().unwrap_or_default();
        let mut before = self.sequences.range(..last);
        let passes = before.all(|it| sorted.binary_search(it).is_ok());
        for sequence in sequences {
            if passes {
                self.sequences.remove(sequence);
            } else {
                self.awaits(*sequence);
            }
        }
        passes
    }

    fn awaits(&mut self, sequence: u64) {
        self.sequences.insert(sequence);
        if self.sequences.len() > AWAITED_MAX {
            self.sequences.clear();
        }
    }

    pub fn is_empty(&mut self, now: Instant) -> bool {
        self.forget_overdue(now);
        self.sequences.is_empty()
    }

    fn forget_overdue(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.sequences.clear();
            self.until = None;
        }
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
        assert!(!awaited.may_pass(&[5], now + AWAITED_FOR / 2));
        assert!(awaited.may_pass(&[6], now + AWAITED_FOR));
        awaited.refused(7, now);
        let passed = (8..10_000)
            .filter(|it| awaited.may_pass(&[*it], now))
            .count();
        assert!(passed > 5_000, "{passed}");
    }
}
