//! Timers that rang with nothing to do are set anew. Not here: what rings them (`dispatch`).

use warren_types::PositionRange;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::reach::Visit;
use crate::entry::Rearm;
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Rearm,
    out: &mut Output,
) -> Reply {
    let now = store.now();
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    for &(_, first) in &it.blocks {
        queue.each_piece(&mut reach, &[PositionRange::one(first)], |_, block, _| {
            block.rearm(now);
            Visit::Changed
        });
    }
    out.effects.push(Effect::Rearmed { queue: it.queue });
    Reply::Rearmed
}
