//! A batch of publishes as a whole, and the result of each of its entries; the same for streams and calls. Not here: entries (`entry`),
//! when results are told (`confirms`, `publish_unary`).

use warren_proto::convert::error::ApiError;
use warren_proto::convert::publish::{committed, refused, unrouted};
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_topology::Topology;
use warren_types::VhostId;

use super::confirms::EntryId;
use super::error::{bad_argument, refused_publish};
use super::schedule;
use crate::gateway::Gateway;
use crate::publish::{Outcome, Publish, Publishing, Refused};

/// # Errors
/// What is wrong with the batch as a whole.
pub(super) fn check_batch(gateway: &Gateway, batch: &v1::PublishBatch) -> Result<(), ApiError> {
    let max = gateway.options().max_batch;
    if batch.entries.len() > usize::try_from(max).unwrap_or(usize::MAX) {
        let text = format!("has {} entries; the limit is {max}", batch.entries.len());
        return Err(bad_argument("batch.entries", text));
    }
    Ok(())
}

/// The result of one entry.
pub(super) fn result(
    entry: EntryId,
    outcome: &Outcome,
    gateway: &Gateway,
    topology: &Topology,
) -> v1::PublishResult {
    let index = entry.index;
    match outcome {
        Outcome::Committed { queues } => committed(index, *queues),
        Outcome::Scheduled { queues, places } => v1::PublishResult {
            schedule_handle: schedule::handle(gateway.cluster(), places),
            ..committed(index, *queues)
        },
        Outcome::Duplicate => v1::PublishResult {
            index,
            outcome: v1::PublishOutcome::Duplicate.into(),
            ..v1::PublishResult::default()
        },
        Outcome::Unrouted | Outcome::Refused(Refused::NoResponders { queue: None })
            if entry.is_mandatory =>
        {
            let text = "no queue takes the message";
            refused(index, &ApiError::new(Reason::Unroutable, text))
        }
        Outcome::Unrouted => unrouted(index),
        Outcome::Refused(why) => refused_publish(index, why, topology),
    }
}

/// Publishes of a batch on their way to be routed.
pub(super) struct Routing {
    pub(super) publishes: Vec<Publish>,
    /// All or none is to be stored.
    pub(super) is_atomic: bool,
}

impl Routing {
    /// Takes the time of the batch by its vhost's limit of publishes per second; false: it is to be waited for.
    pub(super) fn may_publish_now(&self, gateway: &Gateway) -> bool {
        let count = self.publishes.len();
        let first = self.publishes.first();
        let is_time = first.is_none_or(|it| gateway.may_publish_now(it.vhost, count));
        if !is_time {
            gateway.counters().grpc.held_back_by_rate.add(1);
        }
        is_time
    }

    /// How many messages for which vhost have to wait for their time, if it is not now.
    pub(super) fn late(&self, is_time: bool) -> Option<(VhostId, usize)> {
        let first = self.publishes.first().filter(|_| !is_time)?;
        Some((first.vhost, self.publishes.len()))
    }

    pub(super) async fn route(self, publishing: &mut Publishing) {
        if self.is_atomic {
            let is_mandatory = |id| EntryId::from(id).is_mandatory;
            publishing
                .route_together(self.publishes, is_mandatory)
                .await;
        } else {
            publishing.route(self.publishes).await;
        }
    }
}

/// Waits for the time of messages that are late, and takes it.
pub(super) async fn publish_time(gateway: &Gateway, late: Option<(VhostId, usize)>) {
    if let Some((vhost, count)) = late {
        gateway.publish_time(vhost, count).await;
    }
}
