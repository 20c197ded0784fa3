//! How far messages may be handed out: raises of the hand-out mark, riding and separate ones. Not here: handing out (`hand_out`).

use warren_types::{Position, PositionRange, Priority, QueueId};

use super::back::Back;
use super::io::{Action, Actions};
use super::level::Level;
use super::queue::Queue;
use crate::entry::{Command, HandOut};

/// The relative raise that the next enqueue should carry, if one is due: a consumer is attached, few messages wait (else the
/// raise would cover a backlog that nobody has seen), and less than half of what a riding raise gives is left.
pub(super) fn riding(queue: &Queue, priority: Priority, chunk: u32) -> Option<u32> {
    if queue.attached.is_empty() {
        return None;
    }
    let half = u64::from(chunk / 2).max(1);
    let (mark, behind) = queue.level(priority).map_or((Position(0), 0), |level| {
        let behind = if level.cursor < level.tail {
            queue.next.0.saturating_sub(level.cursor.0)
        } else {
            0
        };
        (level.mark, behind)
    });
    let due = behind <= half && mark < queue.next.plus(half / 2);
    due.then(|| u32::try_from(half).unwrap_or(u32::MAX))
}

/// Proposes a raise when messages wait above the mark and less than half a chunk is left below it.
pub(super) fn raise(queue: QueueId, level: &mut Level, chunk: u32, out: &mut Actions) {
    let chunk = u64::from(chunk).max(1);
    let waits_above = level.mark < level.tail;
    let nearly_used = level.cursor.plus(chunk / 2) >= level.mark;
    if !waits_above || !nearly_used || level.mark_asked {
        return;
    }
    let up_to = level.cursor.plus(chunk);
    level.mark_asked = true;
    out.list.push(Action::Propose(Command::HandOut(HandOut {
        queue,
        priority: level.priority,
        up_to: Some(up_to),
        except: Vec::new(),
        positions: Vec::new(),
    })));
}

/// The store may have raised it by less than was asked; if that is too little, it is asked again.
pub(super) fn raised(level: &mut Level, mark: Position) {
    level.mark = level.mark.max(mark);
    level.mark_asked = false;
}

/// Messages that were released, not handed out: one committed fact takes the next of them out before they are handed out,
/// so that a later leader knows they may have been seen.
pub(super) fn take_released(queue: QueueId, level: &mut Level, chunk: u32, out: &mut Actions) {
    if level.taking {
        return;
    }
    let mut left = u64::from(chunk).max(1);
    let mut positions = Vec::new();
    for range in &level.released {
        let count = range
            .end()
            .0
            .saturating_sub(level.cursor.0.max(range.first.0));
        let count = count.min(left);
        if count > 0 {
            left -= count;
            positions.push(PositionRange {
                first: range.first.max(level.cursor),
                count,
            });
        }
    }
    level.taking = true;
    out.list.push(Action::Propose(Command::HandOut(HandOut {
        queue,
        priority: level.priority,
        up_to: None,
        except: Vec::new(),
        positions,
    })));
}

/// The same for messages that came due and are not found by the cursor.
pub(super) fn take_coming(
    queue: QueueId,
    priority: Priority,
    positions: Vec<Position>,
    out: &mut Actions,
) {
    out.list.push(Action::Propose(Command::HandOut(HandOut {
        queue,
        priority,
        up_to: None,
        except: Vec::new(),
        positions: PositionRange::collect(positions),
    })));
}

/// That fact is committed.
pub(super) fn taken(level: &mut Level, ranges: &[PositionRange]) {
    level.taking = false;
    level.taken.retain(|it| it.end() > level.cursor);
    if !level.coming.is_empty() {
        for position in ranges.iter().flat_map(|it| it.positions()) {
            if let Some(group) = level.coming.remove(&position) {
                level.back.insert(position, Back::due(group));
            }
        }
    }
    for &out in ranges {
        level.taken.push(out);
        let mut kept = Vec::with_capacity(level.released.len());
        for &range in &level.released {
            let before = out.first.0.min(range.end().0).saturating_sub(range.first.0);
            if before > 0 {
                kept.push(PositionRange {
                    first: range.first,
                    count: before,
                });
            }
            let from = out.end().max(range.first);
            let after = range.end().0.saturating_sub(from.0);
            if after > 0 {
                kept.push(PositionRange {
                    first: from,
                    count: after,
                });
            }
        }
        level.released = kept;
    }
}
