//! A shard's time: starts at the greater of the last stamp and the median of the live nodes' wall clocks, runs on this node's
//! monotonic clock, and is drawn towards the median by at most 1 in 1,000. Not here: stamping entries (`leader`).

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use warren_types::ShardTime;

/// Drawn towards the median by at most one in so many.
const DRAW_DIVISOR: u64 = 1_000;

/// Milliseconds since the Unix epoch on this node's wall clock; the one place of this crate that reads it.
#[must_use]
pub(crate) fn wall_clock_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The clock of a shard that is led from here.
#[derive(Debug, Clone)]
pub(crate) struct ShardClock {
    at: Instant,
    shard_ms: u64,
}

impl ShardClock {
    pub(crate) fn open(last_stamp: ShardTime, median_wall_ms: u64, at: Instant) -> Self {
        Self {
            at,
            shard_ms: last_stamp.0.max(median_wall_ms),
        }
    }

    pub(crate) fn now(&self, at: Instant) -> ShardTime {
        ShardTime(
            self.shard_ms
                .saturating_add(millis(at.saturating_duration_since(self.at))),
        )
    }

    /// Draws the clock towards the median; never runs it backwards.
    pub(crate) fn draw(&mut self, median_wall_ms: u64, at: Instant) {
        let elapsed = millis(at.saturating_duration_since(self.at));
        let most = elapsed / DRAW_DIVISOR;
        if most == 0 {
            return;
        }
        let now = self.now(at).0;
        let drawn = if median_wall_ms > now {
            now + (median_wall_ms - now).min(most)
        } else {
            now - (now - median_wall_ms).min(most)
        };
        self.shard_ms = drawn;
        self.at = at;
    }
}

/// The median of clocks; of an even number the lower one of the middle.
pub(crate) fn median(mut clocks: Vec<u64>) -> Option<u64> {
    clocks.sort_unstable();
    let middle = clocks.len().checked_sub(1)? / 2;
    clocks.get(middle).copied()
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clock_opens_at_the_greater_and_runs_on_monotonic_time() {
        let start = Instant::now();
        let clock = ShardClock::open(ShardTime(5_000), 1_000, start);
        assert_eq!(clock.now(start), ShardTime(5_000));
        assert_eq!(
            clock.now(start + Duration::from_millis(40)),
            ShardTime(5_040)
        );
    }

    #[test]
    fn draw_moves_at_most_one_in_a_thousand() {
        let start = Instant::now();
        let mut clock = ShardClock::open(ShardTime(0), 10_000, start);
        let later = start + Duration::from_secs(10);
        clock.draw(90_000, later);
        assert_eq!(clock.now(later), ShardTime(20_010));
        let last = later + Duration::from_secs(10);
        clock.draw(0, last);
        assert_eq!(clock.now(last), ShardTime(30_000));
    }

    #[test]
    fn median_of_three_is_the_middle_one() {
        assert_eq!(median(vec![9, 1, 5]), Some(5));
        assert_eq!(median(vec![]), None);
    }
}
