//! Messages leave a queue for a reason. Not here: who may settle (the dispatcher knew), dead-letter targets.

use warren_types::PositionRange;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::blocks::Left;
use super::super::queue::Queue;
use super::super::ranges;
use super::super::reach::{Reach, Visit};
use crate::entry::{Settle, SettleReason};
use crate::outcome::{Effect, Output, Reply};
use crate::rows::{Counters, Rows};

/// Positions that left before are passed over: the reply and the effect name what left now.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Settle,
    out: &mut Output,
) -> Reply {
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let (left, ranges) = leave(queue, &mut reach, &it.ranges);
    *total(&mut queue.counters, it.reason) += left.messages;
    if left.messages > 0 {
        out.effects.push(Effect::Settled {
            queue: it.queue,
            ranges,
            reason: it.reason,
        });
    }
    Reply::Settled {
        count: left.messages,
    }
}

fn total(counters: &mut Counters, reason: SettleReason) -> &mut u64 {
    match reason {
        SettleReason::Acked => &mut counters.acked,
        SettleReason::Rejected => &mut counters.rejected,
        SettleReason::Expired => &mut counters.expired,
        SettleReason::Dropped | SettleReason::DeliveryLimit => &mut counters.dropped,
        SettleReason::DeadLettered => &mut counters.dead_lettered,
        SettleReason::NoAck => &mut counters.no_ack,
    }
}

/// Takes what is live of the named ranges out of the queue; the caller counts it under its reason.
pub(super) fn leave(
    queue: &mut Queue,
    reach: &mut Reach<'_>,
    named: &[PositionRange],
) -> (Left, Vec<PositionRange>) {
    let mut total = Left::default();
    let mut gone = Vec::with_capacity(named.len().min(64));
    queue.each_piece(reach, named, |level, block, indexes| {
        let left = block.settle(indexes, |run| {
            ranges::push(&mut gone, run);
            if !level.released.is_empty() {
                ranges::remove(&mut level.released, run);
            }
        });
        level.live = level.live.saturating_sub(left.messages);
        total.messages += left.messages;
        total.body_bytes += left.body_bytes;
        if left.messages > 0 {
            Visit::Changed
        } else {
            Visit::Read
        }
    });
    queue.counters.live_body_bytes = queue
        .counters
        .live_body_bytes
        .saturating_sub(total.body_bytes);
    (total, gone)
}
