//! A number of moved messages has been taken by its target shard: what arrived leaves its queue, unless it is still on its way to another.
//! Not here: asking the target (`warren-shard`).

use warren_types::PositionRange;

use super::super::Store;
use super::super::ranges;
use super::settle;
use crate::entry::{Arrived, Settle, SettleReason};
use crate::outcome::{Effect, Output, Reply};
use crate::rows::Rows;

/// A number that is not on its way (any more) changes nothing. What no queue took stays, to be decided on anew, or leaves for the
/// reason it was to be moved for.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: &Arrived,
    out: &mut Output,
) -> Reply {
    let Some(row) = store.moves.take((it.shard, it.number)) else {
        return Reply::Arrived;
    };
    let refused = ranges::set_of(&it.refused);
    let (mut there, mut lost) = (row.arrived.clone(), Vec::new());
    for range in &row.ranges {
        for arrived in ranges::complement(&refused, range.first, range.end()) {
            ranges::insert(&mut there, arrived);
        }
    }
    store.moves.note_arrived(row.queue, &there);
    let elsewhere = store.moves.leaving(row.queue);
    let done = without(&row.ranges, &elsewhere);
    for range in &done {
        lost.extend(ranges::complement(&there, range.first, range.end()));
    }
    let there = without(&done, &ranges::set_of(&lost));
    leave(store, rows, &row, there, SettleReason::DeadLettered, out);
    if it.keep {
        if !lost.is_empty() {
            out.effects.push(Effect::NotMoved {
                queue: row.queue,
                ranges: lost,
                reason: row.reason,
            });
        }
    } else {
        leave(store, rows, &row, lost, row.reason, out);
    }
    Reply::Arrived
}

fn leave(
    store: &mut Store,
    rows: &dyn Rows,
    row: &crate::rows::OutgoingRow,
    ranges: Vec<PositionRange>,
    reason: SettleReason,
    out: &mut Output,
) {
    if ranges.is_empty() {
        return;
    }
    let queue = row.queue;
    settle::apply(
        store,
        rows,
        &Settle {
            queue,
            ranges,
            reason,
        },
        out,
    );
}

fn without(these: &[PositionRange], those: &[PositionRange]) -> Vec<PositionRange> {
    let rest = these
        .iter()
        .flat_map(|range| ranges::complement(those, range.first, range.end()));
    rest.collect()
}
