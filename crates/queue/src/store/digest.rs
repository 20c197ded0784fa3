//! A digest of rows, equal on every replica and every version: a fixed mixing function, no hasher of the standard library.
//! Not here: blocks and producers (counters and marks stand for them). It finds accidents; it is no defence against an attacker.

use warren_types::{Incarnation, Position, PositionRange};

use super::Store;
use crate::rows::{OriginRow, QueueRow, ShardRow};

impl Store {
    /// A digest of the shard's time, its queues' counters and marks, and its origins. The same entries give the same digest,
    /// whatever a replica has in memory and however often it started.
    #[must_use]
    pub fn digest(&self) -> u64 {
        of_shard(&self.shard)
            .wrapping_add(self.queues_digest)
            .wrapping_add(self.origins.digest())
    }
}

struct Mix(u64);

impl Mix {
    fn new(kind: u64) -> Self {
        Self(kind)
    }

    /// One step of a multiply-and-shift mixer (constants of splitmix64).
    fn add(mut self, value: u64) -> Self {
        self.0 = (self.0 ^ value).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 ^= self.0 >> 29;
        self
    }

    fn position(self, position: Position) -> Self {
        self.add(position.0)
    }

    fn ranges(self, ranges: &[PositionRange]) -> Self {
        ranges
            .iter()
            .fold(self.add(ranges.len() as u64), |mix, range| {
                mix.position(range.first).add(range.count)
            })
    }

    fn end(self) -> u64 {
        let value = (self.0 ^ (self.0 >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 30)
    }
}

fn of_shard(row: &ShardRow) -> u64 {
    let mix = Mix::new(1).add(row.now.0).add(row.topology.0);
    let moved = row.moved_out.iter();
    moved
        .fold(mix, |mix, (shard, number)| {
            mix.add(u64::from(shard.0)).add(*number)
        })
        .end()
}

pub(super) fn of_queue(row: &QueueRow) -> u64 {
    let counters = &row.counters;
    let mut mix = Mix::new(2)
        .add(row.queue.0)
        .add(u64::from(row.vhost.0))
        .position(row.next);
    mix = [
        counters.enqueued,
        counters.acked,
        counters.rejected,
        counters.expired,
        counters.dropped,
        counters.dead_lettered,
        counters.no_ack,
        counters.purged,
        counters.live_body_bytes,
        counters.scheduled_body_bytes,
        counters.parked_body_bytes,
    ]
    .into_iter()
    .fold(mix, Mix::add);
    for level in &row.levels {
        mix = mix
            .add(u64::from(level.priority.level()))
            .position(level.head)
            .add(level.live);
        mix = mix.position(level.handed_out).ranges(&level.released);
        mix = mix.add(level.scheduled).add(level.parked);
    }
    if row.fencing != 0 {
        mix = mix.add(row.fencing);
    }
    if counters.cancelled != 0 {
        mix = mix.add(counters.cancelled);
    }
    for (_, span) in &row.memories {
        mix = mix.add(span.first).add(span.next);
    }
    #[cfg(feature = "next-version")]
    if row.note != 0 {
        mix = mix.add(row.note);
    }
    mix.end()
}

pub(super) fn of_origin(incarnation: Incarnation, row: &OriginRow) -> u64 {
    let high = u64::try_from(incarnation.0 >> 64).unwrap_or_default();
    let low = u64::try_from(incarnation.0 & u128::from(u64::MAX)).unwrap_or_default();
    let mut mix = Mix::new(3)
        .add(high)
        .add(low)
        .add(row.run.0)
        .add(row.last.0)
        .add(row.remembered_from.0);
    for (sequence, exceptions) in &row.exceptions {
        mix = mix.add(sequence.0).add(exceptions.len() as u64);
    }
    for (sequence, places) in &row.places {
        let ends = places.iter().fold(0_u64, |sum, at| sum.wrapping_add(at.0));
        mix = mix.add(sequence.0).add(ends);
    }
    mix.end()
}
