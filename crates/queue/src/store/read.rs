//! Reads messages of a queue by position, for the leader that moves them. Not here: whole blocks for handing out (`views`).

use bytes::Bytes;
use warren_types::{Position, PositionRange, Priority, QueueId, ShardTime};

use super::Store;
use super::queue::Queue;
use crate::rows::{Rows, SaidAt};

/// One live message.
#[derive(Debug, Clone)]
pub struct ReadMessage {
    pub position: Position,
    pub priority: Priority,
    pub group_hash: u64,
    pub fairness_hash: u64,
    pub body_bytes: u32,
    pub expiry: Option<ShardTime>,
    /// It is set aside.
    pub parked: bool,
    /// What consumers said of it, oldest first.
    pub said: Vec<SaidAt>,
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
        let Some(queue) = self.queues.get(&queue) else {
            return found;
        };
        let live = queue.levels.iter().filter(|level| level.row.live > 0);
        for priority in live.map(|level| level.row.priority) {
            for range in ranges {
                queue.read_range(rows, priority, *range, &mut found);
            }
        }
        found.sort_unstable_by_key(|it| it.position);
        found
    }
}

impl Queue {
    fn read_range(
        &self,
        rows: &dyn Rows,
        priority: Priority,
        range: PositionRange,
        found: &mut Vec<ReadMessage>,
    ) {
        let mut at = range.first;
        while at < range.end() {
            let Some((row, settled, counts, marks)) = self.block_rows(rows, priority, at) else {
                return;
            };
            let column = |column: &[u64], index: usize| column.get(index).copied().unwrap_or(0);
            let mut offset = 0;
            for (index, &size) in row.facts.size.iter().enumerate() {
                let position = row.first.plus(index as u64);
                let end = offset + size as usize;
                let gone = settled.ranges.iter().any(|it| it.contains(position));
                if position >= at && position < range.end() && !gone {
                    found.push(ReadMessage {
                        position,
                        priority,
                        group_hash: column(&row.facts.group_hash, index),
                        fairness_hash: column(&row.facts.fairness_hash, index),
                        body_bytes: row.facts.body_size.get(index).copied().unwrap_or(0),
                        expiry: row.facts.expiry.get(index).copied().flatten(),
                        parked: marks.parked.iter().any(|(at, _)| *at == position),
                        said: counts.said_of(position),
                        message: row.payload.slice(offset..end),
                    });
                }
                offset = end;
            }
            at = row.first.plus(row.facts.count()).max(at.plus(1));
        }
    }
}
