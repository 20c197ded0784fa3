//! `Credit` and `Recall`: what a consumer may still get. Not here: what settles give back (`shared`).

use super::io::{Action, Actions, ConsumerKey, Credit};
use super::queue::Queue;
use super::shared::Shared;

pub(super) fn add(queue: &mut Queue, shared: &mut Shared, consumer: ConsumerKey, add: Credit) {
    let Some(holder) = shared.consumers.find(consumer) else {
        return; // It ended while the credit was on its way.
    };
    if let Some(consumer) = shared.consumers.get_mut(holder) {
        consumer.add(add);
    }
    shared.wake(queue, holder);
}

/// Answered always, so that nobody waits: an unknown consumer has nothing unspent.
pub(super) fn recall(shared: &mut Shared, consumer: ConsumerKey, up_to: Credit, out: &mut Actions) {
    let credit = shared
        .consumers
        .find(consumer)
        .and_then(|holder| shared.consumers.get_mut(holder))
        .map_or(Credit::default(), |it| it.recall(up_to));
    out.list.push(Action::Recalled { consumer, credit });
}
