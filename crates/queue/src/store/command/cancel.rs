//! Scheduled messages are taken back (features A30). Not here: who asked (`dispatch`).

use std::collections::BTreeMap;

use warren_types::{Position, PositionRange};

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::limits::CANCELS_MAX;
use super::super::reach::Visit;
use super::super::states::MessageState;
use super::settle;
use crate::entry::{Cancel, SettleReason};
use crate::outcome::{Cancelled, Effect, Output, Reply};
use crate::rows::Rows;

/// What is scheduled at this moment leaves; each position named is answered, in order.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Cancel,
    out: &mut Output,
) -> Reply {
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let mut found: BTreeMap<Position, Cancelled> = BTreeMap::new();
    queue.each_piece(&mut reach, &it.ranges, |_, block, indexes| {
        block.each_live_index(indexes, |position, state| {
            let what = match state {
                MessageState::Scheduled => Cancelled::Cancelled,
                MessageState::Ready | MessageState::Delayed(_) | MessageState::Parked(_) => {
                    Cancelled::TooLate
                }
            };
            found.insert(position, what);
        });
        Visit::Read
    });
    let meant: Vec<Position> = found
        .iter()
        .filter(|(_, it)| **it == Cancelled::Cancelled)
        .map(|(&at, _)| at)
        .collect();
    let meant = PositionRange::collect(meant);
    let (left, ranges) = settle::leave(queue, &mut reach, &meant, true, |_, _| true);
    queue.counters.cancelled += left.all.messages;
    if left.all.messages > 0 {
        out.effects.push(Effect::Settled {
            queue: it.queue,
            ranges,
            reason: SettleReason::Cancelled,
            left,
        });
    }
    let positions = it.ranges.iter().flat_map(|range| range.positions());
    out.effects.push(Effect::CancelAnswered {
        queue: it.queue,
        token: it.token,
        results: positions
            .take(CANCELS_MAX)
            .map(|at| found.get(&at).copied().unwrap_or(Cancelled::NotFound))
            .collect(),
    });
    Reply::Cancelled {
        count: left.all.messages,
    }
}
