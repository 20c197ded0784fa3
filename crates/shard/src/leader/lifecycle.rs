//! Queues that end by themselves: those that go with their last consumer (features B25) and those that go when idle (B28).
//! The shard's leader judges, since it alone knows who consumes; the topology is asked to note and to delete.
//! Not here: asking it (`crate::reaper`), exclusive queues (there too).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use warren_queue::dispatch::io::ConsumerOptions;
use warren_topology::Topology;
use warren_types::{QueueId, ShardId, TopologyIndex};

use super::work::Leading;
use crate::reaper::{Ask, Asks};

/// A wish that had no effect by then is told again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A queue that may end by itself.
#[derive(Debug)]
struct Watched {
    auto_delete: bool,
    expires: Option<Duration>,
    /// Replicated: the topology has noted it.
    noted: bool,
    /// Seen by this leader.
    had_consumer: bool,
    /// The last declare that counted as a use.
    renewed_at: TopologyIndex,
    /// When it was last used, as far as this leader can tell. A new leader begins anew: a queue never expires early.
    used: Instant,
    asked: Option<Instant>,
}

/// The queues of a shard that may end by themselves.
#[derive(Debug)]
pub(super) struct Lifecycle {
    asks: Asks,
    watched: BTreeMap<QueueId, Watched>,
}

impl Lifecycle {
    pub(super) fn new(asks: Asks) -> Self {
        Self {
            asks,
            watched: BTreeMap::new(),
        }
    }

    /// No queue of the shard can end by itself.
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Takes over which queues of the shard are to be watched.
    pub(super) fn follow(
        &mut self,
        topology: &Topology,
        shard: ShardId,
        now: Instant,
        expires_ms: impl Fn(QueueId) -> Option<u64>,
    ) {
        let mut there = BTreeSet::new();
        for queue in topology.queues_of(shard) {
            let expires = expires_ms(queue.id);
            if !queue.auto_delete && expires.is_none() {
                continue;
            }
            there.insert(queue.id);
            let watched = self.watched.entry(queue.id).or_insert_with(|| Watched {
                auto_delete: false,
                expires: None,
                noted: false,
                had_consumer: false,
                renewed_at: queue.renewed_at,
                used: now,
                asked: None,
            });
            watched.auto_delete = queue.auto_delete;
            watched.expires = expires.map(Duration::from_millis);
            watched.noted = queue.had_consumer;
            watched.had_consumer |= queue.had_consumer;
            if watched.renewed_at != queue.renewed_at {
                watched.renewed_at = queue.renewed_at;
                watched.used = now;
            }
        }
        self.watched.retain(|queue, _| there.contains(queue));
    }

    /// Somebody consumes from a queue or gets a message.
    pub(super) fn used(&mut self, queue: QueueId, by: By, now: Instant) {
        let Some(watched) = self.watched.get_mut(&queue) else {
            return;
        };
        watched.used = now;
        if by == By::Consumer && !watched.had_consumer {
            watched.had_consumer = true;
            watched.asked = None;
        }
    }

    /// Asks for what is due. `consumers` counts those that a queue has now.
    pub(super) fn judge(&mut self, now: Instant, consumers: impl Fn(QueueId) -> u64) {
        for (&queue, watched) in &mut self.watched {
            let consumers = consumers(queue);
            if consumers > 0 {
                watched.used = now;
            }
            let Some(ask) = watched.due(queue, consumers, now) else {
                continue;
            };
            let recently = |at: Instant| now.duration_since(at) < ASK_AGAIN;
            if watched.asked.is_some_and(recently) {
                continue;
            }
            // When there is no room the next turn asks again.
            if self.asks.ask(ask) {
                watched.asked = Some(now);
            }
        }
    }
}

impl Leading {
    /// Asks for the end of queues that are done, while the lease holds. Only once dispatch has started: before, consumers may be
    /// missing that are there.
    pub(super) fn judge_queues(&mut self) {
        let counts = |queue| self.dispatch.consumers(queue);
        if self.knows_consumers() {
            self.lifecycle.judge(Instant::now(), counts);
        }
    }

    /// Whether it leads, and the nodes have reported their consumers.
    pub(super) fn knows_consumers(&self) -> bool {
        let now = Instant::now();
        let lease = self.group.lease_until().is_some_and(|until| now < until);
        self.started && lease
    }
}

/// Who uses a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Consumer,
    /// It takes what is there and leaves.
    Getter,
}

impl By {
    pub(super) fn of(options: &ConsumerOptions) -> Self {
        if options.passing {
            Self::Getter
        } else {
            Self::Consumer
        }
    }
}

impl Watched {
    fn due(&self, queue: QueueId, consumers: u64, now: Instant) -> Option<Ask> {
        let left_alone = self.auto_delete && self.had_consumer && consumers == 0;
        let idle = self
            .expires
            .is_some_and(|expires| now.duration_since(self.used) >= expires);
        if left_alone || idle {
            return Some(Ask::Delete(queue));
        }
        (self.auto_delete && self.had_consumer && !self.noted).then_some(Ask::Note(queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(auto_delete: bool, expires: Option<Duration>, at: Instant) -> Watched {
        Watched {
            auto_delete,
            expires,
            noted: false,
            had_consumer: false,
            renewed_at: TopologyIndex(0),
            used: at,
            asked: None,
        }
    }

    fn with(it: Watched) -> (Lifecycle, tokio::sync::mpsc::Receiver<Ask>) {
        let (asks, asked) = Asks::channel();
        let mut lifecycle = Lifecycle::new(asks);
        lifecycle.watched.insert(QueueId(1), it);
        (lifecycle, asked)
    }

    #[test]
    fn auto_delete_waits_for_a_first_consumer_and_goes_with_the_last() {
        let start = Instant::now();
        let (mut lifecycle, mut asked) = with(watched(true, None, start));
        lifecycle.judge(start, |_| 0);
        lifecycle.used(QueueId(1), By::Getter, start);
        lifecycle.judge(start, |_| 0);
        assert!(asked.try_recv().is_err());
        lifecycle.used(QueueId(1), By::Consumer, start);
        lifecycle.judge(start, |_| 1);
        assert_eq!(asked.try_recv().unwrap(), Ask::Note(QueueId(1)));
        let later = start + ASK_AGAIN;
        lifecycle.judge(later, |_| 0);
        assert_eq!(asked.try_recv().unwrap(), Ask::Delete(QueueId(1)));
        lifecycle.judge(later, |_| 0);
        assert!(asked.try_recv().is_err(), "asked twice at once");
        lifecycle.judge(later + ASK_AGAIN, |_| 0);
        assert_eq!(asked.try_recv().unwrap(), Ask::Delete(QueueId(1)));
    }

    #[test]
    fn idle_queue_expires_and_every_use_puts_it_off() {
        let start = Instant::now();
        let expires = Duration::from_millis(500);
        let (mut lifecycle, mut asked) = with(watched(false, Some(expires), start));
        let at = |ms| start + Duration::from_millis(ms);
        lifecycle.judge(at(499), |_| 0);
        lifecycle.used(QueueId(1), By::Getter, at(499));
        lifecycle.judge(at(998), |_| 0);
        lifecycle.judge(at(2_000), |_| 1);
        lifecycle.judge(at(2_499), |_| 0);
        assert!(asked.try_recv().is_err());
        lifecycle.judge(at(2_500), |_| 0);
        assert_eq!(asked.try_recv().unwrap(), Ask::Delete(QueueId(1)));
    }
}
