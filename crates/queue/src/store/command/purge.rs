//! Removes what is ready. Not here: what is in flight, which the dispatcher names as exceptions.

use warren_types::Position;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::ranges;
use super::settle;
use crate::entry::Purge;
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Purge,
    out: &mut Output,
) -> Reply {
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let kept = ranges::set_of(&it.except);
    let named = ranges::complement(&kept, Position(0), it.below.min(queue.next));
    let (left, ranges) = settle::leave(queue, &mut reach, &named);
    queue.counters.purged += left.messages;
    // Also when nothing left: the dispatcher hands nothing out of the queue until it hears of the purge.
    out.effects.push(Effect::Purged {
        queue: it.queue,
        ranges,
    });
    Reply::Purged {
        count: left.messages,
    }
}
