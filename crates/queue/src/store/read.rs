//! Reads messages of a queue by position, for the leader that moves them. Not here: whole blocks for handing out (`views`).

use bytes::Bytes;
use warren_types::{Position, PositionRange, Priority, QueueId, ShardTime};

use super::Store;
use crate::rows::Rows;

/// One live message.
#[derive(Debug, Clone)]
pub struct ReadMessage {
    pub position: Position,
    pub priority: Priority,
    pub group_hash: u64,
    pub fairness_hash: u64,
    pub body_bytes: u32,
    pub expiry: Option<ShardTime>,
    /// The message's encoding: a slice of its block.
    pub message: Bytes,
}

impl Store {
    /// What is live of the named ranges, ascending. `rows` shows all entries applied so far.
    #[must_use]
    pub fn read(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        ranges: &[PositionRange],
    ) -> Vec<ReadMessage> {
        let mut found = Vec::new();
        let Some(stats) = self.queue_stats(queue) else {
            return found;
        };
        let live = stats.levels.iter().filter(|level| level.live > 0);
        for priority in live.map(|level| level.priority) {
            for range in ranges {
                self.read_range(rows, queue, priority, *range, &mut found);
            }
        }
        found.sort_unstable_by_key(|it| it.position);
        found
    }

    fn read_range(
        &self,
        rows: &dyn Rows,
        queue: QueueId,
        priority: Priority,
        range: PositionRange,
        found: &mut Vec<ReadMessage>,
    ) {
        let mut at = range.first;
        while at < range.end() {
            let Some(loaded) = self.load(rows, queue, priority, at).block else {
                return;
            };
            let first = loaded.block.first;
            let column = |column: &[u64], index: usize| column.get(index).copied().unwrap_or(0);
            let mut offset = 0;
            for (index, &size) in loaded.facts.size.iter().enumerate() {
                let position = first.plus(index as u64);
                let end = offset + size as usize;
                let gone = loaded.settled.iter().any(|it| it.contains(position));
                if position >= at && position < range.end() && !gone {
                    found.push(ReadMessage {
                        position,
                        priority,
                        group_hash: column(&loaded.facts.group_hash, index),
                        fairness_hash: column(&loaded.facts.fairness_hash, index),
                        body_bytes: loaded.facts.body_size.get(index).copied().unwrap_or(0),
                        expiry: loaded.facts.expiry.get(index).copied().flatten(),
                        message: loaded.payload.slice(offset..end),
                    });
                }
                offset = end;
            }
            at = first.plus(u64::from(loaded.block.count));
        }
    }
}
