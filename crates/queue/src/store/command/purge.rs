//! Removes messages of some states. Not here: what is in flight, which the dispatcher names as exceptions.

use warren_types::Position;

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::ranges;
use super::super::states::MessageState;
use super::settle;
use crate::entry::{Purge, PurgeStates};
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Purge,
    out: &mut Output,
) -> Reply {
    let now = store.now();
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let kept = ranges::set_of(&it.except);
    let named = ranges::complement(&kept, Position(0), it.below.min(queue.next));
    let PurgeStates {
        ready,
        delayed,
        scheduled,
        parked,
        dead_lettering: _, // in flight, and so in `except`
    } = it.states;
    let (left, ranges) = settle::leave(
        queue,
        &mut reach,
        &named,
        ready,
        |block, index| match block.state(index) {
            MessageState::Ready => ready,
            MessageState::Delayed(until) if until > now => delayed,
            MessageState::Delayed(_) => ready,
            MessageState::Scheduled => scheduled,
            MessageState::Parked(_) => parked,
        },
    );
    queue.counters.purged += left.all.messages;
    // Also when nothing left: the dispatcher hands nothing out of the queue until it hears of the purge.
    out.effects.push(Effect::Purged {
        queue: it.queue,
        ranges,
        left,
    });
    Reply::Purged {
        count: left.all.messages,
    }
}
