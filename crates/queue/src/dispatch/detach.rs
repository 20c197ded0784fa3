//! `Detach`: a consumer ends, or is cancelled and keeps what it holds. Not here: nodes that vanish with all theirs (`node`).

use super::consumer::{Holder, Standing};
use super::dispose;
use super::io::Actions;
use super::queue::Queue;
use super::shared::Shared;
use super::single_active;
use crate::entry::ReturnKind;

pub(super) fn step(
    queue: &mut Queue,
    shared: &mut Shared,
    holder: Holder,
    returns: Option<ReturnKind>,
    out: &mut Actions,
) {
    leave(queue, shared, holder);
    match returns {
        None => stand(shared, holder, Standing::Cancelled),
        Some(kind) => {
            stand(shared, holder, Standing::Gone);
            dispose::return_held(queue, shared, holder, kind, |_| true, out);
        }
    }
}

/// Takes the consumer out of everything that could hand it something. What is in flight in its name stays.
pub(super) fn leave(queue: &mut Queue, shared: &mut Shared, holder: Holder) {
    queue.attached.remove(&holder);
    queue.ring.leave(holder);
    queue.dry.retain(|&it| it != holder);
    single_active::left(queue, holder);
    if let Some(consumer) = shared.consumers.get_mut(holder) {
        consumer.ringed = false;
        consumer.dry = false;
        if consumer.is_attached() {
            consumer.standing = Standing::Cancelled;
        }
    }
    if queue.attached.is_empty() {
        let anew = queue.scheduled.messages > 0;
        for level in &mut queue.levels {
            if anew {
                // What is not due yet is found by the cursor when it is: nothing of it need be remembered.
                queue.claimed_end = queue.claimed_end.max(level.cursor);
                level.rewind();
            } else {
                level.drop_hot();
            }
        }
        shared.count_hot(queue);
    }
}

/// It is over; forgotten at once if nothing is in flight in its name.
pub(super) fn stand(shared: &mut Shared, holder: Holder, standing: Standing) {
    let Some(consumer) = shared.consumers.get_mut(holder) else {
        return;
    };
    consumer.standing = standing;
    if consumer.in_flight == 0 {
        shared.consumers.remove(holder);
    }
}
