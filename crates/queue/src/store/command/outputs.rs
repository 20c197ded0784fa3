//! A delivery is acked and messages come into queues of the shard, in one (features X4). That it happened is remembered under the delivery's
//! attempt: whoever asks again, having lost the answer, is told. Not here: how several deliveries end (`settle_together`), who holds one (the
//! dispatcher knew).

use warren_types::{Attempt, Position, PositionRange, QueueId, stable_hash};

use super::super::Store;
use super::super::limits::OUTPUTS_REMEMBERED;
use super::super::memory::{Fact, Keep};
use super::{enqueue, settle, together};
use crate::entry::{AckWithOutputs, EndedDelivery, Settle, SettleReason};
use crate::outcome::{Effect, Output, OutputsRefused, Reply};
use crate::rows::{MemoryOf, Rows};

pub(in super::super) fn apply(
    store: &mut Store,
    rows: &dyn Rows,
    it: AckWithOutputs,
    out: &mut Output,
) -> Reply {
    let nothing = Reply::AckedWithOutputs { is_done: false };
    if !store.queues.contains_key(&it.queue) {
        return Reply::QueueGone;
    }
    let refused = together::refusals(store, rows, &it.blocks);
    if let Some((index, why)) = refused.into_iter().next() {
        out.effects.push(Effect::OutputsRefused(OutputsRefused {
            queue: it.queue,
            position: it.position,
            index,
            why,
        }));
        return nothing;
    }
    let settle = Settle {
        queue: it.queue,
        ranges: vec![PositionRange::one(it.position)],
        reason: SettleReason::Acked,
    };
    // It has left already: whatever its end was, this is not it.
    if settle::apply(store, rows, &settle, out) != (Reply::Settled { count: 1 }) {
        return nothing;
    }
    remember(store, rows, it.queue, it.position.0, it.attempt);
    for block in it.blocks {
        enqueue::apply(store, rows, block, &[], out);
    }
    Reply::AckedWithOutputs { is_done: true }
}

/// It ended in one with others. It may be in its queue still, and end so once more under another attempt: both are remembered.
pub(super) fn remember_together(store: &mut Store, rows: &dyn Rows, it: EndedDelivery) {
    let key = together_key(it.position, it.attempt);
    remember(store, rows, it.queue, key, it.attempt);
}

fn remember(store: &mut Store, rows: &dyn Rows, id: QueueId, key: u64, attempt: Attempt) {
    let now = store.now();
    let Some((queue, _)) = store.touch(rows, id) else {
        return;
    };
    let fact = Fact {
        key,
        at: now,
        check: check(attempt),
    };
    let keep = Keep {
        most: OUTPUTS_REMEMBERED,
        since: None,
    };
    queue
        .memories
        .remember(rows, id, MemoryOf::Outputs, fact, keep);
}

impl Store {
    /// Whether a delivery ended with outputs, or with others, under this attempt, as far as its queue remembers.
    #[must_use]
    pub fn has_outputs(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        position: Position,
        attempt: Attempt,
    ) -> bool {
        self.ended_together(rows, queue, position, attempt)
            || self.is_remembered(rows, queue, position.0, attempt)
    }

    /// The same of those that ended with others alone: those may be in their queue still.
    pub(super) fn ended_together(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        position: Position,
        attempt: Attempt,
    ) -> bool {
        self.is_remembered(rows, queue, together_key(position, attempt), attempt)
    }

    fn is_remembered(&self, rows: &dyn Rows, queue: QueueId, key: u64, attempt: Attempt) -> bool {
        let queue = self.queues.get(&queue);
        let found = queue.and_then(|it| it.memories.find(rows, it.id, MemoryOf::Outputs, key));
        found.is_some_and(|it| it.check == check(attempt))
    }
}

/// Stored: never change it. No position is as large, so it is none of the keys of acks with outputs.
fn together_key(position: Position, attempt: Attempt) -> u64 {
    let parts = [position.0, attempt.term.0, attempt.number];
    let bytes: Vec<u8> = parts.into_iter().flat_map(u64::to_le_bytes).collect();
    stable_hash(&bytes) | 1 << 63
}

/// Stored: never change it. Attempts of a term are numbered from 1.
fn check(attempt: Attempt) -> u64 {
    attempt.term.0.rotate_left(40) ^ attempt.number
}
