//! How connections to another node are made again: how long a handshake may take, and when a channel counts as wedged. Both so that nodes
//! with hardly any processor time come to talk: what is cut off shortly before its end and begun again costs more than it would have taken.
//! Not here: dialling (`connector`), the handshake itself (`handshake`).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::Channel;

/// Straight failures after which a channel is thrown away: a lazily connected one can stay wedged.
const FAILURES_MAX: u32 = 8;
/// No handshake may take longer, on either side.
pub(super) const HANDSHAKE_WITHIN_MAX: Duration = Duration::from_secs(10);
/// The next one may take so many times as long as one that succeeded.
const SLACK: u32 = 4;

/// How long the next handshake with a node may take: twice as long after one that was cut off.
pub(super) struct Patience {
    first: Duration,
    now: Mutex<Duration>,
}

impl Patience {
    pub(super) fn new(first: Duration) -> Self {
        Self {
            first,
            now: Mutex::new(first),
        }
    }

    pub(super) fn within(&self) -> Duration {
        *self.now.lock()
    }

    /// One that had this time was cut off. Several that were under way together count as one.
    pub(super) fn cut_off(&self, after: Duration) {
        let longer = after.saturating_mul(2).min(HANDSHAKE_WITHIN_MAX);
        let mut now = self.now.lock();
        *now = longer.max(*now);
    }

    /// One took so long.
    pub(super) fn done(&self, took: Duration) {
        let enough = took.saturating_mul(SLACK);
        *self.now.lock() = enough.clamp(self.first, HANDSHAKE_WITHIN_MAX.max(self.first));
    }
}

/// The channel of one lane to a node.
#[derive(Default)]
pub(super) struct LaneState {
    pub(super) channel: Option<Channel>,
    failures: u32,
    generation: u64,
    /// Until when a connection that is being made may still come about.
    dialling_until: Option<Instant>,
}

impl LaneState {
    pub(super) fn dials(&mut self, until: Instant) {
        self.dialling_until = Some(until);
    }

    /// It came about, or failed.
    pub(super) fn dialled(&mut self) {
        self.dialling_until = None;
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The channel's new number if it was thrown away. It is not while it connects: calls are not answered then, and to begin again helps none
    /// of them.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        self.failures = self.failures.saturating_add(1);
        let connects = self.dialling_until.is_some_and(|until| now < until);
        if self.failures < FAILURES_MAX || connects {
            return None;
        }
        let generation = self.generation + 1;
        *self = Self {
            generation,
            ..Self::default()
        };
        Some(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn handshakes_that_are_cut_off_get_more_time_up_to_a_bound() {
        let patience = Patience::new(2 * SECOND);
        let mut had = Vec::new();
        for _ in 0..5 {
            had.push(patience.within().as_secs());
            patience.cut_off(patience.within());
        }
        assert_eq!(had, [2, 4, 8, 10, 10]);
    }

    #[test]
    fn handshakes_cut_off_together_count_once() {
        let patience = Patience::new(2 * SECOND);
        for _ in 0..3 {
            patience.cut_off(2 * SECOND);
        }
        assert_eq!(patience.within(), 4 * SECOND);
        patience.cut_off(4 * SECOND);
        patience.cut_off(2 * SECOND);
        assert_eq!(
            patience.within(),
            8 * SECOND,
            "a late one takes nothing away"
        );
    }

    #[test]
    fn handshake_that_succeeds_says_what_the_next_one_needs() {
        let patience = Patience::new(2 * SECOND);
        patience.cut_off(8 * SECOND);
        patience.done(2 * SECOND);
        assert_eq!(patience.within(), 8 * SECOND);
        patience.done(SECOND / 10);
        assert_eq!(patience.within(), 2 * SECOND);
        patience.done(100 * SECOND);
        assert_eq!(patience.within(), HANDSHAKE_WITHIN_MAX);
    }

    #[test]
    fn channel_is_replaced_after_straight_failures_but_not_while_it_connects() {
        let now = Instant::now();
        let mut lane = LaneState::default();
        let fail = |lane: &mut LaneState, times: u32, at: Instant| {
            (0..times).fold(None, |seen, _| lane.failed(at).or(seen))
        };
        assert_eq!(fail(&mut lane, FAILURES_MAX - 1, now), None);
        lane.succeeded();
        assert_eq!(fail(&mut lane, FAILURES_MAX - 1, now), None);
        lane.dials(now + SECOND);
        assert_eq!(fail(&mut lane, FAILURES_MAX, now), None);
        assert_eq!(fail(&mut lane, 1, now + SECOND), Some(1));
        assert_eq!(fail(&mut lane, FAILURES_MAX - 1, now), None);
        assert_eq!(fail(&mut lane, 1, now), Some(2));
        lane.dials(now + SECOND);
        assert_eq!(fail(&mut lane, FAILURES_MAX, now), None);
        lane.dialled();
        assert_eq!(fail(&mut lane, 1, now), Some(3));
    }
}
