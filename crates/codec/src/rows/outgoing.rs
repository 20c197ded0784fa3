//! The row of what is on its way to another shard. Not here: the messages themselves, which stay in their blocks.

use warren_proto::stored_v1 as pb;
use warren_queue::rows::OutgoingRow;
use warren_types::{ExchangeName, QueueId, RoutingKey, ShardTime};

use super::{FORMAT, check_format};
use crate::{
    entry::{decode_priority, decode_reason, reason},
    error::CodecError,
    ranges,
};

pub(super) fn encode(row: &OutgoingRow) -> pb::OutgoingRow {
    pb::OutgoingRow {
        format_version: FORMAT,
        from_queue: row.queue.0,
        positions: ranges::encode(&row.ranges),
        reason: reason(row.reason).into(),
        exchange: row.exchange.as_str().into(),
        routing_key: row.routing_key.as_ref().map(|it| it.as_str().into()),
        queues: row.queues.iter().map(|it| it.0).collect(),
        at_ms: row.at.0,
        arrived: ranges::encode(&row.arrived),
        priority: row.priority.map(u32::from),
    }
}

pub(super) fn decode(row: pb::OutgoingRow) -> Result<OutgoingRow, CodecError> {
    check_format("outgoing row", row.format_version)?;
    Ok(OutgoingRow {
        queue: QueueId(row.from_queue),
        ranges: ranges::decode(row.positions)?,
        queues: row.queues.into_iter().map(QueueId).collect(),
        reason: decode_reason(row.reason)?,
        exchange: ExchangeName::try_from(row.exchange.as_str())?,
        routing_key: row
            .routing_key
            .map(|it| RoutingKey::try_from(it.as_str()))
            .transpose()?,
        at: ShardTime(row.at_ms),
        arrived: ranges::decode(row.arrived)?,
        priority: decode_priority(row.priority)?,
    })
}
