//! The blocks of an atomic batch: all its messages are stored, or none (features A20). A message that is a duplicate is there already, and
//! stands in nobody's way. Not here: one block (`enqueue`), which queues share a shard (the gateway asks the topology).

use std::collections::BTreeMap;
use std::ops::Range;

use warren_types::{NotStored, Position, QueueId};

use super::super::Store;
use super::super::apply::Note;
use super::super::blocks;
use super::enqueue::{self, Enqueued, Tried};
use crate::entry::{Enqueue, EnqueueTogether, OriginPart};
use crate::outcome::{Output, Reply};
use crate::rows::Rows;

/// `refused` are parts of a batch that is not taken: then nothing is stored.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: EnqueueTogether,
    refused: &[OriginPart],
    out: &mut Output,
) -> Enqueued {
    let counts = it.blocks.iter().map(|it| blocks::block_count(&it.facts));
    let count = counts.fold(0_u32, u32::saturating_add);
    let mut absent = BTreeMap::new();
    let rest = if refused.is_empty() {
        absent = refusals(store, rows, &it.blocks);
        NotStored::BatchAborted
    } else {
        NotStored::BatchRefused
    };
    if !refused.is_empty() || !absent.is_empty() {
        for index in 0..count {
            absent.entry(index).or_insert(rest);
        }
        return enqueued(count, 0, absent.into_iter().collect(), Vec::new());
    }
    let (mut stored, mut base) = (0, 0_u32);
    let (mut all_absent, mut all_places) = (Vec::new(), Vec::new());
    for block in it.blocks {
        let of_block = enqueue::apply(store, rows, block, &[], out);
        if let Reply::Enqueued { count, .. } = of_block.reply {
            stored += count;
        }
        match of_block.note {
            Note::Block {
                count,
                absent,
                places,
            } => {
                let shifted = absent.into_iter().map(|(index, why)| (base + index, why));
                all_absent.extend(shifted);
                let shifted = places.into_iter().map(|(indexes, at)| {
                    let indexes = base + indexes.start..base + indexes.end;
                    (indexes, at)
                });
                all_places.extend(shifted);
                base = base.saturating_add(count);
            }
            Note::NoMessages | Note::Gone { .. } => {}
        }
    }
    enqueued(count, stored, all_absent, all_places)
}

fn enqueued(
    count: u32,
    stored: u64,
    absent: Vec<(u32, NotStored)>,
    places: Vec<(Range<u32>, Position)>,
) -> Enqueued {
    Enqueued {
        reply: Reply::EnqueuedTogether { count: stored },
        note: Note::Block {
            count,
            absent,
            places,
        },
    }
}

/// The messages that cannot be stored, and why; the blocks are tried out one after the other, and nothing changes.
pub(super) fn refusals(
    store: &Store,
    rows: &dyn Rows,
    named: &[Enqueue],
) -> BTreeMap<u32, NotStored> {
    let now = store.now();
    let mut tried: BTreeMap<QueueId, Tried> = BTreeMap::new();
    let (mut found, mut base) = (BTreeMap::new(), 0_u32);
    for block in named {
        let count = blocks::block_count(&block.facts);
        let tried = tried.entry(block.queue).or_default();
        match store.queues.get(&block.queue) {
            Some(queue) => {
                let refused = enqueue::try_out(queue, rows, now, block, tried);
                found.extend(refused.into_iter().map(|(at, why)| (base + at, why)));
            }
            None => found.extend((0..count).map(|at| (base + at, NotStored::QueueGone))),
        }
        base = base.saturating_add(count);
    }
    found
}
