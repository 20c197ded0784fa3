//! An ack with outputs that came to nothing, since a queue does not take an output (features X4): the delivery is held as before.
//! Not here: one that is done (`applied`), asking (`dispose`).

use super::consumer::{Consumer, Standing};
use super::dispose::{self, Wish};
use super::in_flight::State;
use super::io::{Actions, SettleResult, Wait};
use super::proposals::Proposals;
use super::queue::Queue;
use super::request::Item;
use super::shared::Shared;
use crate::entry::ReturnKind;
use crate::outcome::OutputsRefused;

pub(super) fn refused(
    queue: &mut Queue,
    shared: &mut Shared,
    it: &OutputsRefused,
    out: &mut Actions,
) {
    let position = it.position;
    let (index, why) = (it.index, it.why);
    let result = SettleResult::OutputRefused { index, why };
    let Some(flight) = queue.in_flight.get_mut(position) else {
        return;
    };
    if flight.state != State::Settling {
        return;
    }
    flight.state = State::Held;
    flight.refill_due = false;
    let (request, unclaimed) = (flight.request.take(), flight.unclaimed);
    let holder = flight.holder;
    queue.settling = queue.settling.saturating_sub(1);
    let consumer = shared.consumers.get_mut(holder);
    let is_held = match consumer {
        Some(it) => {
            it.uncommitted = it.uncommitted.saturating_sub(1);
            may_hold(it) && !unclaimed
        }
        None => false,
    };
    let asked = request.map(|request| Item { request, index: 0 });
    let also = queue.also.remove(&position).unwrap_or_default();
    for item in asked.into_iter().chain(also.into_iter().map(|it| it.0)) {
        shared.requests.decide(item, result, out);
    }
    if !is_held {
        // Nobody is there to settle it otherwise.
        let mut proposals = Proposals::default();
        let wish = Wish::Return(ReturnKind::Untouched, Wait::ByPolicy);
        dispose::begin(queue, shared, position, wish, None, &mut proposals);
        proposals.propose(queue.id, out);
    }
}

fn may_hold(consumer: &Consumer) -> bool {
    match consumer.standing {
        Standing::Attaching | Standing::Active | Standing::Absent | Standing::Cancelled => true,
        Standing::Gone => false,
    }
}
