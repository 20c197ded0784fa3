//! What became of a published message, as a publisher is told. Not here: when it is told (`gateway`).

use warren_types::NotStored;

use super::error::ApiError;
use super::reason::Reason;
use crate::v1::{PublishOutcome, PublishResult};

/// The result of a message that every one of its `queues` target queues has.
#[must_use]
pub fn committed(index: u32, queues: u32) -> PublishResult {
    PublishResult {
        index,
        outcome: PublishOutcome::Committed.into(),
        queues,
        ..PublishResult::default()
    }
}

/// The result of a message that no queue takes and that was not mandatory: a success.
#[must_use]
pub fn unrouted(index: u32) -> PublishResult {
    PublishResult {
        index,
        outcome: PublishOutcome::Unrouted.into(),
        ..PublishResult::default()
    }
}

/// The result of a message that was refused.
#[must_use]
pub fn refused(index: u32, error: &ApiError) -> PublishResult {
    PublishResult {
        index,
        outcome: PublishOutcome::Refused.into(),
        error: Some(error.to_status()),
        ..PublishResult::default()
    }
}

/// The result of a message that `queue` did not store: a duplicate is a success, all else names the refusing queue.
#[must_use]
pub fn not_stored(index: u32, queue: &str, why: NotStored) -> PublishResult {
    let (reason, text) = match why {
        NotStored::Duplicate => {
            return PublishResult {
                index,
                outcome: PublishOutcome::Duplicate.into(),
                ..PublishResult::default()
            };
        }
        NotStored::QueueGone => (Reason::QueueNotFound, "was deleted"),
        NotStored::SequenceTooOld => (
            Reason::SequenceTooOld,
            "does not remember a sequence this old",
        ),
        NotStored::ProducerFenced => (
            Reason::ProducerFenced,
            "knows a newer epoch of the producer",
        ),
        NotStored::QueueFull => (Reason::QueueFull, "is full"),
        NotStored::DedupConflict => (
            Reason::DedupConflict,
            "has another message with this deduplication key",
        ),
        // The node resumes by itself; a publisher hears of it only if that cannot be waited for.
        NotStored::BatchRefused => (Reason::NotReady, "did not take the batch"),
        NotStored::BatchAborted => (
            Reason::BatchAborted,
            "stores all messages of the batch or none, and another one was refused",
        ),
    };
    let error = ApiError::new(reason, format!("queue {queue:?} {text}"))
        .with("queue", queue)
        .resource("queue", queue);
    refused(index, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_is_a_success_without_error() {
        let result = not_stored(3, "orders", NotStored::Duplicate);
        assert_eq!(result.index, 3);
        assert_eq!(result.outcome(), PublishOutcome::Duplicate);
        assert_eq!(result.error, None);
    }

    #[test]
    fn refusal_names_reason_and_queue() {
        let cases = [
            (NotStored::QueueGone, Reason::QueueNotFound),
            (NotStored::SequenceTooOld, Reason::SequenceTooOld),
            (NotStored::ProducerFenced, Reason::ProducerFenced),
            (NotStored::QueueFull, Reason::QueueFull),
            (NotStored::DedupConflict, Reason::DedupConflict),
            (NotStored::BatchRefused, Reason::NotReady),
            (NotStored::BatchAborted, Reason::BatchAborted),
        ];
        for (why, reason) in cases {
            let result = not_stored(0, "orders", why);
            assert_eq!(result.outcome(), PublishOutcome::Refused);
            let error = result.error.as_ref().and_then(ApiError::from_status);
            let error = error.expect("an error of ours");
            assert_eq!(error.reason(), reason);
            assert_eq!(
                error.metadata().get("queue").map(String::as_str),
                Some("orders")
            );
        }
    }

    #[test]
    fn unrouted_is_stored_nowhere_and_committed_counts_its_queues() {
        assert_eq!(
            (unrouted(1).queues, unrouted(1).outcome()),
            (0, PublishOutcome::Unrouted)
        );
        assert_eq!(
            (committed(1, 2).queues, committed(1, 2).outcome()),
            (2, PublishOutcome::Committed)
        );
    }
}
