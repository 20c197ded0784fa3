//! Several deliveries end, and messages come with it, in one (features X4, ADR 0081): looked at whole before anything is changed. Not here:
//! who holds the deliveries (the dispatcher knew), each kind of end (`settle`, `requeue`, `park`).

use std::collections::BTreeMap;

use warren_types::{Position, PositionRange, QueueId};

use super::super::limits::OUTGOING_MAX;
use super::super::reach::Visit;
use super::super::{Store, ranges};
use super::{enqueue, move_out, outputs, park, remark, requeue, settle, together};
use crate::entry::{EndedDelivery, Ending, Enqueue, SettleTogether};
use crate::outcome::{Effect, Output, Reply, TogetherRefused, WhyNotTogether};
use crate::rows::Rows;

pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: SettleTogether,
    out: &mut Output,
) -> Reply {
    let SettleTogether {
        deliveries,
        endings,
        blocks,
    } = it;
    if let Some(why) =
        hindrance(store, rows, &deliveries, &blocks).or_else(|| no_way(store, &endings))
    {
        let refused = TogetherRefused { deliveries, why };
        out.effects.push(Effect::TogetherRefused(refused));
        return Reply::SettledTogether { is_done: false };
    }
    if let Some(&first) = deliveries.first() {
        out.effects.push(Effect::TogetherDone { first });
    }
    for ending in endings {
        match ending {
            Ending::Remark(it) => remark::apply(store, rows, &it),
            Ending::Settle(it) => settle::apply(store, rows, &it, out),
            Ending::Return(it) => requeue::apply(store, rows, it, out),
            Ending::Park(it) => park::apply(store, rows, &it, out),
            Ending::MoveOut(it) => move_out::apply(store, rows, &it, out),
        };
    }
    for it in deliveries {
        outputs::remember_together(store, rows, it);
    }
    for block in blocks {
        enqueue::apply(store, rows, block, &[], out);
    }
    Reply::SettledTogether { is_done: true }
}

/// Why it cannot be done, all of it. Nothing changes.
fn hindrance(
    store: &mut Store,
    rows: &dyn Rows,
    deliveries: &[EndedDelivery],
    blocks: &[Enqueue],
) -> Option<WhyNotTogether> {
    // What was returned is in its queue still. Whoever had it has claimed it from a new leader, and asks again.
    let is_done =
        |it: &EndedDelivery| store.ended_together(rows, it.queue, it.position, it.attempt);
    if deliveries.iter().any(is_done) {
        return Some(WhyNotTogether::Left);
    }
    let mut named: BTreeMap<QueueId, Vec<Position>> = BTreeMap::new();
    for it in deliveries {
        named.entry(it.queue).or_default().push(it.position);
    }
    for (queue, mut positions) in named {
        positions.sort_unstable();
        positions.dedup();
        let count = positions.len() as u64;
        let leaving = store.moves.leaving(queue);
        if positions.iter().any(|at| ranges::contains(&leaving, *at)) {
            return Some(WhyNotTogether::Left);
        }
        match live(store, rows, queue, &PositionRange::collect(positions)) {
            None => return Some(WhyNotTogether::QueueGone),
            Some(live) if live < count => return Some(WhyNotTogether::Left),
            Some(_) => {}
        }
    }
    let refused = together::refusals(store, rows, blocks).into_iter().next();
    refused.map(|(index, why)| WhyNotTogether::Output { index, why })
}

/// Why dead letters cannot begin their way: too much is on it.
fn no_way(store: &Store, endings: &[Ending]) -> Option<WhyNotTogether> {
    let targets = endings.iter().map(|ending| match ending {
        Ending::MoveOut(it) => it.targets.len(),
        Ending::Remark(_) | Ending::Settle(_) | Ending::Return(_) | Ending::Park(_) => 0,
    });
    let targets: usize = targets.sum();
    let is_full = targets > 0 && store.moves.len() + targets > OUTGOING_MAX;
    is_full.then_some(WhyNotTogether::DeadLetter)
}

/// How many of them are in the queue still.
fn live(
    store: &mut Store,
    rows: &dyn Rows,
    queue: QueueId,
    ranges: &[PositionRange],
) -> Option<u64> {
    let (queue, mut reach) = store.touch(rows, queue)?;
    let mut count = 0;
    queue.each_piece(&mut reach, ranges, |_, block, indexes| {
        block.each_live(indexes, |run| count += run.count);
        Visit::Read
    });
    Some(count)
}
