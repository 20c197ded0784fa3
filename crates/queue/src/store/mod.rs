//! Applies committed entries to one shard: the replicated half of the queue machine, equal on every replica.
//! Not here: IO, clocks, randomness, logging, failure, consumers; bytes and keys of rows (`codec`), who gets which message (`dispatch`).
//!
//! In memory: every queue row and origin row, and the descriptors of recently used blocks (facts without payload, what is settled,
//! counts), bounded by [`StoreOptions`]. All else is read through `Rows`. Options change how often rows are read, never what
//! an entry does: whatever decides a result is a constant in `limits`.

mod apply;
mod blocks;
mod cache;
mod command;
mod dedup;
mod digest;
mod flush;
mod invariants;
mod limits;
mod memory;
mod moves;
mod origins;
mod peek;
mod producers;
mod queue;
mod ranges;
mod reach;
mod read;
mod states;
mod timers;
mod validate;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{QueueId, ShardTime, TopologyIndex};

use crate::rows::{Row, RowKey, Rows, ShardRow};

pub use limits::{
    CANCELS_REMEMBERED, EXCEPTIONS_MAX, MARK_AHEAD_MAX, ORIGIN_BATCHES_REMEMBERED, OUTGOING_MAX,
    PARKED_DROPPED_AT_ONCE, PLACED_BATCHES_REMEMBERED, PLACES_MAX, PRODUCER_IDLE_MS_MAX,
    PRODUCER_WINDOW, PRODUCERS_MAX, RELEASED_RANGES_MAX, TIMER_RECHECK_MS,
};
pub use peek::{PeekedMessage, PeekedPage, PeekedState};
pub use read::ReadMessage;
pub use validate::EntryError;
pub use views::{LevelStats, QueueStats};

use cache::Cache;
use moves::Moves;
use origins::Origins;
use queue::Queue;
use reach::Reach;

/// How much a replica keeps at hand. May differ from node to node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// Descriptors of blocks in memory, over all queues of the shard. What an entry touches stays until its end.
    pub cached_blocks_max: usize,
    /// Messages those descriptors may describe together.
    pub cached_messages_max: u64,
    /// Producers listed in memory, over all queues; beyond it the lists are dropped and read again when needed.
    pub listed_producers_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cached_blocks_max: 1_024,
            cached_messages_max: 65_536,
            listed_producers_max: 20_000,
        }
    }
}

/// One shard's replicated state.
#[derive(Debug)]
pub struct Store {
    options: StoreOptions,
    shard: ShardRow,
    queues: BTreeMap<QueueId, Queue>,
    origins: Origins,
    moves: Moves,
    cache: Cache,
    /// Sum of the digests of the queue rows.
    queues_digest: u64,
    /// Producers listed in memory, over all queues: at least as many as there are, put right when the lists are dropped.
    producers_listed: usize,
    /// Queues the current entry touched, in the order it did.
    touched: Vec<QueueId>,
    /// Queues the current entry deleted: their rows still show in `Rows`, so their ids stay shut until it ends.
    deleted: BTreeSet<QueueId>,
    /// The current entry moved the time or the topology index.
    shard_touched: bool,
}

impl Store {
    /// The store as the rows describe it: after a start, or a snapshot.
    #[must_use]
    pub fn open(rows: &dyn Rows, options: StoreOptions) -> Self {
        let shard = rows
            .get(&RowKey::Shard)
            .and_then(Row::into_shard)
            .unwrap_or_default();
        let queues: BTreeMap<QueueId, Queue> = rows
            .queues()
            .into_iter()
            .map(|row| (row.queue, Queue::open(row)))
            .collect();
        let queues_digest = queues
            .values()
            .fold(0_u64, |sum, queue| sum.wrapping_add(queue.digest));
        Self {
            options,
            shard,
            queues,
            origins: Origins::open(rows.origins()),
            moves: Moves::open(rows.outgoing()),
            cache: Cache::default(),
            queues_digest,
            producers_listed: 0,
            touched: Vec::new(),
            deleted: BTreeSet::new(),
            shard_touched: false,
        }
    }

    /// The shard's time: the highest stamp applied.
    #[must_use]
    pub fn now(&self) -> ShardTime {
        self.shard.now
    }

    /// The highest topology index any entry carried.
    #[must_use]
    pub fn topology(&self) -> TopologyIndex {
        self.shard.topology
    }

    /// A queue that the current entry is about to change, and the way to its blocks.
    fn touch<'a>(
        &'a mut self,
        rows: &'a dyn Rows,
        id: QueueId,
    ) -> Option<(&'a mut Queue, Reach<'a>)> {
        let queue = self.queues.get_mut(&id)?;
        if !queue.touched {
            queue.touched = true;
            self.touched.push(id);
        }
        Some((
            queue,
            Reach {
                rows,
                cache: &mut self.cache,
            },
        ))
    }

    fn topology_seen(&mut self, index: TopologyIndex) {
        if index > self.shard.topology {
            self.shard.topology = index;
            self.shard_touched = true;
        }
    }
}
