//! Hands out where keys are kept in order: passes over what may not go now, and finds it again when it may.
//! Not here: which messages may go to whom (`groups`), the mark and reads (`hand_out`).

use warren_types::Position;

use super::super::consumer::Holder;
use super::super::hand_out::{Round, Stop, admit, give_next, next_in_line, turn_back};
use super::super::level::{Level, Next};
use super::super::queue::Queue;
use super::super::shared::Shared;
use super::{Head, catch_up};

/// However little room the shard has, a queue may pass over so many.
const PASSED_LEAST: usize = 256;
/// Where there are several priorities, nothing goes before so many messages are known: the best may be among them.
const KNOWN_LEAST: usize = 1_024;
/// How many windows the queues of a shard may fill together.
const WINDOWS: usize = 8;

/// Who gets what next.
enum Choice {
    Give(Holder, Head),
    /// Nobody has credit.
    NobodyInLine,
    /// Nothing that is known may go to anybody in line.
    Nothing,
}

/// Hands out what may go, one by one. Every message is passed over at most once and each step concerns one key, so the work per delivery
/// does not grow with what waits.
pub(in super::super) fn hand_out(
    queue: &mut Queue,
    shared: &mut Shared,
    round: &mut Round,
) -> Stop {
    if !queue.claims.is_empty() {
        // Which keys are held is not known before their blocks are read.
        return Stop::NobodyInLine;
    }
    let mut ahead = None;
    let stop = loop {
        catch_up(queue);
        if ahead.is_none() && queue.levels.len() > 1 && !queue.ring.is_empty() {
            let stop = look_ahead(queue, shared);
            let goes_on = match stop {
                Stop::Cold { .. } | Stop::AboveMark { .. } | Stop::Released { .. } => true,
                Stop::NobodyInLine | Stop::NothingReady => false,
            };
            if goes_on && passed(queue) < KNOWN_LEAST.min(shared.options.group_window) {
                break stop;
            }
            ahead = Some(stop);
            continue;
        }
        match choose(queue, shared) {
            Choice::NobodyInLine => break Stop::NobodyInLine,
            Choice::Give(holder, head) => {
                if let Some(stop) = give(queue, shared, holder, head, round) {
                    break stop;
                }
            }
            Choice::Nothing => {
                if let Some(stop) = pass_one(queue, shared)
                    && !catch_up(queue)
                {
                    break stop;
                }
            }
        }
    };
    match stop {
        Stop::NobodyInLine | Stop::NothingReady => ahead.unwrap_or(stop),
        Stop::Cold { .. } | Stop::AboveMark { .. } | Stop::Released { .. } => stop,
    }
}

/// Where there are several priorities a key competes with its head's, and what is not looked at does not compete.
fn look_ahead(queue: &mut Queue, shared: &mut Shared) -> Stop {
    loop {
        if let Some(stop) = pass_one(queue, shared) {
            return stop;
        }
    }
}

fn choose(queue: &mut Queue, shared: &mut Shared) -> Choice {
    let any_free = queue.groups.as_ref().is_some_and(|it| !it.free.is_empty());
    if !any_free {
        return match choose_holder(queue, shared) {
            Some((holder, head)) => Choice::Give(holder, head),
            None if queue.ring.is_empty() => Choice::NobodyInLine,
            None => Choice::Nothing,
        };
    }
    let Some(holder) = next_in_line(queue, shared) else {
        return Choice::NobodyInLine;
    };
    match queue.groups.as_ref().and_then(|it| it.best_for(holder)) {
        Some(head) => Choice::Give(holder, head),
        None => {
            turn_back(queue, shared, holder);
            Choice::Nothing
        }
    }
}

/// Somebody in line who holds a key of which there is more.
fn choose_holder(queue: &mut Queue, shared: &mut Shared) -> Option<(Holder, Head)> {
    loop {
        let groups = queue.groups.as_mut()?;
        let &holder = groups.woken.first()?;
        let head = groups.best_for(holder);
        let in_line = shared.consumers.get(holder).is_some_and(|it| it.ringed);
        if let Some(head) = head
            && in_line
        {
            queue.ring.leave(holder);
            if admit(queue, shared, holder) {
                return Some((holder, head));
            }
        }
        if let Some(groups) = &mut queue.groups {
            groups.woken.remove(&holder);
        }
    }
}

/// `Some`: a block must be read first.
fn give(
    queue: &mut Queue,
    shared: &mut Shared,
    holder: Holder,
    head: Head,
    round: &mut Round,
) -> Option<Stop> {
    let priority = head.priority.0;
    let level = queue.levels.iter().position(|it| it.priority == priority);
    let at = level.expect("its priority has a level");
    let found = queue.level_mut(priority).find_back(head.position);
    match found {
        Next::Back(position) => give_next(queue, shared, holder, at, position, round),
        Next::Cold(from) => {
            turn_back(queue, shared, holder);
            return Some(Stop::Cold { level: at, from });
        }
        Next::Nothing | Next::Fresh(_) => turn_back(queue, shared, holder),
    }
    None
}

fn passed(queue: &Queue) -> usize {
    queue.levels.iter().map(|it| it.back.passed()).sum()
}

/// The cursors go on by the oldest message that none of them has met. `Some`: they cannot.
fn pass_one(queue: &mut Queue, shared: &Shared) -> Option<Stop> {
    let passed = passed(queue);
    let window = shared.options.group_window;
    let others = shared.passed.saturating_sub(queue.passed);
    let full = passed >= window || others + passed >= window.saturating_mul(WINDOWS);
    if full && passed >= PASSED_LEAST.min(window) {
        return Some(Stop::NothingReady);
    }
    let (in_flight, delayed, claimed_end) = (&queue.in_flight, &queue.delayed, queue.claimed_end);
    let elsewhere = |level: &Level, position: Position| {
        position < claimed_end
            && (level.is_apart(position)
                || in_flight.get(position).is_some()
                || delayed.contains_key(&position))
    };
    let levels = queue.levels.iter_mut().enumerate();
    let next = levels.filter_map(|(at, level)| match level.fresh(elsewhere) {
        Next::Fresh(position) => Some((position, true, at)),
        Next::Cold(from) => Some((from, false, at)),
        Next::Back(_) | Next::Nothing => None,
    });
    let Some((position, is_at_hand, at)) = next.min() else {
        return Some(Stop::NothingReady);
    };
    let level = queue.levels.get_mut(at)?;
    if !is_at_hand {
        let from = position;
        return Some(Stop::Cold { level: at, from });
    }
    if position >= level.mark && !level.fresh_is_scheduled() {
        return Some(Stop::AboveMark { level: at });
    }
    if level.released.iter().any(|it| it.contains(position)) {
        return Some(Stop::Released { level: at });
    }
    level.pass_over(position);
    None
}
