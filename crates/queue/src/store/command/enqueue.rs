//! Adds one block to a queue. Not here: whether the queue has room (a fact decided by the leader), batches (`origins`).
//!
//! Messages that are not stored (refused batch, producer's duplicate) keep their positions in the block and are settled from the start;
//! they count nowhere. If no message of a block is stored, no row is written and no position is used up.

use std::collections::BTreeMap;
use std::sync::Arc;

use warren_types::{NotStored, PositionRange, ProducerId, ShardTime};

use super::super::Store;
use super::super::apply::Note;
use super::super::blocks::{self, Block};
use super::super::dedup::Repeats;
use super::super::limits::MARK_AHEAD_MAX;
use super::super::memory::Memories;
use super::super::queue::Queue;
use super::super::reach::Reach;
use super::super::states;
use crate::entry::{Enqueue, IndexRange, OriginPart};
use crate::outcome::{Added, BlockRef, Effect, Output, Reply, Tally};
use crate::rows::{ProducerRow, Rows};

pub(in super::super) struct Enqueued {
    pub(in super::super) reply: Reply,
    pub(in super::super) note: Note,
}

/// `refused` are the messages of batches that are not taken.
pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    mut it: Enqueue,
    refused: &[OriginPart],
    out: &mut Output,
) -> Enqueued {
    let count = blocks::block_count(&it.facts);
    let now = store.now();
    let Some((queue, mut reach)) = store.touch(rows, it.queue) else {
        return Enqueued {
            reply: Reply::QueueGone,
            note: Note::Gone { count },
        };
    };
    let mut absent = refused_messages(refused, count);
    full_messages(&it.full, count, &mut absent);
    let repeats = it.dedup.map(|window| {
        let facts = (window, &it.facts);
        Repeats::look(&queue.memories, it.queue, rows, now, facts, &mut absent)
    });
    for span in std::mem::take(&mut it.producers) {
        queue
            .producers
            .check(it.queue, rows, now, &span, count, &mut absent);
    }
    if let Some(repeats) = repeats {
        let memories = &mut queue.memories;
        repeats.finish(memories, it.queue, rows, now, &it.facts, &mut absent);
    }
    it.facts.dedup_body = Vec::new(); // of no use any more
    let absent: Vec<(u32, NotStored)> = absent.into_iter().collect();
    let repeated = |(_, why): &&(u32, NotStored)| *why == NotStored::Duplicate;
    queue.counters.duplicates += absent.iter().filter(repeated).count() as u64;
    let (first, raise, priority) = (queue.next, it.raise, it.priority);
    let stored = u64::from(count) - absent.len() as u64;
    let mut places = Vec::new();
    if stored > 0 {
        let added = add(queue, &mut reach, it, count, &absent);
        if added.scheduled.messages > 0 {
            places.push((0..count, first));
        }
        out.effects.push(Effect::Added(added));
    }
    if let Some(ahead) = raise {
        let next = queue.next;
        let up_to = next.plus(u64::from(ahead).min(MARK_AHEAD_MAX));
        let mark = queue.level_or_new(priority).raise(up_to, next);
        out.effects.push(Effect::Raised {
            queue: queue.id,
            priority,
            mark,
        });
    }
    Enqueued {
        reply: Reply::Enqueued {
            first,
            count: stored,
        },
        note: Note::Block {
            count,
            absent,
            places,
        },
    }
}

/// What blocks of one queue would have changed, while they are only tried out.
#[derive(Default)]
pub(super) struct Tried {
    producers: BTreeMap<ProducerId, ProducerRow>,
    memories: Option<Memories>,
}

/// Which messages would be refused, and why; duplicates among the stored are not told.
pub(super) fn try_out(
    queue: &Queue,
    rows: &dyn Rows,
    now: ShardTime,
    it: &Enqueue,
    tried: &mut Tried,
) -> BTreeMap<u32, NotStored> {
    let count = blocks::block_count(&it.facts);
    let mut absent = BTreeMap::new();
    full_messages(&it.full, count, &mut absent);
    let memories = tried.memories.get_or_insert_with(|| queue.memories.clone());
    let repeats = it.dedup.map(|window| {
        let facts = (window, &it.facts);
        Repeats::look(memories, it.queue, rows, now, facts, &mut absent)
    });
    for span in &it.producers {
        let known = tried.producers.get(&span.producer);
        let changed = queue
            .producers
            .try_out(it.queue, rows, now, span, count, known, &mut absent);
        if let Some(row) = changed {
            tried.producers.insert(span.producer.clone(), row);
        }
    }
    if let Some(repeats) = repeats {
        repeats.finish(memories, it.queue, rows, now, &it.facts, &mut absent);
    }
    absent.retain(|_, why| *why != NotStored::Duplicate);
    absent
}

fn full_messages(full: &[IndexRange], count: u32, absent: &mut BTreeMap<u32, NotStored>) {
    for range in full {
        let indexes = range.first..range.first.saturating_add(range.count).min(count);
        for index in indexes {
            absent.entry(index).or_insert(NotStored::QueueFull);
        }
    }
}

fn refused_messages(refused: &[OriginPart], count: u32) -> BTreeMap<u32, NotStored> {
    let indexes = refused
        .iter()
        .flat_map(|part| part.first..part.first.saturating_add(part.count).min(count));
    indexes
        .map(|index| (index, NotStored::BatchRefused))
        .collect()
}

fn add(
    queue: &mut Queue,
    reach: &mut Reach<'_>,
    it: Enqueue,
    count: u32,
    absent: &[(u32, NotStored)],
) -> Added {
    let first = queue.next;
    let stored = u64::from(count) - absent.len() as u64;
    let facts = Arc::new(it.facts);
    let missing: u64 = absent
        .iter()
        .map(|&(index, _)| blocks::body_bytes(&facts, &(index..index + 1)))
        .sum();
    queue.next = first.plus(u64::from(count));
    let tally = Tally {
        messages: stored,
        body_bytes: blocks::body_bytes(&facts, &(0..count)) - missing,
    };
    queue.counters.enqueued += tally.messages;
    queue.counters.live_body_bytes += tally.body_bytes;
    let indexes: Vec<u32> = absent.iter().map(|&(index, _)| index).collect();
    let scheduled = states::scheduled(&facts, &indexes);
    queue.counters.scheduled_body_bytes += scheduled.body_bytes;

    let mut block = Block::added(
        first,
        count,
        Arc::clone(&facts),
        it.payload.clone(),
        indexes,
    );
    block.touched = true;
    let wake = block.timer;
    queue.touched_blocks.push((it.priority, first));
    reach.cache.added(queue.id, it.priority, first, count);
    let level = queue.level_or_new(it.priority);
    if level.row.live == 0 {
        level.set_head(first);
    }
    level.row.live += stored;
    level.row.scheduled += scheduled.messages;
    level.blocks.insert(first, block);

    let positions = absent
        .iter()
        .map(|&(index, _)| first.plus(u64::from(index)));
    Added {
        queue: it.queue,
        block: BlockRef {
            priority: it.priority,
            first,
            count,
        },
        facts,
        payload: it.payload,
        absent: PositionRange::collect(positions),
        tally,
        scheduled,
        wake,
    }
}
