//! Scheduled messages are taken back before they are due (features A30). What was taken back is remembered, so that asking again gives
//! the same answer: whoever asks may have lost the first one. Not here: who may ask (`warren-gateway`).

use warren_types::{Position, PositionRange};

use super::super::Store;
use super::super::limits::CANCELS_REMEMBERED;
use super::super::memory::{Fact, Keep};
use super::super::ranges;
use super::super::states::MessageState;
use super::settle;
use crate::entry::Cancel;
use crate::outcome::{Cancelled, Effect, Left, Output, Reply};
use crate::rows::{MemoryOf, Rows};

/// Only live messages that are scheduled; a release that came before makes it too late.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: Cancel,
    out: &mut Output,
) -> Reply {
    let now = store.now();
    let Some((queue, mut reach)) = store.touch(rows, it.queue) else {
        out.effects.push(Effect::Cancelled(Cancelled {
            queue: it.queue,
            ranges: Vec::new(),
            left: Left::default(),
            before: Vec::new(),
            unknown: it.ranges,
        }));
        return Reply::QueueGone;
    };
    let asked = ranges::set_of(&it.ranges);
    let (left, gone) = settle::leave(queue, &mut reach, &asked, false, |block, index| {
        block.state(index) == MessageState::Scheduled
    });
    queue.counters.cancelled += left.all.messages;
    let (mut before, mut unknown) = (Vec::new(), Vec::new());
    let given = Position(1)..queue.next;
    for range in &asked {
        for rest in ranges::complement(&gone, range.first, range.end()) {
            let there = ranges::clip(rest, given.start, given.end);
            unknown.extend(ranges::complement(there.as_slice(), rest.first, rest.end()));
            let positions = there.into_iter().flat_map(|it| it.positions());
            for position in positions {
                let known = queue
                    .memories
                    .find(rows, queue.id, MemoryOf::Cancels, position.0);
                if known.is_some() {
                    ranges::push(&mut before, PositionRange::one(position));
                }
            }
        }
    }
    let keep = Keep {
        most: CANCELS_REMEMBERED,
        since: None,
    };
    for position in gone.iter().flat_map(|range| range.positions()) {
        let fact = Fact {
            key: position.0,
            at: now,
            check: 0,
        };
        queue
            .memories
            .remember(rows, queue.id, MemoryOf::Cancels, fact, keep);
    }
    out.effects.push(Effect::Cancelled(Cancelled {
        queue: it.queue,
        ranges: gone,
        left,
        before,
        unknown,
    }));
    Reply::Cancelled {
        count: left.all.messages,
    }
}
