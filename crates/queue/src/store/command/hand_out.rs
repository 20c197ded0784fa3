//! Raises a priority's hand-out mark: a message of that priority at or above it was never handed out, so a later leader delivers it
//! with `redelivered = false`; one below was perhaps. Not here: who gets what (`dispatch`), marks that ride on an enqueue (`enqueue`).
//!
//! Positions are numbered per queue and marks are kept per priority: the mark of one priority says nothing about positions that hold
//! messages of another. So late urgent messages do not pull the mark past a backlog of less urgent ones.

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::limits::RELEASED_RANGES_MAX;
use super::super::ranges;
use crate::entry::HandOut;
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

/// Always answered by the mark as it stands, also if it did not move: the dispatcher may wait for the fact itself.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &HandOut,
    out: &mut Output,
) -> Reply {
    let (queue, _) = queue_or_gone!(store, rows, it.queue);
    let next = queue.next;
    let level = queue.level_or_new(it.priority);
    let before = level.row.handed_out;
    let mark = level.raise(it.up_to.unwrap_or(before), next);
    for range in &it.except {
        // Below the old mark a message may have been seen, whatever the command says; what is not there yet was not passed over.
        let passed = ranges::clip(*range, before.max(level.row.head), mark.min(next));
        passed
            .into_iter()
            .for_each(|range| ranges::insert(&mut level.row.released, range));
    }
    for range in &it.positions {
        ranges::remove(&mut level.row.released, *range);
    }
    ranges::keep_highest(&mut level.row.released, RELEASED_RANGES_MAX);
    out.effects.push(Effect::Raised {
        queue: it.queue,
        priority: it.priority,
        mark,
    });
    if !it.positions.is_empty() {
        out.effects.push(Effect::Taken {
            queue: it.queue,
            priority: it.priority,
            ranges: it.positions.clone(),
        });
    }
    Reply::Marked
}
