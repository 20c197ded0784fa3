//! Messages leave a queue for a reason. Not here: who may settle (the dispatcher knew), dead-letter targets.

use std::ops::Range;

use warren_types::PositionRange;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::blocks::Block;
use super::super::queue::Queue;
use super::super::ranges;
use super::super::reach::{Reach, Visit};
use crate::entry::{Settle, SettleReason};
use crate::outcome::{Effect, Left, Output, Reply};
use crate::rows::{Counters, Rows};

/// Positions that left before are passed over: the reply and the effect name what left now.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Settle,
    out: &mut Output,
) -> Reply {
    let now = store.now();
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let (left, ranges) = leave(queue, &mut reach, &it.ranges, true, |_, _| true);
    *total(&mut queue.counters, it.reason) += left.all.messages;
    if it.reason == SettleReason::Expired {
        queue.each_piece(&mut reach, &it.ranges, |_, block, _| {
            block.rearm(now);
            Visit::Changed
        });
    }
    if left.all.messages > 0 {
        out.effects.push(Effect::Settled {
            queue: it.queue,
            ranges,
            reason: it.reason,
            left,
        });
    }
    Reply::Settled {
        count: left.all.messages,
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
        SettleReason::Purged => &mut counters.purged,
    }
}

/// Takes what is live of the named ranges, and `is_meant` by its index in its block, out of the queue; the caller counts it
/// under its reason. `plain`: whether messages of blocks are meant that can have no state but ready and in flight.
pub(super) fn leave(
    queue: &mut Queue,
    reach: &mut Reach<'_>,
    named: &[PositionRange],
    plain: bool,
    is_meant: impl Fn(&Block, u32) -> bool,
) -> (Left, Vec<PositionRange>) {
    let mut total = Left::default();
    let mut gone = Vec::with_capacity(named.len().min(64));
    queue.each_piece(reach, named, |level, block, indexes| {
        let mut left = Left::default();
        let mut settle = |block: &mut Block, piece: Range<u32>| {
            left.add(block.settle(piece, |run| {
                ranges::push(&mut gone, run);
                if !level.released.is_empty() {
                    ranges::remove(&mut level.released, run);
                }
            }));
        };
        if block.has_states() {
            for index in indexes {
                if is_meant(block, index) {
                    settle(block, index..index + 1);
                }
            }
        } else if plain {
            settle(block, indexes);
        }
        level.live = level.live.saturating_sub(left.all.messages);
        level.scheduled = level.scheduled.saturating_sub(left.scheduled.messages);
        level.parked = level.parked.saturating_sub(left.parked.messages);
        total.add(left);
        if left.all.messages > 0 {
            Visit::Changed
        } else {
            Visit::Read
        }
    });
    let counters = &mut queue.counters;
    for (bytes, left) in [
        (&mut counters.live_body_bytes, total.all),
        (&mut counters.scheduled_body_bytes, total.scheduled),
        (&mut counters.parked_body_bytes, total.parked),
    ] {
        *bytes = bytes.saturating_sub(left.body_bytes);
    }
    (total, gone)
}
