//! An ack with outputs that came to nothing, since a queue does not take an output (features X4): the delivery is held as before.
//! Not here: one that is done (`applied`), asking (`dispose`), several that end in one (`together`).

use warren_types::Position;

use super::consumer::{Consumer, Standing};
use super::dispose::{self, Wish};
use super::in_flight::State;
use super::io::{Actions, SettleResult, Wait};
use super::proposals::Proposals;
use super::queue::Queue;
use super::request::{Item, RequestId};
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
    let Some(given_back) = give_back(queue, shared, position) else {
        return;
    };
    let asked = given_back.request.map(|request| Item { request, index: 0 });
    for item in asked.into_iter().chain(given_back.also) {
        shared.requests.decide(item, result, out);
    }
    if !given_back.is_held {
        let mut proposals = Proposals::default();
        return_nobodys(queue, shared, position, &mut proposals);
        proposals.propose(queue.id, out);
    }
}

/// A delivery that does not end after all.
pub(super) struct GivenBack {
    /// Who wanted it to, and who waited for that.
    pub(super) request: Option<RequestId>,
    pub(super) also: Vec<Item>,
    /// Its consumer has it; else nobody is there to settle it.
    pub(super) is_held: bool,
}

/// Its end came to nothing. `None`: it was not to end.
pub(super) fn give_back(
    queue: &mut Queue,
    shared: &mut Shared,
    position: Position,
) -> Option<GivenBack> {
    let flight = queue.in_flight.get_mut(position)?;
    if flight.state != State::Settling {
        return None;
    }
    flight.state = State::Held;
    flight.refill_due = false;
    flight.leaving = false;
    let (request, unclaimed) = (flight.request.take(), flight.unclaimed);
    let holder = flight.holder;
    queue.settling = queue.settling.saturating_sub(1);
    let is_held = match shared.consumers.get_mut(holder) {
        Some(it) => {
            it.uncommitted = it.uncommitted.saturating_sub(1);
            may_hold(it) && !unclaimed
        }
        None => false,
    };
    let also = queue.also.remove(&position).unwrap_or_default();
    let also = also.into_iter().map(|it| it.0).collect();
    Some(GivenBack {
        request,
        also,
        is_held,
    })
}

/// It returns.
pub(super) fn return_nobodys(
    queue: &mut Queue,
    shared: &mut Shared,
    position: Position,
    proposals: &mut Proposals,
) {
    let wish = Wish::Return(ReturnKind::Untouched, Wait::ByPolicy);
    dispose::begin(queue, shared, position, wish, None, proposals);
}

fn may_hold(consumer: &Consumer) -> bool {
    match consumer.standing {
        Standing::Attaching | Standing::Active | Standing::Absent | Standing::Cancelled => true,
        Standing::Gone => false,
    }
}
