//! Rows of messages' states: marks and timers. Not here: what they mean (`queue::store`).

use warren_proto::stored_v1 as pb;
use warren_queue::rows::{MarksRow, Row};
use warren_types::{Position, ShardTime};

use super::{FORMAT, check_format};
use crate::{
    entry::states::{decode_park_cause, park_cause},
    error::{CodecError, malformed},
    ranges,
};

pub(super) fn marks(row: &MarksRow) -> pb::MarksRow {
    let mut before = 0_u64;
    let deltas = row.parked.iter().map(|(position, _)| {
        let delta = position.0.wrapping_sub(before);
        before = position.0;
        delta
    });
    pb::MarksRow {
        format_version: FORMAT,
        released: ranges::encode(&row.released),
        parked_delta: deltas.collect(),
        park_cause: row
            .parked
            .iter()
            .map(|(_, cause)| park_cause(*cause).into())
            .collect(),
        timer_ms: row.timer.map(|it| it.0),
    }
}

pub(super) fn decode_marks(row: pb::MarksRow) -> Result<MarksRow, CodecError> {
    const WHAT: &str = "marks row";
    check_format(WHAT, row.format_version)?;
    if row.parked_delta.len() != row.park_cause.len() {
        return Err(malformed(WHAT, "the columns differ in length"));
    }
    let mut position = 0_u64;
    let mut parked = Vec::with_capacity(row.park_cause.len());
    for (delta, cause) in row.parked_delta.into_iter().zip(row.park_cause) {
        position = position.wrapping_add(delta);
        parked.push((Position(position), decode_park_cause(cause)?));
    }
    Ok(MarksRow {
        released: ranges::decode(row.released)?,
        parked,
        timer: row.timer_ms.map(ShardTime),
    })
}

pub(super) fn timer() -> pb::TimerRow {
    pb::TimerRow {
        format_version: FORMAT,
    }
}

pub(super) fn decode_timer(row: &pb::TimerRow) -> Result<Row, CodecError> {
    check_format("timer row", row.format_version)?;
    Ok(Row::Timer)
}
