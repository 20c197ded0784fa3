//! The commands of moves across shards. Not here: what they do (`queue::store`), the row of what is on its way (`rows`).

use warren_proto::stored_v1 as pb;
use warren_queue::entry::{Arrived, MoveOut, MoveTarget};
use warren_types::{ExchangeName, QueueId, RoutingKey, ShardId};

use super::command::{decode_reason, reason};
use crate::{
    error::{CodecError, malformed},
    ranges,
};

pub(super) fn begin(it: &MoveOut) -> pb::BeginMove {
    let target = |it: &MoveTarget| pb::MoveTarget {
        shard: it.shard.0,
        queues: it.queues.iter().map(|it| it.0).collect(),
    };
    pb::BeginMove {
        from_queue: it.queue.0,
        positions: ranges::encode(&it.ranges),
        reason: reason(it.reason).into(),
        exchange: it.exchange.as_str().into(),
        routing_key: it.routing_key.as_ref().map(|it| it.as_str().into()),
        targets: it.targets.iter().map(target).collect(),
        priority: it.priority.map(u32::from),
    }
}

pub(super) fn decode_begin(it: pb::BeginMove) -> Result<MoveOut, CodecError> {
    let target = |it: pb::MoveTarget| MoveTarget {
        shard: ShardId(it.shard),
        queues: it.queues.into_iter().map(QueueId).collect(),
    };
    Ok(MoveOut {
        queue: QueueId(it.from_queue),
        ranges: ranges::decode(it.positions)?,
        reason: decode_reason(it.reason)?,
        exchange: ExchangeName::try_from(it.exchange.as_str())?,
        routing_key: it
            .routing_key
            .map(|it| RoutingKey::try_from(it.as_str()))
            .transpose()?,
        targets: it.targets.into_iter().map(target).collect(),
        priority: decode_priority(it.priority)?,
    })
}

/// As publishers name it.
pub(crate) fn decode_priority(number: Option<u32>) -> Result<Option<u8>, CodecError> {
    let priority = number.map(u8::try_from).transpose();
    priority.map_err(|_| malformed("move", "the priority is above 255"))
}

pub(super) fn end(it: &Arrived) -> pb::EndMove {
    pb::EndMove {
        shard: it.shard.0,
        number: it.number,
        refused: ranges::encode(&it.refused),
        keep: it.keep,
    }
}

pub(super) fn decode_end(it: pb::EndMove) -> Result<Arrived, CodecError> {
    Ok(Arrived {
        shard: ShardId(it.shard),
        number: it.number,
        refused: ranges::decode(it.refused)?,
        keep: it.keep,
    })
}
