//! What consumers say they hold after a change of leader or of the stream: checked against what is in flight, what is ready
//! and, where only the block can tell, against the block. Not here: consumers themselves (`attach`).

use warren_types::{Position, Priority};

use super::back::Back;
use super::consumer::{Holder, Standing};
use super::dispose::{self, Wish};
use super::hot::Stored;
use super::in_flight::{Flight, State};
use super::io::{Action, Actions, AttachResult, Held, HeldState, SettleResult};
use super::level::{Arrival, Known};
use super::proposals::Proposals;
use super::queue::{Asked, Queue};
use super::request::Item;
use super::shared::Shared;

/// A position that is in flight by somebody's word only, until its block is read.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// One bit per priority level that is known not to have the message.
    absent: u32,
    /// Whose attach waits, and for which of its answers.
    pub(super) attach: Option<(Holder, usize)>,
    /// What to do with it if it is there.
    pub(super) wish: Option<(Option<Item>, Wish)>,
}

impl Claim {
    /// A settle or return that came without its consumer.
    pub(super) fn by_item(item: Item, wish: Wish) -> Self {
        Self {
            wish: Some((Some(item), wish)),
            ..Self::default()
        }
    }
}

pub(super) enum Found {
    Settled,
    Ready { priority: Priority, stored: Stored },
    Unknown,
}

/// What is known of a position that is neither in flight nor back.
pub(super) fn look(queue: &Queue, position: Position, absent: u32) -> Found {
    let mut found = Found::Settled;
    for level in &queue.levels {
        if absent & bit(level.priority) != 0 {
            continue;
        }
        match level.look(position) {
            Known::Absent => {}
            Known::Ready(stored) => {
                let priority = level.priority;
                return Found::Ready { priority, stored };
            }
            Known::Unknown => found = Found::Unknown,
        }
    }
    found
}

/// One held position of an attaching consumer; `None` if a block must be read first.
pub(super) fn claim(
    queue: &mut Queue,
    shared: &mut Shared,
    holder: Holder,
    index: usize,
    held: Held,
    out: &mut Actions,
) -> Option<HeldState> {
    let position = held.position;
    if queue.in_flight.get(position).is_some() {
        if !take_over(queue, shared, held, holder, out) {
            return Some(HeldState::Lost);
        }
        if let Some(claim) = queue.claims.get_mut(&position) {
            claim.attach = Some((holder, index));
            // What nobody asked for was to return because its consumer had gone; it is here again.
            claim.wish = claim.wish.filter(|(item, _)| item.is_some());
            return None;
        }
        return Some(HeldState::StillYours);
    }
    if queue.is_back(position) {
        return Some(match queue.take_ready_again(held, holder) {
            Some((priority, back)) => {
                let flight = Flight::claimed(held.attempt, holder).taken_back(priority, &back);
                register(queue, shared, position, flight);
                HeldState::StillYours
            }
            None => HeldState::Lost,
        });
    }
    if position >= queue.next {
        return Some(HeldState::Lost);
    }
    let flight = Flight::claimed(held.attempt, holder);
    match look(queue, position, 0) {
        Found::Settled => Some(HeldState::Settled),
        Found::Ready { .. } | Found::Unknown if held.attempt.term >= shared.term => {
            Some(HeldState::Lost)
        }
        Found::Ready { priority, stored } => {
            let with_another = queue.is_with_another(stored.group, holder);
            let level = queue.level_mut(priority);
            if with_another || !level.may_have_been_seen(position, &stored) {
                return Some(HeldState::Lost);
            }
            register(queue, shared, position, flight.verified(priority, &stored));
            Some(HeldState::StillYours)
        }
        Found::Unknown => {
            register(queue, shared, position, flight);
            let claim = Claim {
                attach: Some((holder, index)),
                ..Claim::default()
            };
            queue.claims.insert(position, claim);
            None
        }
    }
}

fn register(queue: &mut Queue, shared: &mut Shared, position: Position, flight: Flight) {
    queue.claimed_end = queue.claimed_end.max(position.plus(1));
    shared.hold(flight.holder);
    queue.in_flight.insert(position, flight);
}

/// Lets `holder` have a message that is in flight already, if its attempt is the one on record or a later one of an older term,
/// and nobody present holds it under the same.
pub(super) fn take_over(
    queue: &mut Queue,
    shared: &mut Shared,
    held: Held,
    holder: Holder,
    out: &mut Actions,
) -> bool {
    let Some(flight) = queue.in_flight.get(held.position).copied() else {
        return false;
    };
    let same = flight.attempt == held.attempt;
    let newer = held.attempt > flight.attempt && held.attempt.term < shared.term;
    let present = shared
        .consumers
        .get(flight.holder)
        .is_some_and(|it| matches!(it.standing, Standing::Active | Standing::Attaching));
    let allowed = match flight.state {
        State::Held | State::Unverified => newer || (same && (flight.holder == holder || !present)),
        State::Settling => same && (flight.holder == holder || !present),
        State::Returning => false,
    };
    if !allowed {
        return false;
    }
    if flight.holder != holder {
        let loser = queue
            .claims
            .get_mut(&held.position)
            .and_then(|it| it.attach.take());
        match loser {
            Some((loser, index)) => answer(queue, shared, loser, index, HeldState::Lost, out),
            None => {
                dispose::tell_holder(queue, shared, held.position, &flight, out);
                // Whoever is told to forget a message has its credit back.
                let is_held = matches!(flight.state, State::Held | State::Unverified);
                if is_held && !flight.unclaimed {
                    shared.refill(queue, flight.holder, flight.body_bytes);
                }
            }
        }
        shared.unhold(flight.holder);
        shared.hold(holder);
    }
    queue.in_flight.pass_on(held.position, holder, held.attempt);
    if let Some(flight) = queue.in_flight.get_mut(held.position) {
        flight.unclaimed = false;
        // The consumer counts it as held, so its credit is still to come back.
        flight.refill_due = flight.state == State::Settling;
    }
    true
}

/// Reads for claims come first: an attach waits for them. One per level.
pub(super) fn ask(queue: &mut Queue, out: &mut Actions) {
    for level in &mut queue.levels {
        if level.load.is_some() {
            continue;
        }
        let unknown = queue.claims.iter().find(|(at, claim)| {
            claim.absent & bit(level.priority) == 0 && matches!(level.look(**at), Known::Unknown)
        });
        if let Some((&from, _)) = unknown {
            level.ask(from);
            out.list.push(Action::Load {
                queue: queue.id,
                priority: level.priority,
                from,
            });
        }
    }
}

/// A block arrived: decides every claim that it decides.
pub(super) fn check(
    queue: &mut Queue,
    shared: &mut Shared,
    priority: Priority,
    arrival: &Arrival,
    out: &mut Actions,
) {
    let void = arrival.from..arrival.void_to().max(arrival.from);
    for (_, claim) in queue.claims.range_mut(void.clone()) {
        claim.absent |= bit(priority);
    }
    let end = arrival.block.as_ref().map_or(void.end, |it| it.end());
    // Claims below what was asked for may lie in the block too: they came while it was read.
    let start = arrival
        .block
        .as_ref()
        .map_or(arrival.from, |it| it.first().min(arrival.from));
    let touched: Vec<Position> = queue
        .claims
        .range(start.min(end)..end)
        .map(|(&at, _)| at)
        .collect();
    let mut proposals = Proposals::default();
    for position in touched {
        let block = arrival.block.as_ref().filter(|it| it.holds(position));
        match block.map(|it| it.look(position)) {
            Some(Some(stored)) => {
                there(
                    queue,
                    shared,
                    position,
                    priority,
                    &stored,
                    &mut proposals,
                    out,
                );
            }
            Some(None) => gone(queue, shared, position, out),
            None => {
                let absent = queue.claims.get(&position).map_or(0, |it| it.absent);
                if matches!(look(queue, position, absent), Found::Settled) {
                    gone(queue, shared, position, out);
                }
            }
        }
    }
    proposals.propose(queue.id, out);
}

fn there(
    queue: &mut Queue,
    shared: &mut Shared,
    position: Position,
    priority: Priority,
    stored: &Stored,
    proposals: &mut Proposals,
    out: &mut Actions,
) {
    let Some(claim) = queue.claims.remove(&position) else {
        return;
    };
    let came_late = match (claim.attach, claim.wish) {
        (Some((holder, _)), None) => queue.is_with_another(stored.group, holder),
        (Some(_), Some(_)) | (None, _) => false, // It leaves at once.
    };
    let level = queue.level_mut(priority);
    if came_late || !level.may_have_been_seen(position, stored) {
        return not_held(queue, shared, position, priority, stored, &claim, out);
    }
    queue.in_flight.verify(position, priority, stored);
    if let Some((holder, index)) = claim.attach {
        answer(queue, shared, holder, index, HeldState::StillYours, out);
    }
    if let Some((item, wish)) = claim.wish {
        let request = item.map(|it| it.request);
        dispose::begin(queue, shared, position, wish, request, proposals);
    }
}

/// The claim was made up, or the message's key has come to another. The cursor may have passed over the message, so it comes back.
fn not_held(
    queue: &mut Queue,
    shared: &mut Shared,
    position: Position,
    priority: Priority,
    stored: &Stored,
    claim: &Claim,
    out: &mut Actions,
) {
    if let Some(flight) = queue.in_flight.remove(position) {
        shared.unhold(flight.holder);
        let level = queue.level_mut(priority);
        if position < level.cursor {
            level.back.insert(position, Back::never_seen(stored));
        }
    }
    if let Some((holder, index)) = claim.attach {
        answer(queue, shared, holder, index, HeldState::Lost, out);
    }
    if let Some((Some(item), _)) = claim.wish {
        shared.requests.decide(item, SettleResult::NotOwner, out);
    }
    dispose::tell_also(queue, shared, position, Asked::Return, out);
}

fn gone(queue: &mut Queue, shared: &mut Shared, position: Position, out: &mut Actions) {
    let Some(claim) = queue.claims.remove(&position) else {
        return;
    };
    if let Some(flight) = queue.in_flight.remove(position) {
        shared.unhold(flight.holder);
    }
    if let Some((holder, index)) = claim.attach {
        answer(queue, shared, holder, index, HeldState::Settled, out);
    }
    let waiting = claim.wish.and_then(|(item, _)| item);
    let also = queue.also.remove(&position).unwrap_or_default();
    for item in waiting.into_iter().chain(also.into_iter().map(|it| it.0)) {
        shared
            .requests
            .decide(item, SettleResult::AlreadySettled, out);
    }
}

/// Settles one answer of an attach; the last one completes it.
pub(super) fn answer(
    queue: &mut Queue,
    shared: &mut Shared,
    holder: Holder,
    index: usize,
    state: HeldState,
    out: &mut Actions,
) {
    let Some(consumer) = shared.consumers.get_mut(holder) else {
        return;
    };
    if let Some(open @ None) = consumer.claims.get_mut(index) {
        *open = Some(state);
        consumer.claims_open -= 1;
    }
    complete(queue, shared, holder, out);
}

/// Answers the attach when everything it claimed is decided.
pub(super) fn complete(queue: &mut Queue, shared: &mut Shared, holder: Holder, out: &mut Actions) {
    let Some(consumer) = shared.consumers.get_mut(holder) else {
        return;
    };
    if consumer.claims_open > 0 || consumer.standing != Standing::Attaching {
        return;
    }
    consumer.standing = Standing::Active;
    let held = std::mem::take(&mut consumer.claims);
    out.list.push(Action::Attached {
        consumer: consumer.key,
        result: AttachResult::Ok {
            held: held.into_iter().flatten().collect(),
        },
    });
    shared.wake(queue, holder);
}

fn bit(priority: Priority) -> u32 {
    1 << priority.level()
}
