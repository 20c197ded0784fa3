//! Settle-and-publish where one log entry is impossible and the client allows it (features X4, `allow_non_atomic`): the messages are stored
//! first, each for itself, then the ack is asked for. Not here: both in one entry (`outputs`).
//!
//! Whoever dies between the two leaves the messages stored and the delivery held: it comes again, and its messages with it. Each message
//! without a deduplication key of its own gets one that its delivery's position makes, so a queue that deduplicates stores it once.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_shard::Held;
use warren_shard::api::Target;
use warren_topology::Rights;
use warren_types::key_hash;

use super::confirms::EntryId;
use super::error::aborted;
use super::outputs::{Promised, with_published};
use super::publish_unary::publish_checked;
use super::settle_plan::refused as refused_settle;
use crate::admission::Permit;

use crate::gateway::Gateway;
use crate::publish::Publish;

/// How long a stream waits for the messages of one settlement.
pub(super) const STORED_WITHIN: Duration = Duration::from_secs(10);
/// Settlements whose messages are published first, at the same time, of one stream or call.
pub(super) const AT_ONCE: usize = 64;

/// Messages that are stored before the ack of their delivery is asked for.
#[derive(Debug)]
pub(super) struct First {
    publishes: Vec<Publish>,
    /// Those whose deduplication key is made here.
    keyed: BTreeSet<u32>,
    rights: Rights,
    /// Until they are answered.
    permit: Permit,
}

impl First {
    pub(super) fn new(
        mut publishes: Vec<Publish>,
        permit: Permit,
        rights: Rights,
        target: Target,
        held: Option<Held>,
    ) -> Self {
        let mut keyed = BTreeSet::new();
        for publish in &mut publishes {
            let index = EntryId::from(publish.id).index;
            if let (0, Some(held)) = (publish.message.dedup_hash, held) {
                let (queue, position) = (target.queue.0, held.position.0);
                let key = format!("settled {queue} {position} {index}");
                publish.message.dedup_hash = key_hash(key.as_bytes());
                keyed.insert(index);
            }
        }
        Self {
            publishes,
            keyed,
            rights,
            permit,
        }
    }

    /// # Errors
    /// The result of the settlement, whose ack is not asked for: a message was not stored. Others may have been.
    pub(super) async fn publish(
        self,
        gateway: &Gateway,
        index: u32,
        deadline: Instant,
    ) -> Result<Promised, Box<v1::SettleResult>> {
        let Self {
            publishes,
            keyed,
            rights,
            permit: _permit,
        } = self;
        let published = publish_checked(gateway, rights, publishes, deadline).await;
        let mut published = published.map_err(|error| Box::new(refused_settle(index, &error)))?;
        for result in &mut published {
            if keyed.contains(&result.index) {
                as_known(result);
            }
        }
        if published.iter().any(|it| it.error.is_some()) {
            let settled = refused_settle(index, &aborted());
            return Err(Box::new(with_published(settled, published)));
        }
        Ok(Promised::Stored(published))
    }
}

/// The delivery came again and led to another message in its place: what was stored first stays.
fn as_known(result: &mut v1::PublishResult) {
    let reason = result.error.as_ref().and_then(ApiError::from_status);
    if reason.is_some_and(|it| it.reason() == Reason::DedupConflict) {
        result.outcome = v1::PublishOutcome::Duplicate.into();
        result.error = None;
    }
}

#[cfg(test)]
mod tests {
    use warren_proto::convert::publish::refused;

    use super::*;

    #[test]
    fn conflict_of_a_made_key_is_a_duplicate_and_other_errors_stay() {
        let mut result = refused(3, &ApiError::new(Reason::DedupConflict, "another body"));
        as_known(&mut result);
        let expected = v1::PublishResult {
            index: 3,
            outcome: v1::PublishOutcome::Duplicate.into(),
            ..v1::PublishResult::default()
        };
        assert_eq!(result, expected);
        let full = refused(4, &ApiError::new(Reason::QueueFull, "full"));
        let mut result = full.clone();
        as_known(&mut result);
        assert_eq!(result, full);
    }
}
