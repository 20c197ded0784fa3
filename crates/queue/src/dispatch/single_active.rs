//! Single active consumer (features B33, guarantee G24): of all that are attached one is served, the others wait for it to go.
//! Not here: that the queue wants it (its settings), exclusive consumers (`attach`).
//!
//! The highest priority is active, among equals the one that holds messages, then the one that attached first. Nobody is activated
//! while another's messages are in flight: a settle or return must be committed first. So a consumer of a higher priority takes over
//! when the active one has settled what it holds; until then neither gets anything, and so it is with what a late comer still holds. Each activation is one small entry with a fencing
//! number that rises; nothing is delivered before it is committed.

use super::consumer::{Holder, Standing};
use super::io::{Action, Actions};
use super::queue::Queue;
use super::shared::Shared;
use crate::entry::{Activate, Command};

#[derive(Debug, Default)]
pub(super) struct SingleActive {
    /// Who is served.
    active: Option<Holder>,
    /// Whose activation is proposed; the inner `None`: it has gone since.
    asked: Option<Option<Holder>>,
}

impl SingleActive {
    pub(super) fn serves(&self, holder: Holder) -> bool {
        self.active == Some(holder)
    }
}

/// As the settings say, the queue serves one consumer at a time from now on, or all.
pub(super) fn set(queue: &mut Queue, shared: &mut Shared) {
    let wanted = queue.settings.single_active_consumer;
    if queue.single.is_some() == wanted {
        return;
    }
    queue.single = wanted.then(SingleActive::default);
    for holder in queue.attached.clone() {
        take_out_of_line(queue, shared, holder);
        shared.wake(queue, holder);
    }
}

/// The consumer gets nothing more.
pub(super) fn left(queue: &mut Queue, holder: Holder) {
    if let Some(single) = &mut queue.single {
        single.active = single.active.filter(|&it| it != holder);
        single.asked = single.asked.map(|it| it.filter(|&asked| asked != holder));
    }
}

/// The activation is committed.
pub(super) fn activated(queue: &mut Queue, shared: &mut Shared, fencing: u64) {
    queue.fencing = queue.fencing.max(fencing);
    let asked = queue.single.as_mut().and_then(|it| it.asked.take());
    let Some(holder) = asked.flatten() else {
        return;
    };
    if let Some(single) = &mut queue.single {
        single.active = Some(holder);
    }
    shared.wake(queue, holder);
}

/// Sees to it that the right consumer is active, as far as it can be now.
pub(super) fn choose(queue: &mut Queue, shared: &mut Shared, out: &mut Actions) {
    let Some(single) = &queue.single else {
        return;
    };
    if single.asked.is_some() {
        return;
    }
    let active = single.active;
    let Some(best) = best(queue, shared) else {
        return;
    };
    if let Some(active) = active {
        if priority(shared, best) <= priority(shared, active) {
            return serve_alone(queue, shared, active);
        }
        if let Some(single) = &mut queue.single {
            single.active = None;
        }
        take_out_of_line(queue, shared, active);
    }
    if !holds_all(queue, shared, best) {
        return;
    }
    if let Some(single) = &mut queue.single {
        single.asked = Some(Some(best));
    }
    out.list.push(Action::Propose(Command::Activate(Activate {
        queue: queue.id,
        fencing: queue.fencing.saturating_add(1),
    })));
}

/// A consumer that comes back late may still hold something: then the active one waits too.
fn serve_alone(queue: &mut Queue, shared: &mut Shared, active: Holder) {
    if holds_all(queue, shared, active) {
        shared.wake(queue, active);
    } else {
        take_out_of_line(queue, shared, active);
    }
}

/// Nothing of the queue is in flight in another's name.
fn holds_all(queue: &Queue, shared: &Shared, holder: Holder) -> bool {
    let own = shared.consumers.get(holder).map_or(0, |it| it.in_flight);
    queue.in_flight.len() == own as usize
}

fn best(queue: &Queue, shared: &Shared) -> Option<Holder> {
    let ready = queue.attached.iter().filter_map(|&holder| {
        let consumer = shared.consumers.get(holder)?;
        (consumer.standing == Standing::Active).then(|| {
            let place = std::cmp::Reverse(consumer.place);
            (
                (consumer.options.priority, consumer.in_flight > 0, place),
                holder,
            )
        })
    });
    ready
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, holder)| holder)
}

fn priority(shared: &Shared, holder: Holder) -> i32 {
    let consumer = shared.consumers.get(holder);
    consumer.map_or(i32::MIN, |it| it.options.priority)
}

fn take_out_of_line(queue: &mut Queue, shared: &mut Shared, holder: Holder) {
    queue.ring.leave(holder);
    if let Some(consumer) = shared.consumers.get_mut(holder) {
        consumer.ringed = false;
    }
}
