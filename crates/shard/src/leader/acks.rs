//! When an entry of acks alone is made. Nobody waits for most acks, and each entry costs every replica a write and a sync: so
//! they wait a little for an entry that is made for something else. Not here: gathering them (`batcher`).

use std::time::Duration;

use tokio::time::Instant;

/// Acks wait so long at most: long enough for the next publish of a client that sends one at a time.
const WAIT_MAX: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// Since when the oldest of the next entry waits.
    since: Option<Instant>,
    /// Somebody waits for the answer to one of them.
    at_once: bool,
}

impl Acks {
    /// Somebody waits for an answer.
    pub(super) fn hurry(&mut self) {
        self.at_once = true;
    }

    /// The next entry would hold acks only: whether it may wait.
    pub(super) fn may_wait(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        !self.at_once && now.duration_since(since) < WAIT_MAX
    }

    /// They went with an entry.
    pub(super) fn gone(&mut self) {
        *self = Self::default();
    }

    /// How long they may still wait; `None` if none do.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let since = self.since?;
        Some(WAIT_MAX.saturating_sub(now.duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_wait_until_their_time_is_up() {
        let start = Instant::now();
        let mut acks = Acks::default();
        assert_eq!(acks.left(start), None);
        assert!(acks.may_wait(start));
        let later = start + WAIT_MAX / 2;
        assert!(acks.may_wait(later));
        assert_eq!(acks.left(later), Some(WAIT_MAX / 2));
        assert!(!acks.may_wait(start + WAIT_MAX));
        acks.gone();
        assert!(
            acks.may_wait(start + WAIT_MAX),
            "the next ones have their own time"
        );
    }

    #[test]
    fn ack_somebody_waits_for_takes_all_with_it() {
        let start = Instant::now();
        let mut acks = Acks::default();
        assert!(acks.may_wait(start));
        acks.hurry();
        assert!(!acks.may_wait(start));
        acks.gone();
        assert!(acks.may_wait(start));
    }
}
