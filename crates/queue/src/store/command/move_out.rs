//! Messages begin their way to queues of other shards: under the next number of each such shard. They stay, live, until they have arrived.
//! Not here: where they go and why (the leader knew), sending them (`warren-shard`).

use warren_types::PositionRange;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::limits::OUTGOING_MAX;
use super::super::ranges;
use super::super::reach::Visit;
use crate::entry::MoveOut;
use crate::outcome::{Effect, Output, Reply};
use crate::rows::{OutgoingRow, Rows};

/// Positions that are gone or on their way already are passed over; nothing happens if too much is on its way.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &MoveOut,
    out: &mut Output,
) -> Reply {
    let now = store.now();
    let room = store.moves.len() + it.targets.len() <= OUTGOING_MAX;
    let leaving = store.moves.leaving(it.queue);
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let mut moved: Vec<PositionRange> = Vec::new();
    queue.each_piece(&mut reach, &it.ranges, |_, block, indexes| {
        block.each_live(indexes, |run| {
            for position in run.positions() {
                if !ranges::contains(&leaving, position) {
                    ranges::push(&mut moved, PositionRange::one(position));
                }
            }
        });
        Visit::Read
    });
    let count = moved.iter().map(|range| range.count).sum();
    if moved.is_empty() || it.targets.is_empty() {
        return Reply::MovedOut { count: 0 };
    }
    if !room {
        out.effects.push(Effect::NotMoved {
            queue: it.queue,
            ranges: moved,
            reason: it.reason,
        });
        return Reply::MovedOut { count: 0 };
    }
    for target in &it.targets {
        let number = store.shard.moved_out.entry(target.shard).or_insert(0);
        *number += 1;
        let number = *number;
        store.shard_touched = true;
        let row = OutgoingRow {
            queue: it.queue,
            ranges: moved.clone(),
            queues: target.queues.clone(),
            reason: it.reason,
            exchange: it.exchange.clone(),
            routing_key: it.routing_key.clone(),
            priority: it.priority,
            at: now,
            arrived: Vec::new(),
        };
        out.effects.push(Effect::Outgoing {
            shard: target.shard,
            number,
            row: row.clone(),
        });
        store.moves.put((target.shard, number), row);
    }
    Reply::MovedOut { count }
}
