//! Messages with a deduplication key (features X8): one whose key the queue remembers is not stored again; one with the same key and
//! another body is refused. Not here: how long keys are remembered (the leader knew), the rows (`memory`), producers' numbers (`producers`).

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{Facts, NotStored, QueueId, ShardTime};

use super::memory::{Fact, Keep, Memories};
use crate::entry::Dedup;
use crate::rows::{MemoryOf, Rows};

/// What the keys of a block's messages say, before producers were asked about their numbers.
pub(super) struct Repeats {
    window: Dedup,
    /// Indexes of messages that the queue remembers, ascending.
    known: Vec<u32>,
}

impl Repeats {
    /// Marks conflicts in `absent`: what is refused uses up no producer's number, so that sending it again is refused again. A message in
    /// conflict with an earlier one of the block is refused even if a producer's number keeps the earlier one out.
    pub(super) fn look(
        memories: &Memories,
        queue: QueueId,
        rows: &dyn Rows,
        now: ShardTime,
        (window, facts): (Dedup, &Facts),
        absent: &mut BTreeMap<u32, NotStored>,
    ) -> Self {
        let mut known = Vec::new();
        let mut first: BTreeMap<u64, u64> = BTreeMap::new();
        for (index, key, body) in keys(facts) {
            if absent.contains_key(&index) {
                continue;
            }
            let remembered = memories
                .find(rows, queue, MemoryOf::Dedup, key)
                .filter(|it| it.at.0.saturating_add(window.window_ms) > now.0);
            let before = match remembered {
                Some(row) => row.check,
                None => *first.entry(key).or_insert(body),
            };
            if before != 0 && body != 0 && before != body {
                absent.insert(index, NotStored::DedupConflict);
            } else if remembered.is_some() {
                known.push(index);
            }
        }
        Self { window, known }
    }

    /// Marks duplicates of what is stored, and remembers the keys of the rest.
    pub(super) fn finish(
        self,
        memories: &mut Memories,
        queue: QueueId,
        rows: &dyn Rows,
        now: ShardTime,
        facts: &Facts,
        absent: &mut BTreeMap<u32, NotStored>,
    ) {
        let keep = Keep {
            most: self.window.keys_max,
            since: Some(ShardTime(now.0.saturating_sub(self.window.window_ms))),
        };
        let mut stored = BTreeSet::new();
        for (index, key, check) in keys(facts) {
            if absent.contains_key(&index) {
                continue;
            }
            if self.known.binary_search(&index).is_ok() || !stored.insert(key) {
                absent.insert(index, NotStored::Duplicate);
                continue;
            }
            let fact = Fact {
                key,
                at: now,
                check,
            };
            memories.remember(rows, queue, MemoryOf::Dedup, fact, keep);
        }
    }
}

/// `(index, hash of the key, hash of the body)` of the messages that have a key.
fn keys(facts: &Facts) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
    let body = |index: usize| facts.dedup_body.get(index).copied().unwrap_or(0);
    let keys = facts.dedup_hash.iter().take(facts.size.len());
    let named = (0_u32..).zip(keys.enumerate());
    let named = named.filter(|(_, (_, key))| **key != 0);
    named.map(move |(index, (at, &key))| (index, key, body(at)))
}
