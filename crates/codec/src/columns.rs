//! The parts that links between nodes share with log entries: facts, producers' numbers, reasons. Not here: the frames (`shard`).

use warren_proto::stored_v1 as pb;
use warren_queue::entry::SettleReason;
use warren_types::{Facts, NotStored, ProducerSpan};

use crate::{CodecError, entry, facts, rows};

#[must_use]
pub fn encode_facts(facts: &Facts) -> pb::MessageFacts {
    facts::encode(facts)
}

/// # Errors
/// [`CodecError`] if the columns do not fit together or to a payload of that length.
pub fn decode_facts(
    facts: Option<pb::MessageFacts>,
    payload_bytes: usize,
) -> Result<Facts, CodecError> {
    facts::decode(facts, payload_bytes)
}

#[must_use]
pub fn encode_span(span: &ProducerSpan) -> pb::ProducerSpan {
    entry::command::producer(span)
}

/// # Errors
/// [`CodecError`] if its columns differ in length.
pub fn decode_span(span: pb::ProducerSpan) -> Result<ProducerSpan, CodecError> {
    entry::command::decode_producer(span)
}

pub use crate::said::{decode_outcome, encode_outcome};

#[must_use]
pub fn encode_settle_reason(reason: SettleReason) -> i32 {
    entry::command::reason(reason).into()
}

/// # Errors
/// [`CodecError`] for a number that is not known: never guessed.
pub fn decode_settle_reason(number: i32) -> Result<SettleReason, CodecError> {
    entry::command::decode_reason(number)
}

#[must_use]
pub fn encode_not_stored(why: NotStored) -> i32 {
    rows::small::not_stored(why).into()
}

/// # Errors
/// [`CodecError`] for a number that is not known: never guessed.
pub fn decode_not_stored(number: i32) -> Result<NotStored, CodecError> {
    rows::small::decode_not_stored(number)
}
