//! `Loaded`: a block that was asked for. Not here: what to ask for (`hand_out`, `claim`).

use super::claim;
use super::io::{Actions, Loaded};
use super::queue::Queue;
use super::shared::Shared;

pub(super) fn step(queue: &mut Queue, shared: &mut Shared, it: &Loaded, out: &mut Actions) {
    let level = queue.level_mut(it.priority);
    if level.load.as_ref().is_none_or(|load| load.from != it.from) {
        return; // Not what is asked for now.
    }
    let Some(arrival) = level.arrive(it.block.as_ref()) else {
        return;
    };
    claim::check(queue, shared, it.priority, &arrival, out);
    if queue.wants_blocks() {
        queue.level_mut(it.priority).keep(arrival);
    }
    shared.count_hot(queue);
}
