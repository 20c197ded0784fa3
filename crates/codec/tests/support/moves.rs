//! Random values of what is on its way to other shards. Not here: other commands and rows.

use proptest::{collection::vec, prelude::*};
use warren_queue::{entry::*, rows::*};
use warren_types::*;

use super::{ranges, reason};

pub(super) fn outgoing_row() -> impl Strategy<Value = OutgoingRow> {
    (move_out(), vec(any::<u64>(), 0..3), any::<u64>(), ranges()).prop_map(
        |(it, queues, at, arrived)| OutgoingRow {
            queue: it.queue,
            ranges: it.ranges,
            queues: queues.into_iter().map(QueueId).collect(),
            reason: it.reason,
            exchange: it.exchange,
            routing_key: it.routing_key,
            priority: it.priority,
            at: ShardTime(at),
            arrived,
        },
    )
}

pub(super) fn move_out() -> impl Strategy<Value = MoveOut> {
    let target = (any::<u32>(), vec(any::<u64>(), 0..3)).prop_map(|(shard, queues)| MoveTarget {
        shard: ShardId(shard),
        queues: queues.into_iter().map(QueueId).collect(),
    });
    let key =
        prop::option::of("[a-z.]{0,9}".prop_map(|it| RoutingKey::try_from(it.as_str()).unwrap()));
    let exchange = "[a-z]{0,9}".prop_map(|it| ExchangeName::try_from(it.as_str()).unwrap());
    (
        any::<u64>(),
        ranges(),
        reason(),
        exchange,
        key,
        vec(target, 0..3),
        prop::option::of(any::<u8>()),
    )
        .prop_map(
            |(queue, ranges, reason, exchange, routing_key, targets, priority)| MoveOut {
                priority,
                queue: QueueId(queue),
                ranges,
                reason,
                exchange,
                routing_key,
                targets,
            },
        )
}
