//! How fast clients may publish into vhosts with a limit (features E2): each message has its time, and one that comes too early waits.
//! Not here: who waits how (`grpc`, `amqp`), what the nodes tell each other (`usage`).
//!
//! A limit holds for the cluster. It is shared evenly by the nodes where messages came in within the last second, as they told it
//! last: a node alone has all of it. While that changes, for a second at most, more may come in.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use warren_topology::Topology;
use warren_types::VhostId;

use crate::gateway::Gateway;

/// So much of what was not used is left for a moment with more.
const BURST: Duration = Duration::from_millis(100);
/// Where nothing may be published, it is looked so often whether that has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Messages that came so lately count as publishing.
const LATELY: Duration = Duration::from_secs(1);

/// One entry for each vhost with a limit that was published to.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<VhostId, Pace>>);

#[derive(Debug)]
struct Pace {
    /// When the next message has its time.
    next: Instant,
    last: Instant,
    /// Other nodes that share the limit.
    others: u32,
}

impl Pace {
    fn spend(&mut self, each: u64, count: usize, now: Instant) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let all = each
            .saturating_mul(u64::from(self.others) + 1)
            .saturating_mul(count);
        // A year is as good as for ever.
        let all = Duration::from_nanos(all).min(Duration::from_secs(31_536_000));
        self.next = self.next.max(now) + all;
    }
}

impl Rates {
    /// Takes the time of so many messages, if that of the first one has come: a batch is not split.
    ///
    /// # Errors
    /// When it comes.
    pub(crate) fn take(
        &self,
        vhost: VhostId,
        limit: u32,
        count: usize,
        now: Instant,
    ) -> Result<(), Instant> {
        let mut paces = self.0.lock();
        let pace = paces.entry(vhost).or_insert(Pace {
            next: now,
            last: now,
            others: 0,
        });
        pace.last = now;
        let Some(each) = 1_000_000_000_u64.checked_div(u64::from(limit)) else {
            return Err(now + LOOK_AGAIN);
        };
        if pace.next > now + BURST {
            // By then the time is less than the burst away.
            return Err(pace.next.checked_sub(BURST).unwrap_or(now));
        }
        pace.spend(each, count, now);
        Ok(())
    }

    /// Takes the time of messages that are not split from one whose time has come: those that follow wait for it.
    pub(crate) fn owe(&self, vhost: VhostId, limit: u32, count: usize, now: Instant) {
        let each = 1_000_000_000_u64.checked_div(u64::from(limit));
        if let (Some(each), Some(pace)) = (each, self.0.lock().get_mut(&vhost)) {
            pace.spend(each, count, now);
        }
    }

    /// Whether messages came into the vhost lately.
    pub(crate) fn publishes(&self, vhost: VhostId, now: Instant) -> bool {
        let paces = self.0.lock();
        let pace = paces.get(&vhost);
        pace.is_some_and(|it| now.duration_since(it.last) < LATELY)
    }

    /// How many other nodes publish, by vhost; vhosts that are gone or have no limit any more are forgotten.
    pub(crate) fn share(&self, others: &HashMap<VhostId, u32>, topology: &Topology) {
        self.0.lock().retain(|vhost, pace| {
            pace.others = others.get(vhost).copied().unwrap_or(0);
            limit_of(topology, *vhost).is_some()
        });
    }
}

/// `None`: the vhost has no limit.
pub(crate) fn limit_of(topology: &Topology, vhost: VhostId) -> Option<u32> {
    topology.vhost_by_id(vhost)?.limits.publishes_per_second
}

impl Gateway {
    /// Takes the time of so many messages for the vhost; false: they have to wait for it.
    pub(crate) fn may_publish_now(&self, vhost: VhostId, count: usize) -> bool {
        match limit_of(&self.topology(), vhost) {
            Some(limit) => {
                let taken = self.rates().take(vhost, limit, count, Instant::now());
                taken.is_ok()
            }
            None => true,
        }
    }

    /// Waits for the time of so many messages, and takes it.
    ///
    /// # Cancel safety
    /// Nothing is taken if it is dropped before it is ready.
    pub(crate) async fn publish_time(&self, vhost: VhostId, count: usize) {
        while let Some(limit) = limit_of(&self.topology(), vhost) {
            match self.rates().take(vhost, limit, count, Instant::now()) {
                Ok(()) => return,
                // The limit may be another one long before.
                Err(at) => sleep_until(at.min(Instant::now() + LOOK_AGAIN)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VHOST: VhostId = VhostId(7);

    /// How many single messages have their time within so many milliseconds.
    fn taken(rates: &Rates, limit: u32, from: Instant, ms: u64) -> u32 {
        let at = |ms: u64| from + Duration::from_millis(ms);
        let mut taken = 0;
        for ms in 0..ms {
            while rates.take(VHOST, limit, 1, at(ms)).is_ok() {
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn messages_have_their_time_at_the_limit_and_a_short_burst_before() {
        let (rates, start) = (Rates::default(), Instant::now());
        let first = taken(&rates, 1_000, start, 1_000);
        assert!((1_000..=1_101).contains(&first), "{first}");
        let second = taken(&rates, 1_000, start + Duration::from_secs(1), 1_000);
        assert!((999..=1_001).contains(&second), "{second}");
        // What was not used for long is a burst and no more.
        let rested = start + Duration::from_secs(60);
        let burst = taken(&rates, 1_000, rested, 1);
        assert!((100..=102).contains(&burst), "{burst}");
    }

    #[test]
    fn limit_is_shared_with_the_nodes_that_publish_too() {
        let (rates, start) = (Rates::default(), Instant::now());
        assert!(rates.take(VHOST, 300, 1, start).is_ok());
        if let Some(pace) = rates.0.lock().get_mut(&VHOST) {
            pace.others = 2;
        }
        let second = taken(&rates, 300, start, 1_000);
        assert!((99..=112).contains(&second), "{second}");
    }

    #[test]
    fn batch_goes_whole_and_is_paid_for_after() {
        let (rates, start) = (Rates::default(), Instant::now());
        assert!(rates.take(VHOST, 100, 1_000, start).is_ok());
        let at = rates.take(VHOST, 100, 1, start).unwrap_err();
        assert_eq!(at, start + Duration::from_secs(10) - BURST);
        assert!(rates.take(VHOST, 100, 1, at).is_ok());
        assert!(rates.publishes(VHOST, at));
    }

    #[test]
    fn limit_of_zero_lets_nothing_in() {
        let (rates, start) = (Rates::default(), Instant::now());
        assert_eq!(rates.take(VHOST, 0, 1, start), Err(start + LOOK_AGAIN));
    }
}
