//! What consumers said of deliveries, and the command that keeps it. Not here: the row it is kept in (`rows`).

use warren_proto::stored_v1 as pb;
use warren_queue::entry::{AttemptOutcome, Remark, Said};
use warren_types::QueueId;

use crate::error::{CodecError, malformed};
use crate::ranges;

pub(crate) fn encode_remark(it: &Remark) -> pb::Remark {
    pb::Remark {
        queue: it.queue.0,
        positions: ranges::encode(&it.ranges),
        said: Some(encode(&it.said)),
    }
}

pub(crate) fn decode_remark(it: pb::Remark) -> Result<Remark, CodecError> {
    Ok(Remark {
        queue: QueueId(it.queue),
        ranges: ranges::decode(it.positions)?,
        said: decode(it.said)?,
    })
}

pub(crate) fn encode(it: &Said) -> pb::Said {
    pb::Said {
        outcome: encode_outcome(it.outcome),
        reason: it.reason.clone(),
        detail: it.detail.clone(),
        consumer: it.consumer.clone(),
    }
}

pub(crate) fn decode(it: Option<pb::Said>) -> Result<Said, CodecError> {
    let it = it.ok_or_else(|| malformed("remark", "nothing is said"))?;
    Ok(Said {
        outcome: decode_outcome(it.outcome)?,
        reason: it.reason,
        detail: it.detail,
        consumer: it.consumer,
    })
}

/// As `warren.stored.v1.AttemptOutcome`.
#[must_use]
pub fn encode_outcome(it: AttemptOutcome) -> i32 {
    let outcome = match it {
        AttemptOutcome::Rejected => pb::AttemptOutcome::Rejected,
        AttemptOutcome::Parked => pb::AttemptOutcome::Parked,
        AttemptOutcome::Failed => pb::AttemptOutcome::Failed,
        AttemptOutcome::Returned => pb::AttemptOutcome::Returned,
    };
    outcome.into()
}

/// # Errors
/// A number that this version does not know.
pub fn decode_outcome(number: i32) -> Result<AttemptOutcome, CodecError> {
    match pb::AttemptOutcome::try_from(number) {
        Ok(pb::AttemptOutcome::Rejected) => Ok(AttemptOutcome::Rejected),
        Ok(pb::AttemptOutcome::Parked) => Ok(AttemptOutcome::Parked),
        Ok(pb::AttemptOutcome::Failed) => Ok(AttemptOutcome::Failed),
        Ok(pb::AttemptOutcome::Returned) => Ok(AttemptOutcome::Returned),
        Ok(pb::AttemptOutcome::Unspecified) | Err(_) => Err(CodecError::UnknownValue {
            what: "outcome of an attempt",
            number: i64::from(number),
        }),
    }
}
