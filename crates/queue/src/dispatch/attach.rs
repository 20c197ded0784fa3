//! `Attach`: a consumer begins, or comes back with what it holds. Not here: whether it still holds it (`claim`).

use super::claim;
use super::consumer::{Consumer, Holder, Standing};
use super::detach;
use super::io::{Action, Actions, Attach, AttachResult};
use super::queue::Queue;
use super::shared::Shared;

pub(super) fn step(queue: &mut Queue, shared: &mut Shared, it: Attach, out: &mut Actions) {
    let known = shared.consumers.find(it.consumer);
    if is_excluded(queue, shared, &it, known) {
        if let Some(holder) = known {
            detach::leave(queue, shared, holder);
        }
        out.list.push(Action::Attached {
            consumer: it.consumer,
            result: AttachResult::Exclusive,
        });
        return;
    }
    let holder = match known {
        Some(holder) => {
            come_back(queue, shared, holder);
            holder
        }
        None => shared.consumers.add(it.consumer, queue.id, it.options),
    };
    queue.attached.insert(holder);
    if let Some(consumer) = shared.consumers.get_mut(holder) {
        consumer.options = it.options;
        consumer.set(it.credit);
        consumer.standing = Standing::Attaching;
        consumer.claims = vec![None; it.held.len()];
        consumer.claims_open = it.held.len();
    }
    for (index, &held) in it.held.iter().enumerate() {
        let answer = claim::claim(queue, shared, holder, index, held, out);
        if let Some(consumer) = shared.consumers.get_mut(holder)
            && let Some(open) = consumer.claims.get_mut(index)
            && answer.is_some()
        {
            *open = answer;
            consumer.claims_open -= 1;
        }
    }
    claim::complete(queue, shared, holder, out);
}

/// An exclusive consumer tolerates no other, and wants to be the first (features B35); where one is served at a time, none may be.
fn is_excluded(queue: &Queue, shared: &Shared, it: &Attach, known: Option<Holder>) -> bool {
    let mut others = queue
        .attached
        .iter()
        .filter(|&&other| Some(other) != known)
        .filter_map(|&other| shared.consumers.get(other));
    if it.options.exclusive {
        queue.single.is_some() || others.next().is_some()
    } else {
        others.any(|other: &Consumer| other.options.exclusive)
    }
}

/// The same consumer attaches anew: its turn and its older claims' answers are void, what is in flight in its name is not.
fn come_back(queue: &mut Queue, shared: &mut Shared, holder: Holder) {
    queue.ring.leave(holder);
    if let Some(consumer) = shared.consumers.get_mut(holder) {
        consumer.ringed = false;
    }
    for claim in queue.claims.values_mut() {
        if claim.attach.is_some_and(|(it, _)| it == holder) {
            claim.attach = None;
        }
    }
    // What it does not claim below is free at its session already: the credit that comes with the attach says so.
    for (_, flight) in queue.in_flight.iter_mut() {
        if flight.holder == holder {
            flight.refill_due = false;
            flight.unclaimed = true;
        }
    }
}
