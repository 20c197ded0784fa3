//! Decides one item of a settle or a return: whose attempt counts, what is proposed, which credit comes back when.
//! Not here: what happens at the commit (`applied`).

use warren_types::{Position, QueueSettings};

use super::claim::{self, Claim};
use super::consumer::Holder;
use super::in_flight::{Flight, State};
use super::io::{Action, Actions, Held, OutputsId, SettleResult, Wait};
use super::leaving::{self, Fate, Leaving};
use super::proposals::Proposals;
use super::queue::{Asked, Queue};
use super::request::{Item, RequestId};
use super::retry;
use super::shared::Shared;
use crate::entry::{ParkCause, ReturnKind, SettleReason};

/// What is to become of a message in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Settle(SettleReason),
    Return(ReturnKind, Wait),
    Park(ParkCause, ReturnKind),
    /// Acked, and messages come into queues with it.
    Outputs(OutputsId),
}

impl Wish {
    fn asked(self) -> Asked {
        match self {
            Self::Settle(_) | Self::Park(..) | Self::Outputs(_) => Asked::Settle,
            Self::Return(..) => Asked::Return,
        }
    }

    /// The message is still somewhere afterwards.
    fn keeps(self, settings: &QueueSettings) -> bool {
        match self {
            Self::Settle(_) => settings.dead_letter.is_some(),
            Self::Return(..) | Self::Park(..) => true,
            Self::Outputs(_) => false,
        }
    }

    /// The message is not done with when it has left its consumer.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::Settle(reason) => match reason {
                SettleReason::Acked | SettleReason::NoAck => false,
                SettleReason::Rejected
                | SettleReason::Expired
                | SettleReason::Dropped
                | SettleReason::DeadLettered
                | SettleReason::DeliveryLimit
                | SettleReason::Purged => true,
            },
            Self::Return(..) | Self::Park(..) => true,
            Self::Outputs(_) => false,
        }
    }
}

/// One item that a client asked for.
pub(super) fn item(
    queue: &mut Queue,
    shared: &mut Shared,
    item: Item,
    held: Held,
    wish: Wish,
    proposals: &mut Proposals,
    out: &mut Actions,
) {
    let Some(flight) = queue.in_flight.get(held.position).copied() else {
        return not_in_flight(queue, shared, item, held, wish, proposals);
    };
    if queue.leaving.iter().any(|it| it.contains(held.position)) {
        // Decided under an older leader: it is answered when the message has left.
        return wait_too(queue, item, held.position, wish);
    }
    if held.attempt < flight.attempt {
        return shared.requests.refuse(item, SettleResult::NotOwner);
    }
    if held.attempt > flight.attempt && !claim::take_over(queue, shared, held, Holder::NOBODY, out)
    {
        return shared.requests.refuse(item, SettleResult::NotOwner);
    }
    match flight.state {
        State::Held => begin(
            queue,
            shared,
            held.position,
            wish,
            Some(item.request),
            proposals,
        ),
        State::Unverified => match queue.claims.get_mut(&held.position) {
            Some(claim) if claim.wish.is_none() => claim.wish = Some((Some(item), wish)),
            Some(_) | None => wait_too(queue, item, held.position, wish),
        },
        State::Settling => wait_too(queue, item, held.position, wish),
        State::Returning => match wish {
            Wish::Settle(_) | Wish::Park(..) | Wish::Outputs(_) => {
                shared.requests.refuse(item, SettleResult::Expired);
            }
            Wish::Return(..) => wait_too(queue, item, held.position, wish),
        },
    }
}

/// The same delivery is being settled or returned already: both are answered when that is committed.
fn wait_too(queue: &mut Queue, item: Item, position: Position, wish: Wish) {
    let waiting = queue.also.entry(position).or_default();
    waiting.push((item, wish.asked()));
}

fn not_in_flight(
    queue: &mut Queue,
    shared: &mut Shared,
    item: Item,
    held: Held,
    wish: Wish,
    proposals: &mut Proposals,
) {
    let position = held.position;
    if queue.is_back(position) {
        return shared.requests.refuse(item, SettleResult::Expired);
    }
    if position >= queue.next {
        return shared.requests.refuse(item, SettleResult::NotOwner);
    }
    let fresh = Flight::claimed(held.attempt, Holder::NOBODY);
    match claim::look(queue, position, 0) {
        claim::Found::Settled => shared.requests.refuse(item, SettleResult::AlreadySettled),
        claim::Found::Ready { priority, stored } => {
            let level = queue.level_mut(priority);
            let seen = level.may_have_been_seen(position, &stored);
            if held.attempt.term >= shared.term || !seen {
                return shared.requests.refuse(item, SettleResult::NotOwner);
            }
            queue.claimed_end = queue.claimed_end.max(position.plus(1));
            queue
                .in_flight
                .insert(position, fresh.verified(priority, &stored));
            begin(queue, shared, position, wish, Some(item.request), proposals);
        }
        claim::Found::Unknown if held.attempt.term >= shared.term => {
            shared.requests.refuse(item, SettleResult::NotOwner);
        }
        claim::Found::Unknown => {
            queue.claimed_end = queue.claimed_end.max(position.plus(1));
            queue.in_flight.insert(position, fresh);
            queue.claims.insert(position, Claim::by_item(item, wish));
        }
    }
}

/// Proposes the fact for a held message; its credit comes back at once, unless too much of this consumer is uncommitted.
pub(super) fn begin(
    queue: &mut Queue,
    shared: &mut Shared,
    position: Position,
    wish: Wish,
    request: Option<RequestId>,
    proposals: &mut Proposals,
) {
    let Some(flight) = queue.in_flight.get_mut(position) else {
        return;
    };
    debug_assert_eq!(flight.state, State::Held);
    flight.request = request;
    let wish = or_too_many(&queue.settings, flight, wish);
    let (holder, body_bytes) = (flight.holder, flight.body_bytes);
    let asked_by = request.and_then(|it| shared.requests.node(it));
    let mut refill = false;
    if let Some(consumer) = shared.consumers.get_mut(holder) {
        consumer.uncommitted += 1;
        // By another door: the holder still counts it as held until it is told to forget it.
        let own = asked_by == Some(consumer.key.node);
        // With outputs it may come to nothing: then it is held still.
        let is_sure = !matches!(wish, Wish::Outputs(_));
        let counts = !flight.unclaimed;
        refill =
            counts && own && is_sure && consumer.uncommitted <= consumer.options.uncommitted_max;
        // What nobody asked for was not held any more: its session counts no credit for it.
        flight.refill_due = counts && !refill && request.is_some();
    }
    if wish.keeps(&queue.settings)
        && let Some(said) = request.and_then(|it| shared.requests.said(it))
    {
        proposals.remark(said, position);
    }
    match wish {
        Wish::Settle(reason) => {
            flight.state = State::Settling;
            flight.leaving = wish.is_failure();
            queue.settling += 1;
            proposals.settle(reason, position);
        }
        Wish::Outputs(outputs) => {
            flight.state = State::Settling;
            queue.settling += 1;
            let attempt = flight.attempt;
            proposals.with_outputs(outputs, Held { position, attempt });
        }
        Wish::Return(kind, wait) => {
            flight.state = State::Returning;
            let delivery_count = flight.delivery_count + failures(kind);
            let not_before =
                retry::not_before(queue.settings.retry, wait, kind, delivery_count, shared.now);
            proposals.give_back(kind, not_before, position);
        }
        Wish::Park(cause, kind) => {
            flight.state = State::Settling;
            queue.settling += 1;
            proposals.park(cause, kind, position);
        }
    }
    if wish.is_failure() {
        queue.in_flight.fail(position);
    }
    if refill {
        shared.refill(queue, holder, body_bytes);
    }
}

/// A return that would exceed the delivery limit is none (features B48): the message leaves for that reason.
fn or_too_many(settings: &QueueSettings, flight: &Flight, wish: Wish) -> Wish {
    let Wish::Return(kind, _) = wish else {
        return wish;
    };
    let delivery_count = flight.delivery_count + failures(kind);
    if settings
        .delivery_limit
        .is_none_or(|it| delivery_count <= it)
    {
        return wish;
    }
    match leaving::fate(settings, Leaving::DeliveryLimit) {
        Fate::Settle(reason) => Wish::Settle(reason),
        Fate::Park(cause) => Wish::Park(cause, kind),
    }
}

pub(super) fn failures(kind: ReturnKind) -> u32 {
    match kind {
        ReturnKind::Failed => 1,
        ReturnKind::Untouched => 0,
    }
}

/// Returns everything that a consumer holds, or that `is_meant` of it.
pub(super) fn return_held(
    queue: &mut Queue,
    shared: &mut Shared,
    holder: Holder,
    kind: ReturnKind,
    is_meant: impl Fn(&Flight) -> bool,
    out: &mut Actions,
) {
    let meant: Vec<(Position, State)> = queue
        .in_flight
        .iter()
        .filter(|(_, it)| it.holder == holder && is_meant(it))
        .map(|(at, it)| (at, it.state))
        .collect();
    let mut proposals = Proposals::default();
    let wish = Wish::Return(kind, Wait::ByPolicy);
    for (position, state) in meant {
        match state {
            State::Held => begin(queue, shared, position, wish, None, &mut proposals),
            State::Unverified => {
                if let Some(claim) = queue.claims.get_mut(&position) {
                    claim.wish.get_or_insert((None, wish));
                }
            }
            State::Settling | State::Returning => {}
        }
    }
    proposals.propose(queue.id, out);
}

/// A message is no longer in flight otherwise than asked: whoever else waited for it is told.
pub(super) fn tell_also(
    queue: &mut Queue,
    shared: &mut Shared,
    position: Position,
    happened: Asked,
    out: &mut Actions,
) {
    if queue.also.is_empty() {
        return;
    }
    for (item, asked) in queue.also.remove(&position).unwrap_or_default() {
        let result = match (asked, happened) {
            (Asked::Settle, Asked::Settle) | (Asked::Return, Asked::Return) => SettleResult::Done,
            (Asked::Return, Asked::Settle) => SettleResult::AlreadySettled,
            (Asked::Settle, Asked::Return) => SettleResult::Expired,
        };
        shared.requests.decide(item, result, out);
    }
}

/// The holder did not ask for it: it may forget the message.
pub(super) fn tell_holder(
    queue: &Queue,
    shared: &Shared,
    position: Position,
    flight: &Flight,
    out: &mut Actions,
) {
    let Some(consumer) = shared.consumers.get(flight.holder) else {
        return;
    };
    let asked_by = flight.request.and_then(|it| shared.requests.node(it));
    let own_return = flight.request.is_none() && flight.state == State::Returning;
    if asked_by != Some(consumer.key.node) && !own_return {
        out.list.push(Action::Forget {
            consumer: consumer.key,
            queue: queue.id,
            position,
        });
    }
}
