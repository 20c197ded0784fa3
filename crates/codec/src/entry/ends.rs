//! How deliveries end, each kind for itself and several in one. Not here: other commands (`command`).

use warren_proto::stored_v1 as pb;
use warren_proto::stored_v1::ending::Kind;
use warren_queue::entry::{EndedDelivery, Ending, Park, Return, Settle, SettleTogether};
use warren_types::{Attempt, Position, QueueId, ShardTime, Term};

use super::command::{decode_blocks, decode_reason, enqueue, reason};
use super::moves;
use super::states::{decode_park_cause, is_failed, park_cause, return_kind};
use crate::error::{CodecError, malformed};
use crate::{ranges, said};

pub(super) fn settle(it: &Settle) -> pb::Settle {
    pb::Settle {
        queue: it.queue.0,
        positions: ranges::encode(&it.ranges),
        reason: reason(it.reason).into(),
        ..pb::Settle::default()
    }
}

pub(super) fn decode_settle(it: pb::Settle) -> Result<Settle, CodecError> {
    Ok(Settle {
        queue: QueueId(it.queue),
        reason: decode_reason(it.reason)?,
        ranges: ranges::decode(it.positions)?,
    })
}

pub(super) fn give_back(it: &Return) -> pb::Return {
    pb::Return {
        queue: it.queue.0,
        positions: ranges::encode(&it.ranges),
        failed: is_failed(it.kind),
        not_before_ms: it.not_before.map_or(0, |it| it.0),
        ..pb::Return::default()
    }
}

pub(super) fn decode_return(it: pb::Return) -> Result<Return, CodecError> {
    Ok(Return {
        queue: QueueId(it.queue),
        ranges: ranges::decode(it.positions)?,
        kind: return_kind(it.failed),
        not_before: (it.not_before_ms != 0).then_some(ShardTime(it.not_before_ms)),
    })
}

pub(super) fn park(it: &Park) -> pb::Park {
    pb::Park {
        queue: it.queue.0,
        positions: ranges::encode(&it.ranges),
        cause: park_cause(it.cause).into(),
        failed: is_failed(it.kind),
    }
}

pub(super) fn decode_park(it: pb::Park) -> Result<Park, CodecError> {
    Ok(Park {
        queue: QueueId(it.queue),
        ranges: ranges::decode(it.positions)?,
        cause: decode_park_cause(it.cause)?,
        kind: return_kind(it.failed),
    })
}

pub(super) fn together(it: &SettleTogether) -> pb::SettleTogether {
    pb::SettleTogether {
        deliveries: it.deliveries.iter().map(delivered).collect(),
        endings: it.endings.iter().map(ending).collect(),
        blocks: it.blocks.iter().map(enqueue).collect(),
    }
}

pub(super) fn decode_together(it: pb::SettleTogether) -> Result<SettleTogether, CodecError> {
    let deliveries = it.deliveries.into_iter().map(|it| EndedDelivery {
        queue: QueueId(it.queue),
        position: Position(it.position),
        attempt: Attempt {
            term: Term(it.attempt_term),
            number: it.attempt_number,
        },
    });
    let endings = it.endings.into_iter().map(decode_ending);
    Ok(SettleTogether {
        deliveries: deliveries.collect(),
        endings: endings.collect::<Result<_, _>>()?,
        blocks: decode_blocks(it.blocks)?,
    })
}

fn delivered(it: &EndedDelivery) -> pb::TogetherDelivery {
    pb::TogetherDelivery {
        queue: it.queue.0,
        position: it.position.0,
        attempt_term: it.attempt.term.0,
        attempt_number: it.attempt.number,
    }
}

fn ending(it: &Ending) -> pb::Ending {
    let kind = match it {
        Ending::Remark(it) => Kind::Remark(said::encode_remark(it)),
        Ending::Settle(it) => Kind::Settle(settle(it)),
        Ending::Return(it) => Kind::Return(give_back(it)),
        Ending::Park(it) => Kind::Park(park(it)),
        Ending::MoveOut(it) => Kind::BeginMove(moves::begin(it)),
    };
    pb::Ending { kind: Some(kind) }
}

fn decode_ending(it: pb::Ending) -> Result<Ending, CodecError> {
    Ok(match it.kind {
        Some(Kind::Remark(it)) => Ending::Remark(said::decode_remark(it)?),
        Some(Kind::Settle(it)) => Ending::Settle(decode_settle(it)?),
        Some(Kind::Return(it)) => Ending::Return(decode_return(it)?),
        Some(Kind::Park(it)) => Ending::Park(decode_park(it)?),
        Some(Kind::BeginMove(it)) => Ending::MoveOut(moves::decode_begin(it)?),
        None => return Err(malformed("ending", "is missing or unknown")),
    })
}
