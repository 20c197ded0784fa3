//! Beyond a number of parked messages the oldest are dropped (features B49). Not here: who says how many (the shard's leader, by the
//! queue's settings), parking (`park`).

use std::collections::BTreeMap;

use warren_types::{Position, PositionRange, QueueId};

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::blocks::StoredRows;
use super::super::limits::PARKED_DROPPED_AT_ONCE;
use super::super::queue::Level;
use super::super::ranges;
use super::super::states::MessageState;
use super::settle;
use crate::entry::{DropParked, SettleReason};
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

/// The oldest are those of the lowest positions, whenever they were parked. So many at once at most: whoever proposes it asks again.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &DropParked,
    out: &mut Output,
) -> Reply {
    let leaving = store.moves.leaving(it.queue);
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let parked: u64 = queue.levels.iter().map(|level| level.row.parked).sum();
    let over = parked.saturating_sub(it.keep).min(PARKED_DROPPED_AT_ONCE);
    let over = usize::try_from(over).unwrap_or(usize::MAX);
    if over == 0 {
        return Reply::Settled { count: 0 };
    }
    let (id, removed) = (queue.id, &queue.removed);
    let mut oldest: Vec<Position> = Vec::new();
    for level in queue.levels.iter().filter(|it| it.row.parked > 0) {
        let found = level.first_parked(
            id,
            removed,
            rows,
            |at| !ranges::contains(&leaving, at),
            over,
        );
        oldest.extend(found);
    }
    oldest.sort_unstable();
    oldest.truncate(over);
    let named = PositionRange::collect(oldest);
    let (left, gone) = settle::leave(queue, &mut reach, &named, false, |block, index| {
        matches!(block.state(index), MessageState::Parked(_))
    });
    queue.counters.dropped += left.all.messages;
    if left.all.messages > 0 {
        out.effects.push(Effect::Settled {
            queue: it.queue,
            ranges: gone,
            reason: SettleReason::Dropped,
            left,
        });
    }
    Reply::Settled {
        count: left.all.messages,
    }
}

impl Level {
    /// The first parked messages that may go: at least `max` of them, or all.
    fn first_parked(
        &self,
        queue: QueueId,
        removed: &BTreeMap<(warren_types::Priority, Position), StoredRows>,
        rows: &dyn Rows,
        may_go: impl Fn(Position) -> bool,
        max: usize,
    ) -> Vec<Position> {
        let priority = self.row.priority;
        let mut found: Vec<Position> = self
            .blocks
            .values()
            .flat_map(|block| block.parked_positions())
            .filter(|&at| may_go(at))
            .take(max)
            .collect();
        let (mut read, mut from) = (0, self.row.head);
        // Of a block in memory its row may be old.
        while read < max && from < self.complete_from {
            let Some((first, marks)) = rows.marks_at_or_after(queue, priority, from) else {
                break;
            };
            from = first.plus(1);
            if self.blocks.contains_key(&first) || removed.contains_key(&(priority, first)) {
                continue;
            }
            let parked = marks.parked.iter().map(|&(at, _)| at);
            let before = found.len();
            found.extend(parked.filter(|&at| may_go(at)));
            read += found.len() - before;
        }
        found
    }
}
