//! Timers: what comes due or expires anywhere in a queue (features B43, X5). Not here: who finds it in the store (`store::timers`), messages
//! that are found expired when their turn comes (`hand_out`).

use warren_types::{Position, PositionRange, Priority, QueueId, ShardTime};

use super::applied;
use super::back::Back;
use super::io::{Action, Actions, Due};
use super::leaving::{self, Leaving};
use super::proposals::Proposals;
use super::queue::Queue;
use super::shared::Shared;
use crate::entry::{Command, Rearm, Release};
use crate::outcome::Released;

/// Due messages that consumers have not taken yet, beyond which no more are released while there are consumers.
const WAITING_MAX: usize = 4_096;
/// When the next look is taken at a queue whose consumers have enough.
const AGAIN_MS: u64 = 50;

/// Nothing of the queue is due before `at`, as far as was known before.
pub(super) fn watch(queue: &mut Queue, shared: &mut Shared, at: ShardTime) {
    if queue.watch.first.is_some_and(|first| first <= at) {
        return;
    }
    if let Some(first) = queue.watch.first.replace(at) {
        shared.timers.remove(&(first, queue.id));
    }
    if !queue.watch.busy {
        shared.timers.insert((at, queue.id));
    }
}

/// A timer rang.
pub(super) fn look(queue: &mut Queue, shared: &Shared, out: &mut Actions) {
    queue.watch.first = None;
    queue.watch.busy = true;
    out.list.push(Action::LookDue {
        queue: queue.id,
        up_to: shared.now,
    });
}

/// What the store found: facts are proposed; the next look is taken when they are committed.
pub(super) fn found(queue: &mut Queue, shared: &mut Shared, due: Due, out: &mut Actions) {
    if due.blocks.is_empty() {
        return ready_to_look(queue, shared, due.next);
    }
    // What is found expired is not to be handed out any more, be it newborn.
    queue.newborn = None;
    let wanted = !queue.attached.is_empty() || queue.levels.iter().any(|it| it.load.is_some());
    let levels = queue.levels.iter();
    let waiting: usize = levels.map(|it| it.back.len() - it.back.passed()).sum();
    let room = if wanted {
        WAITING_MAX.saturating_sub(waiting)
    } else {
        usize::MAX
    };
    let mut release: Vec<(ShardTime, Position)> = Vec::new();
    let (mut expired, mut idle) = (Vec::new(), Vec::new());
    for block in due.blocks {
        let priority = block.priority;
        let gone = block.expired.into_iter();
        let gone = gone.filter(|&(at, _)| queue.in_flight.get(at).is_none());
        let gone: Vec<_> = gone.map(|(at, bytes)| (at, priority, bytes)).collect();
        if gone.is_empty() && block.release.is_empty() {
            idle.push((priority, block.first));
        }
        release.extend(block.release);
        expired.extend(gone);
    }
    release.sort_unstable();
    release.truncate(room);
    let mut proposals = Proposals::default();
    let left = expire(queue, expired, &mut proposals);
    let moved = !release.is_empty() || left || !idle.is_empty();
    proposals.propose(queue.id, out);
    let mut release: Vec<Position> = release.into_iter().map(|(_, at)| at).collect();
    release.sort_unstable();
    if !release.is_empty() {
        out.list.push(Action::Propose(Command::Release(Release {
            queue: queue.id,
            ranges: PositionRange::collect(release),
            hand_out: wanted,
        })));
    }
    if !moved {
        let again = ShardTime(shared.now.0.saturating_add(AGAIN_MS));
        return ready_to_look(queue, shared, Some(again));
    }
    // Also when no block is idle: its effect says that all of it is committed.
    out.list.push(Action::Propose(Command::Rearm(Rearm {
        queue: queue.id,
        blocks: idle,
    })));
}

/// Expired messages leave. A dead letter takes longer to: it is nobody's until then, so its timer finds nothing to do.
/// False: none may begin to leave now.
fn expire(
    queue: &mut Queue,
    expired: Vec<(Position, Priority, u32)>,
    proposals: &mut Proposals,
) -> bool {
    let fate = leaving::fate(&queue.settings, Leaving::Expired);
    let room = usize::try_from(leaving::room(queue)).unwrap_or(usize::MAX);
    let moves = queue.settings.dead_letter.is_some();
    let mut left = false;
    for (position, priority, body_bytes) in expired.into_iter().take(room) {
        if moves {
            applied::forget(queue, position);
            queue.take_settling(position, priority, body_bytes, 0);
        }
        proposals.leave(fate, position);
        left = true;
    }
    left
}

/// All that was found is committed: what else is due is looked for at once.
pub(super) fn rearmed(queue: &mut Queue, shared: &mut Shared) {
    let now = shared.now;
    ready_to_look(queue, shared, Some(now));
}

fn ready_to_look(queue: &mut Queue, shared: &mut Shared, next: Option<ShardTime>) {
    queue.watch.busy = false;
    let known = queue.watch.first.take();
    if let Some(at) = [next, known].into_iter().flatten().min() {
        watch(queue, shared, at);
    }
}

/// Messages came due, by a committed fact.
pub(super) fn released(queue: &mut Queue, it: &Released, out: &mut Actions) {
    queue.scheduled.take(it.tally);
    let (id, attached) = (queue.id, !queue.attached.is_empty());
    let level = queue.level_mut(it.priority);
    let mut coming = Vec::new();
    let mut end = Position(0);
    let positions = it.ranges.iter().flat_map(|range| range.positions());
    for (index, position) in positions.enumerate() {
        let group = it.groups.get(index).copied().unwrap_or(0);
        end = position.plus(1);
        if it.hand_out {
            level.back.insert(position, Back::due(group));
        } else if attached || level.load.is_some() || position < level.cursor.max(level.hot_to) {
            // Its block may have been read before: it comes by itself once it may be handed out.
            level.coming.insert(position, group);
            coming.push(position);
        } else {
            level.add_released(position);
        }
    }
    if !coming.is_empty() {
        super::mark::take_coming(id, level.priority, coming, out);
    }
    queue.claimed_end = queue.claimed_end.max(end);
}

/// The queues whose timers ring.
pub(super) fn ringing(shared: &mut Shared) -> Vec<QueueId> {
    let mut ringing = Vec::new();
    while let Some(&(at, id)) = shared.timers.first() {
        if at > shared.now {
            break;
        }
        shared.timers.pop_first();
        ringing.push(id);
    }
    ringing
}
