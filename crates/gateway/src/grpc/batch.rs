//! A batch of publishes as a whole, and the result of each of its entries; the same for streams and calls. Not here: entries (`entry`),
//! when results are told (`confirms`, `publish_unary`).

use warren_proto::convert::error::ApiError;
use warren_proto::convert::publish::{committed, refused, unrouted};
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_topology::Topology;

use super::confirms::EntryId;
use super::error::{bad_argument, refused_publish};
use super::schedule;
use crate::gateway::Gateway;
use crate::publish::{Outcome, Publish, Publishing};

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
        Outcome::Unrouted if entry.is_mandatory => refused(
            index,
            &ApiError::new(Reason::Unroutable, "no queue takes the message"),
        ),
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
