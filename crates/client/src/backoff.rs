//! How long to wait before the next attempt: doubling from a minimum to a maximum, with jitter so that clients of a node that
//! died do not come back in step. Not here: what is attempted.

use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// The waits of one series of attempts.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// It worked: the next failure starts from the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The wait before the next attempt, never shorter than what the server asked for.
    pub(crate) fn after_failure(&mut self, asked: Option<Duration>) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LONGEST);
        let jittered = full.mul_f64(rand::rng().random_range(0.5..=1.0));
        asked.unwrap_or_default().min(LONGEST).max(jittered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_limit_and_starts_again_after_success() {
        let mut backoff = Backoff::new();
        for _ in 0..20 {
            assert!(backoff.after_failure(None) <= LONGEST);
        }
        assert!(backoff.after_failure(None) >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.after_failure(None) <= FIRST);
    }

    #[test]
    fn backoff_honours_what_the_server_asked_for() {
        let asked = Duration::from_millis(700);
        assert_eq!(Backoff::new().after_failure(Some(asked)), asked);
    }
}
