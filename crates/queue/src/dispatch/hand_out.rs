//! The one place that hands messages out: to consumers with credit in turn, highest priority first, only below the mark.
//! Not here: who is in line (`ring`), what is ready (`level`).

use warren_types::{Position, ShardTime};

use super::consumer::{Holder, Standing};
use super::hot::Stored;
use super::in_flight::Flight;
use super::io::{Action, Actions, HandedOut};
use super::leaving::{self, Leaving};
use super::level::{Level, Next};
use super::proposals::Proposals;
use super::queue::Queue;
use super::shared::Shared;
use super::{claim, groups, limits, mark, single_active};

/// Whether a raise of the mark may be proposed now. After a block was added it may not: the raise that rode on it is heard next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MayRaise {
    Now,
    Later,
}

/// Why nothing more was handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    NobodyInLine,
    NothingReady,
    /// The level must read a block first.
    Cold {
        level: usize,
        from: Position,
    },
    AboveMark {
        level: usize,
    },
    Released {
        level: usize,
    },
}

/// What one step hands out of a queue.
#[derive(Debug, Default)]
pub(super) struct Round {
    served: Vec<Holder>,
    expired: Proposals,
    last_level: Option<usize>,
}

/// Hands out what can be handed out of one queue. True: a raise was due and put off.
pub(super) fn fill(
    queue: &mut Queue,
    shared: &mut Shared,
    may_raise: MayRaise,
    out: &mut Actions,
) -> bool {
    if !queue.claims.is_empty() {
        claim::ask(queue, out);
    }
    let may_hand_out = shared.started && shared.lease && queue.purges.is_empty();
    if may_hand_out && queue.single.is_some() {
        single_active::choose(queue, shared, out);
    }
    let put_off = may_hand_out && hand_out(queue, shared, may_raise, out);
    if may_hand_out {
        tell_waiting(queue, shared, out);
        limits::trim(queue, out);
    }
    trim(queue, shared);
    put_off
}

fn hand_out(
    queue: &mut Queue,
    shared: &mut Shared,
    may_raise: MayRaise,
    out: &mut Actions,
) -> bool {
    let mut round = Round::default();
    let stop = if queue.groups.is_some() {
        groups::hand_out(queue, shared, &mut round)
    } else {
        serve(queue, shared, &mut round)
    };
    round.expired.propose(queue.id, out);
    for holder in round.served {
        if let Some(consumer) = shared.consumers.get_mut(holder) {
            out.list.push(Action::Deliver {
                consumer: consumer.key,
                queue: queue.id,
                fencing: queue.single.as_ref().map_or(0, |_| queue.fencing),
                deliveries: std::mem::take(&mut consumer.outbox),
            });
        }
    }
    let stopped_at = match stop {
        Stop::Cold { level, .. } | Stop::AboveMark { level } | Stop::Released { level } => {
            Some(level)
        }
        Stop::NobodyInLine | Stop::NothingReady => round.last_level,
    };
    stopped_at.is_some_and(|at| prepare(queue, shared, at, stop, may_raise, out))
}

/// Hands out in order of priority and position.
fn serve(queue: &mut Queue, shared: &mut Shared, round: &mut Round) -> Stop {
    loop {
        let Some(holder) = next_in_line(queue, shared) else {
            return Stop::NobodyInLine;
        };
        match take_living(queue, shared.now, &mut round.expired) {
            Ok((level, position, stored, redelivered)) => {
                round.last_level = Some(level);
                let first = give(queue, shared, holder, level, position, stored, redelivered);
                if first {
                    round.served.push(holder);
                }
                rejoin(queue, shared, holder);
            }
            Err(stop) => {
                turn_back(queue, shared, holder);
                return stop;
            }
        }
    }
}

/// Nothing could be given: it keeps its turn.
pub(super) fn turn_back(queue: &mut Queue, shared: &Shared, holder: Holder) {
    let consumer = shared.consumers.get(holder);
    let priority = consumer.map_or(0, |it| it.options.priority);
    queue.ring.rejoin_first(holder, priority);
}

/// Gives a message that is ready, and not under the cursor, to the consumer whose turn it is; or it has expired, and leaves.
pub(super) fn give_next(
    queue: &mut Queue,
    shared: &mut Shared,
    holder: Holder,
    level: usize,
    position: Position,
    round: &mut Round,
) {
    let Some(of) = queue.levels.get_mut(level) else {
        return turn_back(queue, shared, holder);
    };
    let priority = of.priority;
    let (stored, redelivered) = of.take_back(position).expect("its block is at hand");
    round.last_level = Some(level);
    let newborn = queue.newborn.is_some_and(|first| position >= first);
    if stored.expiry <= shared.now && !newborn {
        let expired = &mut round.expired;
        leaving::leave(
            queue,
            position,
            priority,
            &stored,
            Leaving::Expired,
            expired,
        );
        return turn_back(queue, shared, holder);
    }
    if give(queue, shared, holder, level, position, stored, redelivered) {
        round.served.push(holder);
    }
    rejoin(queue, shared, holder);
}

/// Sees to it that the level can go on: reads ahead, raises the mark. True: a raise was put off.
fn prepare(
    queue: &mut Queue,
    shared: &Shared,
    at: usize,
    stop: Stop,
    may_raise: MayRaise,
    out: &mut Actions,
) -> bool {
    let (id, chunk) = (queue.id, shared.options.chunk);
    let Some(level) = queue.levels.get_mut(at) else {
        return false;
    };
    if level.load.is_none() {
        let ahead = level.runs_cold_within(shared.options.read_ahead_bytes);
        let from = match stop {
            Stop::Cold { from, .. } => Some(from),
            Stop::NobodyInLine
            | Stop::NothingReady
            | Stop::AboveMark { .. }
            | Stop::Released { .. } => ahead.then_some(level.hot_to),
        };
        if let Some(from) = from {
            level.ask(from);
            out.list.push(Action::Load {
                queue: id,
                priority: level.priority,
                from,
            });
        }
    }
    if matches!(stop, Stop::Released { .. }) {
        mark::take_released(id, level, chunk, out);
    }
    match may_raise {
        MayRaise::Now => {
            mark::raise(id, level, chunk, out);
            false
        }
        MayRaise::Later => true,
    }
}

/// The consumer whose turn it is. Those that may get nothing any more leave the line.
pub(super) fn next_in_line(queue: &mut Queue, shared: &mut Shared) -> Option<Holder> {
    loop {
        let holder = queue.ring.next()?;
        if admit(queue, shared, holder) {
            return Some(holder);
        }
    }
}

/// Whether a consumer that was taken out of the line may get something. If not, it is out of it.
pub(super) fn admit(queue: &mut Queue, shared: &mut Shared, holder: Holder) -> bool {
    let limit = shared.options.node_in_flight_max;
    let Some(consumer) = shared.consumers.get_mut(holder) else {
        return false;
    };
    let may_receive = consumer.standing == Standing::Active && consumer.has_credit();
    if !may_receive {
        consumer.ringed = false;
        shared.note_dry(queue, holder);
        return false;
    }
    match shared.consumers.node_of(holder) {
        Some(node) if node.in_flight >= limit => {
            node.full.push(holder);
            if let Some(consumer) = shared.consumers.get_mut(holder) {
                consumer.ringed = false;
            }
            false
        }
        Some(_) | None => true,
    }
}

/// The next message that has not expired; those that have leave (features B43).
fn take_living(
    queue: &mut Queue,
    now: ShardTime,
    expired: &mut Proposals,
) -> Result<(usize, Position, Stored, bool), Stop> {
    loop {
        let next = take_next(queue)?;
        let (at, position, stored, _) = &next;
        let newborn = queue.newborn.is_some_and(|first| *position >= first);
        if stored.expiry > now || newborn {
            return Ok(next);
        }
        let priority = queue.levels.get(*at).map(|it| it.priority);
        let priority = priority.unwrap_or_default();
        leaving::leave(
            queue,
            *position,
            priority,
            stored,
            Leaving::Expired,
            expired,
        );
    }
}

/// The next message of the highest priority that has one. A priority that must wait lets no lower one pass.
fn take_next(queue: &mut Queue) -> Result<(usize, Position, Stored, bool), Stop> {
    let (in_flight, delayed, claimed_end) = (&queue.in_flight, &queue.delayed, queue.claimed_end);
    for (at, level) in queue.levels.iter_mut().enumerate() {
        let elsewhere = |level: &Level, position: Position| {
            position < claimed_end
                && (level.is_apart(position)
                    || in_flight.get(position).is_some()
                    || delayed.contains_key(&position))
        };
        match level.next(elsewhere) {
            Next::Nothing => {}
            Next::Cold(from) => return Err(Stop::Cold { level: at, from }),
            Next::Back(position) => {
                let (stored, redelivered) =
                    level.take_back(position).expect("its block is at hand");
                return Ok((at, position, stored, redelivered));
            }
            Next::Fresh(position) => {
                let scheduled = level.fresh_is_scheduled();
                if position >= level.mark && !scheduled {
                    return Err(Stop::AboveMark { level: at });
                }
                if level.released.iter().any(|it| it.contains(position)) {
                    return Err(Stop::Released { level: at });
                }
                let redelivered = level.is_suspect(position, scheduled);
                let stored = level.take_fresh().expect("the front block has it");
                return Ok((at, position, stored, redelivered));
            }
        }
    }
    Err(Stop::NothingReady)
}

/// True: it is the consumer's first of this step.
fn give(
    queue: &mut Queue,
    shared: &mut Shared,
    holder: Holder,
    level: usize,
    position: Position,
    stored: Stored,
    redelivered: bool,
) -> bool {
    let attempt = shared.next_attempt();
    let priority = queue
        .levels
        .get(level)
        .map(|it| it.priority)
        .unwrap_or_default();
    queue.in_flight.insert(
        position,
        Flight::claimed(attempt, holder).verified(priority, &stored),
    );
    shared.hold(holder);
    let Some(consumer) = shared.consumers.get_mut(holder) else {
        return false;
    };
    consumer.spend(stored.body_bytes);
    queue.handed_out.0 += 1;
    queue.handed_out.1 += u64::from(redelivered);
    consumer.outbox.push(HandedOut {
        position,
        attempt,
        redelivered,
        delivery_count: stored.delivery_count,
        acquired_count: stored.acquired_count,
        message: stored.message,
    });
    consumer.outbox.len() == 1
}

/// Back to the end of the line, if it may get more.
fn rejoin(queue: &mut Queue, shared: &mut Shared, holder: Holder) {
    let Some(consumer) = shared.consumers.get_mut(holder) else {
        return;
    };
    consumer.ringed = false;
    shared.wake(queue, holder);
}

/// Tells consumers without credit, once, that messages wait.
fn tell_waiting(queue: &mut Queue, shared: &mut Shared, out: &mut Actions) {
    if queue.dry.is_empty() || queue.ready() == 0 {
        return;
    }
    for holder in std::mem::take(&mut queue.dry) {
        let Some(consumer) = shared.consumers.get_mut(holder) else {
            continue;
        };
        consumer.dry = false;
        if consumer.standing == Standing::Active && !consumer.has_credit() {
            consumer.told_waiting = true;
            out.list.push(Action::Waiting {
                consumer: consumer.key,
            });
        }
    }
}

/// Keeps hot memory within its bounds. The block under the cursor stays while somebody waits for it.
fn trim(queue: &mut Queue, shared: &mut Shared) {
    shared.count_hot(queue);
    if queue.groups.is_some() || queue.passed > 0 {
        shared.count_passed(queue);
    }
    let wanted = !queue.ring.is_empty() || queue.is_over_limit();
    for at in (0..queue.levels.len()).rev() {
        while queue.hot_bytes > shared.options.queue_hot_bytes
            || shared.hot_bytes > shared.options.shard_hot_bytes
        {
            let trimmed = queue.levels.get_mut(at).is_some_and(|it| it.trim(wanted));
            if !trimmed {
                break;
            }
            shared.count_hot(queue);
        }
    }
}
