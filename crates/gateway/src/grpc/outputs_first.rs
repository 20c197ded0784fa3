//! Settle-and-publish where one log entry is impossible and the client allows it (features X4, `allow_non_atomic`): the messages are stored
//! first, each for itself, then the ack is asked for. Not here: both in one entry (`outputs`).
//!
//! Whoever dies between the two leaves the messages stored and the delivery held: it comes again, and its messages with it. Each message
//! without a deduplication key of its own gets one that its delivery's position makes, so a queue that deduplicates stores it once. What is
//! returned or set aside may end so once more, with another message: there the attempt is part of the key.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_shard::api::{SettleAction, Target};
use warren_shard::{Held, SettleReason};
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
        action: SettleAction,
    ) -> Self {
        let mut keyed = BTreeSet::new();
        for publish in &mut publishes {
            let index = EntryId::from(publish.id).index;
            if let (0, Some(held)) = (publish.message.dedup_hash, held) {
                let key = made_key(target, held, action, index);
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

/// Of a message that comes with a delivery.
fn made_key(target: Target, held: Held, action: SettleAction, index: u32) -> String {
    let (queue, position) = (target.queue.0, held.position.0);
    if action == SettleAction::Settle(SettleReason::Acked) {
        return format!("settled {queue} {position} {index}");
    }
    let (term, number) = (held.attempt.term.0, held.attempt.number);
    format!("ended {queue} {position} {term} {number} {index}")
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
    use warren_shard::ReturnKind;
    use warren_shard::api::ReturnWait;
    use warren_types::{Attempt, Position, QueueId, ShardId, Term};

    use super::*;

    #[test]
    fn made_key_of_an_ack_is_its_positions_and_of_a_return_its_attempts() {
        let target = Target {
            shard: ShardId(1),
            queue: QueueId(2),
        };
        let held = |number| Held {
            position: Position(7),
            attempt: Attempt {
                term: Term(3),
                number,
            },
        };
        let ack = SettleAction::Settle(SettleReason::Acked);
        let back = SettleAction::Return {
            kind: ReturnKind::Failed,
            wait: ReturnWait::Not,
        };
        let key = |number, action| made_key(target, held(number), action, 0);
        assert_eq!(key(1, ack), key(2, ack));
        assert_ne!(key(1, back), key(2, back));
        assert_ne!(key(1, ack), key(1, back));
    }

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
