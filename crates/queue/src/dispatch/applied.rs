//! `Applied`: the effects of committed entries. Requests are answered here. Not here: proposing (`dispose`, `mark`).

use std::collections::BTreeMap;

use warren_types::{Position, PositionRange, QueueId, ShardTime};

use super::back::Back;
use super::dispose;
use super::hot::HotBlock;
use super::in_flight::{Flight, State};
use super::io::{Action, Actions, HeldState, SettleResult};
use super::leaving::{self, Leaving};
use super::proposals::Proposals;
use super::queue::{Asked, Delayed, Queue};
use super::shared::Shared;
use super::{claim, detach, due};
use crate::outcome::{Added, Left, Tally};

pub(super) fn added(queue: &mut Queue, shared: &mut Shared, added: Added) {
    let priority = added.block.priority;
    let keep = !queue.attached.is_empty();
    queue.live.add(added.tally);
    queue.scheduled.add(added.scheduled);
    if let Some(wake) = added.wake {
        if wake <= shared.now {
            queue.newborn.get_or_insert(added.block.first);
            shared.newborns.push(queue.id);
        }
        due::watch(queue, shared, wake);
    }
    let block = HotBlock::added(added);
    let end = block.end();
    queue.level_mut(priority).add(block, keep);
    queue.next = queue.next.max(end);
}

pub(super) fn settled(
    queue: &mut Queue,
    shared: &mut Shared,
    ranges: &[PositionRange],
    left: Left,
    out: &mut Actions,
) {
    count_out(queue, left);
    for &range in ranges {
        strike(queue, range);
        for position in range.positions() {
            match queue.in_flight.remove(position) {
                Some(flight) => flight_left(queue, shared, position, &flight, out),
                None => forget(queue, position),
            }
        }
    }
}

/// As `settled`, but ranges may be long: only what is in flight or back is looked at one by one.
pub(super) fn purged(
    queue: &mut Queue,
    shared: &mut Shared,
    ranges: &[PositionRange],
    left: Left,
    out: &mut Actions,
) {
    count_out(queue, left);
    let count = left.all.messages;
    for &range in ranges {
        strike(queue, range);
        for level in &mut queue.levels {
            level.back.remove_range(range.first..range.end());
            level
                .coming
                .retain(|&position, _| !range.contains(position));
        }
        let delayed = queue.delayed.range(range.first..range.end());
        let delayed: Vec<Position> = delayed.map(|(&at, _)| at).collect();
        for position in delayed {
            queue.undelay(position);
        }
    }
    let mut hit: Vec<_> = queue
        .in_flight
        .iter()
        .map(|(at, _)| at)
        .filter(|&at| ranges.iter().any(|it| it.contains(at)))
        .collect();
    hit.sort_unstable();
    for position in hit {
        if let Some(flight) = queue.in_flight.remove(position) {
            flight_left(queue, shared, position, &flight, out);
        }
    }
    if let Some(it) = queue.purges.pop_front() {
        out.list.push(Action::Purged {
            node: it.node,
            token: it.token,
            count: count + it.ended,
        });
    }
}

/// What left is no longer counted.
fn count_out(queue: &mut Queue, left: Left) {
    queue.parked = queue.parked.saturating_sub(left.parked.messages);
    queue.scheduled.take(left.scheduled);
    let mut seen = left.all;
    seen.take(left.parked);
    queue.live.take(seen);
}

/// Deliveries are set aside: for dispatch as if they had left.
pub(super) fn parked(
    queue: &mut Queue,
    shared: &mut Shared,
    ranges: &[PositionRange],
    tally: Tally,
    out: &mut Actions,
) {
    let left = Left {
        all: tally,
        ..Left::default()
    };
    settled(queue, shared, ranges, left, out);
    queue.parked += tally.messages;
}

fn strike(queue: &mut Queue, range: PositionRange) {
    for level in &mut queue.levels {
        level.strike(range);
    }
}

/// Neither ready again nor waiting for its time.
pub(super) fn forget(queue: &mut Queue, position: Position) {
    if queue.undelay(position).is_none() {
        for level in &mut queue.levels {
            level.back.remove(position);
            level.coming.remove(&position);
        }
    }
}

/// A message in flight has left the queue: as its holder asked, or by another door.
fn flight_left(
    queue: &mut Queue,
    shared: &mut Shared,
    position: Position,
    flight: &Flight,
    out: &mut Actions,
) {
    // Whoever asks whether it still holds the message is answered below, and counts its credit itself.
    let claim = queue.claims.remove(&position);
    let is_asked = claim.as_ref().is_some_and(|it| it.attach.is_some());
    if !is_asked {
        dispose::tell_holder(queue, shared, position, flight, out);
    }
    match flight.state {
        State::Settling => {
            queue.settling = queue.settling.saturating_sub(1);
            if let Some(request) = flight.request {
                shared.requests.committed(request, out);
            }
        }
        State::Returning => {
            // It was settled before the return came: the return finds nothing.
            if let Some(request) = flight.request {
                shared.requests.committed(request, out);
            }
        }
        State::Held | State::Unverified if is_asked || flight.unclaimed => {}
        State::Held | State::Unverified => {
            shared.refill(queue, flight.holder, flight.body_bytes);
        }
    }
    if let Some(claim) = claim {
        if let Some((holder, index)) = claim.attach {
            claim::answer(queue, shared, holder, index, HeldState::Settled, out);
        }
        if let Some((Some(item), _)) = claim.wish {
            shared
                .requests
                .decide(item, SettleResult::AlreadySettled, out);
        }
    }
    shared.landed(queue, flight);
    dispose::tell_also(queue, shared, position, Asked::Settle, out);
}

/// Of what ends in one with others this was not asked before.
fn failed_too_often(queue: &Queue, shared: &Shared, flight: &Flight, count: u32) -> bool {
    let limit = queue.settings.delivery_limit;
    let request = flight.request;
    limit.is_some_and(|limit| count > limit)
        && request.is_some_and(|it| shared.requests.is_together(it))
}

pub(super) fn returned(
    queue: &mut Queue,
    shared: &mut Shared,
    ranges: &[PositionRange],
    counts: &[(u32, u32)],
    not_before: Option<ShardTime>,
    out: &mut Actions,
) {
    let mut expired = Proposals::default();
    let positions = ranges.iter().flat_map(|it| it.positions());
    for (position, &(delivery_count, acquired_count)) in positions.zip(counts) {
        let Some(flight) = queue.in_flight.remove(position) else {
            continue; // Only what is in flight is ever returned, and only by this dispatcher.
        };
        if flight.state == State::Settling {
            // It was to leave for another queue, which refused it.
            queue.settling = queue.settling.saturating_sub(1);
        }
        dispose::tell_holder(queue, shared, position, &flight, out);
        let too_often = failed_too_often(queue, shared, &flight, delivery_count);
        if let Some(request) = flight.request {
            shared.requests.committed(request, out);
        }
        let back = Back {
            body_bytes: flight.body_bytes,
            delivery_count,
            acquired_count,
            attempt: flight.attempt,
            redelivered: true,
            passed: false,
            expiry: flight.expiry,
            group: flight.group,
        };
        // The cursor must not hand out once more what stands among those that came back.
        queue.claimed_end = queue.claimed_end.max(position.plus(1));
        // It expired in flight (features B43), or failed too often (B48), and is not ready again.
        let leaves = match (flight.expiry <= shared.now, too_often) {
            (true, _) => Some(Leaving::Expired),
            (false, true) => Some(Leaving::DeliveryLimit),
            (false, false) => None,
        };
        if let Some(why) = leaves {
            leaving::leave_from_flight(queue, position, &flight, why, &mut expired);
            shared.landed(queue, &flight);
            dispose::tell_also(queue, shared, position, Asked::Return, out);
            continue;
        }
        match not_before.filter(|&it| it > shared.now) {
            Some(until) => {
                shared.due.insert((until, queue.id, position));
                let delayed = Delayed {
                    until,
                    priority: flight.priority,
                    back,
                };
                queue.delay(position, delayed);
            }
            None => {
                queue.level_mut(flight.priority).back.insert(position, back);
            }
        }
        shared.landed(queue, &flight);
        dispose::tell_also(queue, shared, position, Asked::Return, out);
    }
    expired.propose(queue.id, out);
}

/// The queue is deleted: consumers are told, requests that wait are answered.
pub(super) fn deleted(
    queues: &mut BTreeMap<QueueId, Queue>,
    shared: &mut Shared,
    id: QueueId,
    out: &mut Actions,
) {
    let Some(mut queue) = queues.remove(&id) else {
        return;
    };
    for (&position, delayed) in &queue.delayed {
        shared.due.remove(&(delayed.until, id, position));
    }
    let attached: Vec<_> = queue.attached.iter().copied().collect();
    for holder in attached {
        if let Some(consumer) = shared.consumers.get(holder) {
            out.list.push(Action::Cancelled {
                consumer: consumer.key,
            });
        }
        detach::leave(&mut queue, shared, holder);
        detach::stand(shared, holder, super::consumer::Standing::Gone);
    }
    let items = std::mem::take(&mut queue.also).into_values().flatten();
    let wishes = std::mem::take(&mut queue.claims).into_values();
    let waiting = items
        .map(|(item, _)| item.request)
        .chain(wishes.filter_map(|it| Some(it.wish?.0?.request)));
    for request in waiting {
        shared.requests.queue_gone(request, out);
    }
    let mut flights: Vec<_> = queue.in_flight.iter().map(|(at, it)| (at, *it)).collect();
    flights.sort_unstable_by_key(|(at, _)| *at);
    for (_, flight) in flights {
        if let Some(request) = flight.request {
            shared.requests.queue_gone(request, out);
        }
        shared.landed(&mut queue, &flight);
    }
    for it in std::mem::take(&mut queue.purges) {
        let (node, token, count) = (it.node, it.token, 0);
        out.list.push(Action::Purged { node, token, count });
    }
    if let Some(first) = queue.watch.first {
        shared.timers.remove(&(first, id));
    }
    queue.levels.clear();
    shared.count_hot(&mut queue);
    shared.count_passed(&mut queue);
}
