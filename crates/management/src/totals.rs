//! Sums over the queues that this node leads. Asked for by a page, at most every few seconds, and for so many queues at most.
//! Not here: showing them (`metrics`).

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use warren_gateway::Gateway;
use warren_shard::api::{QueueStats, Target};

/// A page within this time gets the sums of the one before.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// With more queues there are no sums: asking each would cost more than it tells.
const QUEUES_MAX: usize = 10_000;
const ASKED_AT_ONCE: usize = 64;
/// A page does not wait longer for leaders that do not answer.
const WITHIN: Duration = Duration::from_secs(3);

/// Over the queues led here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueTotals {
    pub(crate) queues: u64,
    /// `None`: too many queues, or not all leaders answered.
    pub(crate) sums: Option<QueueStats>,
}

#[derive(Debug, Default)]
pub(crate) struct Totals(Mutex<Option<(Instant, QueueTotals)>>);

impl Totals {
    /// The sums, not older than a few seconds. Only one page asks; others wait for its answer.
    pub(crate) async fn get(&self, gateway: &Gateway) -> QueueTotals {
        let mut kept = self.0.lock().await;
        match &*kept {
            Some((at, totals)) if at.elapsed() < FRESH_FOR => totals.clone(),
            Some(_) | None => {
                let totals = ask(gateway).await;
                *kept = Some((Instant::now(), totals.clone()));
                totals
            }
        }
    }
}

async fn ask(gateway: &Gateway) -> QueueTotals {
    let broker = gateway.broker();
    let topology = broker.topology().current();
    let led: Vec<Target> = topology
        .shards()
        .filter(|shard| broker.leader_of(*shard) == Some(broker.node()))
        .flat_map(|shard| {
            topology
                .queues_of(shard)
                .map(move |queue| (queue.id, shard))
        })
        .map(|(queue, shard)| Target { queue, shard })
        .collect();
    let queues = u64::try_from(led.len()).unwrap_or(u64::MAX);
    if led.len() > QUEUES_MAX {
        return QueueTotals { queues, sums: None };
    }
    let asked = stream::iter(led).map(|target| broker.queue_stats(target));
    let sums =
        asked
            .buffer_unordered(ASKED_AT_ONCE)
            .fold(Some(QueueStats::default()), |sums, found| {
                // A leader that has no such queue yet has nothing in it.
                let sums = match (sums, found) {
                    (Some(sums), Ok(found)) => Some(sum(sums, found.unwrap_or_default())),
                    (Some(_) | None, Ok(_) | Err(_)) => None,
                };
                std::future::ready(sums)
            });
    let sums = timeout(WITHIN, sums).await.unwrap_or_default();
    QueueTotals { queues, sums }
}

fn sum(one: QueueStats, other: QueueStats) -> QueueStats {
    QueueStats {
        ready: one.ready + other.ready,
        unacked: one.unacked + other.unacked,
        scheduled: one.scheduled + other.scheduled,
        delayed: one.delayed + other.delayed,
        parked: one.parked + other.parked,
        consumers: one.consumers + other.consumers,
        enqueued: one.enqueued + other.enqueued,
        settled: one.settled + other.settled,
        body_bytes: one.body_bytes + other.body_bytes,
        ready_bytes: one.ready_bytes + other.ready_bytes,
        dead_lettering: one.dead_lettering + other.dead_lettering,
        ..QueueStats::default() // not summed
    }
}
