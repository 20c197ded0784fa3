//! A queue's contents as a whole: purge and stats. Not here: single messages (`messaging`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::{
    duration_ms_from_client, duration_to_client, time_ms_to_client,
};
use warren_proto::convert::reason::Reason;
use warren_proto::v1::MessageState;
use warren_shard::PurgeStates;
use warren_shard::api::{LevelStats, QueueStats, StatsDepth};
use warren_topology::{Queue, Topology};
use warren_types::VhostName;

use super::queues::find;
use super::{TopologyAdmin, check_validate_only};
use crate::auth::Who;
use crate::clock::wall_clock_ms;
use crate::gateway::Gateway;
use crate::grpc::error::{bad_argument, of_operation, unsupported};
use crate::grpc::open::{leader_hint, owner, queue_name, vhost_name};
use crate::grpc::permit::may_view_queue;
use crate::operations::find_vhost;

const QUEUES_MAX: usize = 1_000;
/// Calls of `WatchQueueStats` that a node serves at a time.
pub(super) const WATCHES_MAX: usize = 64;
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Leaders are asked for so many queues at a time.
const ASKED_AT_ONCE: usize = 64;

type Rounds = std::pin::Pin<
    Box<dyn futures::Stream<Item = Result<admin_v1::WatchQueueStatsResponse, Status>> + Send>,
>;

impl TopologyAdmin {
    pub(super) async fn purge_queue_here(
        &self,
        request: admin_v1::PurgeQueueRequest,
    ) -> Result<admin_v1::PurgeQueueResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let states = purge_states(&request.states)?;
        let (vhost, name) = (vhost_name(&request.vhost)?, queue_name(&request.queue)?);
        let requester = owner(&request.client_id);
        let queue = self
            .gateway
            .find_queue(&vhost, &name, requester.as_ref())
            .await
            .map_err(|error| of_operation(&error))?;
        let messages = self
            .gateway
            .purge_queue(&queue, states)
            .await
            .map_err(|error| of_operation(&error))?;
        Ok(admin_v1::PurgeQueueResponse { messages })
    }

    pub(super) async fn get_queue_stats_here(
        &self,
        request: admin_v1::GetQueueStatsRequest,
    ) -> Result<admin_v1::GetQueueStatsResponse, ApiError> {
        if request.queues.len() > QUEUES_MAX {
            return Err(bad_argument(
                "queues",
                format!("names more than {QUEUES_MAX}"),
            ));
        }
        let vhost = vhost_name(&request.vhost)?;
        let mut stats = Vec::with_capacity(request.queues.len());
        for name in &request.queues {
            let name = queue_name(name)?;
            let queue = self
                .gateway
                .find_any_queue(&vhost, &name)
                .await
                .map_err(|error| of_operation(&error))?;
            let known = self
                .gateway
                .queue_stats(&queue, StatsDepth::Age)
                .await
                .map_err(|error| of_operation(&error))?;
            stats.push(self.stats_to_client(&vhost, &queue, known));
        }
        Ok(admin_v1::GetQueueStatsResponse { stats })
    }

    /// The stats of those queues of which they are known.
    pub(super) async fn known_stats(
        &self,
        vhost: &VhostName,
        queues: &[&Queue],
        depth: StatsDepth,
    ) -> Vec<admin_v1::QueueStats> {
        let mut stats = Vec::with_capacity(queues.len());
        for some in queues.chunks(ASKED_AT_ONCE) {
            let asked = some
                .iter()
                .map(|queue| async move { (queue, self.gateway.queue_stats(queue, depth).await) });
            for (queue, known) in join_all(asked).await {
                stats.extend(
                    known
                        .ok()
                        .map(|known| self.stats_to_client(vhost, queue, known)),
                );
            }
        }
        stats
    }

    fn stats_to_client(
        &self,
        vhost: &VhostName,
        queue: &Queue,
        stats: QueueStats,
    ) -> admin_v1::QueueStats {
        let now_ms = wall_clock_ms();
        let age = |came: u64| Duration::from_millis(now_ms.saturating_sub(came));
        let left = stats.left;
        admin_v1::QueueStats {
            vhost: vhost.to_string(),
            queue: queue.name.to_string(),
            ready: stats.ready,
            unacked: stats.unacked,
            scheduled: stats.scheduled,
            delayed: stats.delayed,
            parked: stats.parked,
            dead_lettering: stats.dead_lettering,
            bytes: stats.body_bytes,
            ready_bytes: stats.ready_bytes,
            consumers: u32::try_from(stats.consumers).unwrap_or(u32::MAX),
            oldest_ready_age: stats.oldest_ready_ms.map(age).map(duration_to_client),
            published_total: stats.enqueued,
            acked_total: left.acked,
            otherwise_settled_total: stats.settled.saturating_sub(left.acked),
            rejected_total: left.rejected,
            expired_total: left.expired,
            dropped_total: left.dropped,
            dead_lettered_total: left.dead_lettered,
            purged_total: left.purged,
            duplicates_total: stats.duplicates,
            delivered_total: stats.delivered,
            redelivered_total: stats.redelivered,
            priorities: stats.levels.iter().map(priority_to_client).collect(),
            taken_at: Some(time_ms_to_client(now_ms)),
            leader: leader_hint(&self.gateway, queue.shard),
            ..admin_v1::QueueStats::default()
        }
    }

    pub(super) fn watch_queue_stats_here(
        &self,
        request: admin_v1::WatchQueueStatsRequest,
    ) -> Result<Rounds, ApiError> {
        let vhost = vhost_name(&request.vhost)?;
        if request.queues.len() > QUEUES_MAX {
            return Err(bad_argument(
                "queues",
                format!("names more than {QUEUES_MAX}"),
            ));
        }
        let interval = match &request.interval {
            Some(interval) => duration_ms_from_client(interval)
                .map(Duration::from_millis)
                .ok_or_else(|| bad_argument("interval", "is negative or too long"))?,
            None => INTERVAL_DEFAULT,
        };
        for name in &request.queues {
            queue_name(name)?;
        }
        let place = Arc::clone(&self.watches).try_acquire_owned();
        let place = place.map_err(|_| {
            let text = format!("the node serves {WATCHES_MAX} watches already");
            ApiError::new(Reason::LimitReached, text)
        })?;
        let (out, rounds) = mpsc::channel(1);
        let admin = self.clone();
        let watch = Watch {
            admin,
            vhost,
            names: request.queues,
            interval: interval.max(INTERVAL_MIN),
            _place: place,
        };
        self.gateway.tasks().spawn(watch.run(out));
        Ok(Box::pin(ReceiverStream::new(rounds)))
    }
}

/// What of a round the caller may see.
pub(super) fn seen(
    gateway: &Gateway,
    who: &Who,
    vhost: &str,
    mut round: admin_v1::WatchQueueStatsResponse,
) -> admin_v1::WatchQueueStatsResponse {
    let topology = gateway.topology();
    let vhost = if vhost.is_empty() { "/" } else { vhost };
    let Some(vhost) = topology.vhost(vhost).map(|it| it.id) else {
        return admin_v1::WatchQueueStatsResponse::default();
    };
    let may_see = |queue: &String| may_view_queue(&topology, who, vhost, queue);
    round.stats.retain(|it| may_see(&it.queue));
    round.unknown.retain(|it| may_see(it));
    round
}

fn priority_to_client(it: &LevelStats) -> admin_v1::PriorityStats {
    admin_v1::PriorityStats {
        priority: it.priority.level().into(),
        messages: it.live,
        scheduled: it.scheduled,
        parked: it.parked,
    }
}

/// None named: what AMQP's purge removes.
fn purge_states(named: &[i32]) -> Result<PurgeStates, ApiError> {
    if named.is_empty() {
        return Ok(PurgeStates::default());
    }
    let mut states = PurgeStates {
        ready: false,
        delayed: false,
        scheduled: false,
        parked: false,
        dead_lettering: false,
    };
    for &state in named {
        match MessageState::try_from(state) {
            Ok(MessageState::Ready) => states.ready = true,
            Ok(MessageState::Delayed) => states.delayed = true,
            Ok(MessageState::Scheduled) => states.scheduled = true,
            Ok(MessageState::Parked) => states.parked = true,
            Ok(MessageState::DeadLettering) => states.dead_lettering = true,
            Ok(MessageState::Retained) => return Err(unsupported("retained messages")),
            Ok(MessageState::Unacked) => return Err(unsupported("purging what consumers hold")),
            Ok(MessageState::Unspecified) | Err(_) => {
                return Err(bad_argument("states", "has one that is not known"));
            }
        }
    }
    Ok(states)
}

/// One call of `WatchQueueStats`.
struct Watch {
    admin: TopologyAdmin,
    vhost: VhostName,
    /// None = all.
    names: Vec<String>,
    interval: Duration,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn run(self, out: mpsc::Sender<Result<admin_v1::WatchQueueStatsResponse, Status>>) {
        let mut told: BTreeMap<String, admin_v1::QueueStats> = BTreeMap::new();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_first = true;
        loop {
            tokio::select! {
                biased; // stopping comes first
                () = self.admin.stop.cancelled() => return,
                () = out.closed() => return,
                _ = ticks.tick() => {}
            }
            let round = self.round(&mut told).await;
            let is_news = is_first || !round.stats.is_empty() || !round.unknown.is_empty();
            is_first = false;
            if is_news && out.send(Ok(round)).await.is_err() {
                return;
            }
        }
    }

    async fn round(
        &self,
        told: &mut BTreeMap<String, admin_v1::QueueStats>,
    ) -> admin_v1::WatchQueueStatsResponse {
        let topology = self.admin.gateway.topology();
        let queues = self.queues(&topology);
        let depth = if self.names.is_empty() {
            StatsDepth::Counts
        } else {
            StatsDepth::Age
        };
        let known = self.admin.known_stats(&self.vhost, &queues, depth).await;
        let mut unknown: Vec<String> = queues.iter().map(|it| it.name.to_string()).collect();
        unknown.extend(
            self.names
                .iter()
                .filter(|name| !queues.iter().any(|it| it.name.as_str() == **name))
                .cloned(),
        );
        unknown.retain(|name| !known.iter().any(|it| it.queue == *name));
        told.retain(|name, _| queues.iter().any(|it| it.name.as_str() == name));
        let mut stats = Vec::new();
        for one in known {
            let figures = admin_v1::QueueStats {
                taken_at: None,
                oldest_ready_age: None, // grows by itself
                ..one.clone()
            };
            if told.insert(one.queue.clone(), figures.clone()) != Some(figures) {
                stats.push(one);
            }
        }
        admin_v1::WatchQueueStatsResponse { stats, unknown }
    }

    fn queues<'a>(&self, topology: &'a Topology) -> Vec<&'a Queue> {
        if self.names.is_empty() {
            let space = find_vhost(topology, &self.vhost);
            return space
                .map(|space| topology.queues_after(space, None).collect())
                .unwrap_or_default();
        }
        let names = self.names.iter().filter_map(|name| queue_name(name).ok());
        names
            .filter_map(|name| find(topology, &self.vhost, &name).ok())
            .collect()
    }
}
