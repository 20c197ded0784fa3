//! Scheduled messages come due: they are ready, and known as never handed out. Not here: the clock that found them (`dispatch`).

use warren_types::PositionRange;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::limits::RELEASED_RANGES_MAX;
use super::super::ranges;
use super::super::reach::Visit;
use crate::entry::Release;
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

/// Only live messages that were stored with a due time and are not released already. Release comes once per message, before its first hand-out:
/// a leader that cannot tell whether one was handed out treats it as if it was, and does not release it again.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Release,
    out: &mut Output,
) -> Reply {
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let mut released = Vec::new();
    let mut count = 0;
    queue.each_piece(&mut reach, &it.ranges, |level, block, indexes| {
        block.each_live(indexes, |run| {
            for position in run.positions() {
                if !block.is_scheduled(position) || ranges::contains(&level.released, position) {
                    continue;
                }
                let one = PositionRange::one(position);
                ranges::push(&mut released, one);
                ranges::insert(&mut level.released, one);
                count += 1;
            }
        });
        ranges::keep_highest(&mut level.released, RELEASED_RANGES_MAX);
        Visit::Read
    });
    if count > 0 {
        out.effects.push(Effect::Released {
            queue: it.queue,
            ranges: released,
        });
    }
    Reply::Released { count }
}
