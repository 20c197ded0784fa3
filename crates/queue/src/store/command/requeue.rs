//! Deliveries go back to ready, and are counted. Not here: their place among the ready (`dispatch`), delivery limits.

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::ranges;
use super::super::reach::Visit;
use crate::entry::{Return, ReturnKind};
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: Return,
    out: &mut Output,
) -> Reply {
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let failed = match it.kind {
        ReturnKind::Failed => 1,
        ReturnKind::Untouched => 0,
    };
    let (mut returned, mut counts) = (Vec::new(), Vec::new());
    queue.each_piece(&mut reach, &it.ranges, |_, block, indexes| {
        let mut live = Vec::new();
        block.each_live(indexes, |run| live.push(run));
        for run in &live {
            counts.extend(run.positions().map(|position| {
                block.delay(position, it.not_before);
                block.count_return(position, failed)
            }));
            ranges::push(&mut returned, *run);
        }
        if live.is_empty() {
            Visit::Read
        } else {
            Visit::Changed
        }
    });
    let count = counts.len() as u64;
    if count > 0 {
        out.effects.push(Effect::Returned {
            queue: it.queue,
            ranges: returned,
            counts,
            kind: it.kind,
            not_before: it.not_before,
        });
    }
    Reply::Returned { count }
}
