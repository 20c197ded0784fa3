//! Deliveries are set aside: kept and counted, never handed out (features B49). Not here: why (`dispatch`), how they come back.

use warren_types::PositionRange;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::ranges;
use super::super::reach::Visit;
use crate::entry::{Park, ReturnKind};
use crate::outcome::{Effect, Output, Reply, Tally};
use crate::rows::Rows;

/// Only live messages that are neither scheduled nor parked already.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Park,
    out: &mut Output,
) -> Reply {
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let failed = match it.kind {
        ReturnKind::Failed => 1,
        ReturnKind::Untouched => 0,
    };
    let (mut parked, mut total) = (Vec::new(), Tally::default());
    queue.each_piece(&mut reach, &it.ranges, |level, block, indexes| {
        let mut live = Vec::new();
        block.each_live(indexes, |run| live.push(run));
        let mut changed = Tally::default();
        for run in &live {
            for position in run.positions() {
                if let Some(tally) = block.park(position, it.cause) {
                    block.count_return(position, failed);
                    changed.add(tally);
                    let one = PositionRange::one(position);
                    ranges::push(&mut parked, one);
                    ranges::remove(&mut level.released, one);
                }
            }
        }
        level.parked += changed.messages;
        total.add(changed);
        if changed.messages > 0 {
            Visit::Changed
        } else {
            Visit::Read
        }
    });
    queue.counters.parked_body_bytes += total.body_bytes;
    if total.messages > 0 {
        out.effects.push(Effect::Parked {
            queue: it.queue,
            ranges: parked,
            cause: it.cause,
            tally: total,
        });
    }
    Reply::Parked {
        count: total.messages,
    }
}
