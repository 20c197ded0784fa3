//! Parts of commands that speak of messages' states: which a purge removes, why one is parked. Not here: the commands (`command`).

use warren_proto::stored_v1 as pb;
use warren_queue::entry::{ParkCause, PurgeStates, Rearm, ReturnKind};
use warren_types::{Position, QueueId};

use super::command::priority;
use crate::error::{CodecError, malformed};

/// Numbers of `warren.v1.MessageState`.
const SCHEDULED: u32 = 1;
const READY: u32 = 2;
const DELAYED: u32 = 4;
const PARKED: u32 = 5;
const DEAD_LETTERING: u32 = 6;
/// Says that there is no state at all; an empty list says the usual ones.
const NONE: u32 = 0;

pub(super) fn purge_states(states: PurgeStates) -> Vec<u32> {
    if states == PurgeStates::default() {
        return Vec::new();
    }
    let named = [
        (SCHEDULED, states.scheduled),
        (READY, states.ready),
        (DELAYED, states.delayed),
        (PARKED, states.parked),
        (DEAD_LETTERING, states.dead_lettering),
    ];
    let named = named.into_iter().filter(|(_, is_meant)| *is_meant);
    let mut numbers: Vec<u32> = named.map(|(number, _)| number).collect();
    if numbers.is_empty() {
        numbers.push(NONE);
    }
    numbers
}

pub(super) fn decode_purge_states(numbers: &[u32]) -> Result<PurgeStates, CodecError> {
    if numbers.is_empty() {
        return Ok(PurgeStates::default());
    }
    let mut states = PurgeStates {
        ready: false,
        delayed: false,
        scheduled: false,
        parked: false,
        dead_lettering: false,
    };
    for &number in numbers {
        match number {
            NONE => {}
            SCHEDULED => states.scheduled = true,
            READY => states.ready = true,
            DELAYED => states.delayed = true,
            PARKED => states.parked = true,
            DEAD_LETTERING => states.dead_lettering = true,
            _ => {
                return Err(CodecError::UnknownValue {
                    what: "message state",
                    number: i64::from(number),
                });
            }
        }
    }
    Ok(states)
}

pub(super) fn is_failed(kind: ReturnKind) -> bool {
    match kind {
        ReturnKind::Failed => true,
        ReturnKind::Untouched => false,
    }
}

pub(super) fn return_kind(failed: bool) -> ReturnKind {
    if failed {
        ReturnKind::Failed
    } else {
        ReturnKind::Untouched
    }
}

pub(crate) fn park_cause(cause: ParkCause) -> pb::ParkCause {
    match cause {
        ParkCause::DeliveryLimit => pb::ParkCause::DeliveryLimit,
        ParkCause::Rejected => pb::ParkCause::Rejected,
        ParkCause::Cycle => pb::ParkCause::Cycle,
    }
}

pub(crate) fn decode_park_cause(number: i32) -> Result<ParkCause, CodecError> {
    match pb::ParkCause::try_from(number) {
        Ok(pb::ParkCause::DeliveryLimit) => Ok(ParkCause::DeliveryLimit),
        Ok(pb::ParkCause::Rejected) => Ok(ParkCause::Rejected),
        Ok(pb::ParkCause::Cycle) => Ok(ParkCause::Cycle),
        Ok(pb::ParkCause::Unspecified) | Err(_) => Err(CodecError::UnknownValue {
            what: "cause of parking",
            number: i64::from(number),
        }),
    }
}

pub(super) fn rearm(it: &Rearm) -> pb::Rearm {
    let levels = it.blocks.iter().map(|(level, _)| u32::from(level.level()));
    pb::Rearm {
        queue: it.queue.0,
        priority: levels.collect(),
        first: it.blocks.iter().map(|(_, first)| first.0).collect(),
    }
}

pub(super) fn decode_rearm(it: &pb::Rearm) -> Result<Rearm, CodecError> {
    if it.priority.len() != it.first.len() {
        return Err(malformed("rearm", "the columns differ in length"));
    }
    let blocks = it.priority.iter().zip(&it.first);
    Ok(Rearm {
        queue: QueueId(it.queue),
        blocks: blocks
            .map(|(&level, &first)| Ok((priority(level)?, Position(first))))
            .collect::<Result<_, CodecError>>()?,
    })
}
