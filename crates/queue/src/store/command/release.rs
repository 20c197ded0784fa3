//! Scheduled messages come due: they are ready, and known as never handed out. Not here: the clock that found them (`dispatch`).

use std::collections::BTreeMap;

use warren_types::{PositionRange, Priority};

use super::super::Store;
use super::super::apply::queue_or_gone;
use super::super::limits::RELEASED_RANGES_MAX;
use super::super::ranges;
use super::super::reach::Visit;
use crate::entry::Release;
use crate::outcome::{Effect, Output, Released, Reply, Tally};
use crate::rows::Rows;

/// Only live messages that are scheduled: a message is released once.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Release,
    out: &mut Output,
) -> Reply {
    let now = store.now();
    let (queue, mut reach) = queue_or_gone!(store, rows, it.queue);
    let mut released: BTreeMap<Priority, (Vec<PositionRange>, Vec<u64>, Tally)> = BTreeMap::new();
    queue.each_piece(&mut reach, &it.ranges, |level, block, indexes| {
        let mut live = Vec::new();
        block.each_live(indexes, |run| live.push(run));
        let (mut changed, mut of_block) = (Tally::default(), Vec::new());
        for position in live.iter().flat_map(|run| run.positions()) {
            let Some(tally) = block.release(position) else {
                continue;
            };
            changed.add(tally);
            let one = PositionRange::one(position);
            ranges::push(&mut of_block, one);
            let (of_level, groups, total) = released.entry(level.priority).or_default();
            ranges::push(of_level, one);
            groups.push(block.group(position));
            total.add(tally);
            if !it.hand_out {
                ranges::insert(&mut level.released, one);
            }
        }
        ranges::keep_highest(&mut level.released, RELEASED_RANGES_MAX);
        level.scheduled = level.scheduled.saturating_sub(changed.messages);
        if changed.messages == 0 {
            return Visit::Read;
        }
        block.rearm_with(now, &of_block);
        Visit::Changed
    });
    let mut all = Tally::default();
    for (priority, (ranges, groups, tally)) in released {
        all.add(tally);
        out.effects.push(Effect::Released(Released {
            queue: it.queue,
            priority,
            ranges,
            groups,
            tally,
            hand_out: it.hand_out,
        }));
    }
    let bytes = &mut queue.counters.scheduled_body_bytes;
    *bytes = bytes.saturating_sub(all.body_bytes);
    Reply::Released {
        count: all.messages,
    }
}
