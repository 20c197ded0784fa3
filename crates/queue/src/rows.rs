//! The rows a shard's store keeps, and the synchronous view it reads them through. Not here: their bytes and keys (`codec`), the disk (`storage`).
//!
//! In tests the view is a `BTreeMap`, in production RocksDB under an overlay of what is not written yet; so a long queue never has to be in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use warren_types::{
    BatchSequence, ExchangeName, Facts, Incarnation, NotStored, Position, PositionRange, Priority,
    ProducerId, QueueId, QueueName, RoutingKey, Run, ShardId, ShardTime, TopologyIndex, VhostId,
};

use crate::entry::{ParkCause, Said, SettleReason};

/// Names a row. The order is the storage order: rows of a queue lie together, blocks of a priority in position order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RowKey {
    Shard,
    Origin(Incarnation),
    Queue(QueueId),
    /// The messages of one block. Put once, deleted once, never rewritten.
    Block {
        queue: QueueId,
        priority: Priority,
        first: Position,
    },
    /// What is settled of a block that is not wholly settled; overwritten. Same name as its block.
    Settled {
        queue: QueueId,
        priority: Priority,
        first: Position,
    },
    /// Counts of returned messages of a block. Same name as its block.
    Counts {
        queue: QueueId,
        priority: Priority,
        first: Position,
    },
    Producer {
        queue: QueueId,
        producer: ProducerId,
    },
    /// States of messages of a block: released, parked. Same name as its block.
    Marks {
        queue: QueueId,
        priority: Priority,
        first: Position,
    },
    /// When a block wants to be looked at: something of it comes due or expires. At most one per block.
    Timer {
        queue: QueueId,
        at: ShardTime,
        priority: Priority,
        first: Position,
    },
    /// Something a queue remembers for a while.
    Memory {
        queue: QueueId,
        of: MemoryOf,
        key: u64,
    },
    /// The same by its number, for forgetting the oldest.
    MemoryOrder {
        queue: QueueId,
        of: MemoryOf,
        number: u64,
    },
    /// Messages on their way to another shard, by their number there.
    Outgoing {
        shard: ShardId,
        number: u64,
    },
}

impl RowKey {
    /// The queue whose row it is; `None`: it belongs to the shard.
    #[must_use]
    pub fn queue(&self) -> Option<QueueId> {
        match self {
            Self::Queue(queue)
            | Self::Block { queue, .. }
            | Self::Settled { queue, .. }
            | Self::Counts { queue, .. }
            | Self::Producer { queue, .. }
            | Self::Marks { queue, .. }
            | Self::Timer { queue, .. }
            | Self::Memory { queue, .. }
            | Self::MemoryOrder { queue, .. } => Some(*queue),
            Self::Shard | Self::Origin(_) | Self::Outgoing { .. } => None,
        }
    }
}

/// What a queue remembers for a while: facts under keys of 64 bits, in the order in which they came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MemoryOf {
    /// Cancelled messages, by position.
    Cancels,
    /// Stored messages, by the hash of their deduplication key.
    Dedup,
    /// Messages that were acked with outputs, by position; checked by their attempt.
    Outputs,
}

impl MemoryOf {
    pub const ALL: [Self; 3] = [Self::Cancels, Self::Dedup, Self::Outputs];
}

#[derive(Clone, PartialEq, Debug)]
pub enum Row {
    Shard(ShardRow),
    Origin(OriginRow),
    Queue(QueueRow),
    Block(BlockRow),
    Settled(SettledRow),
    Counts(CountsRow),
    Producer(ProducerRow),
    Outgoing(OutgoingRow),
    Marks(MarksRow),
    /// Its key says it all.
    Timer,
    Memory(MemoryRow),
    MemoryOrder(MemoryOrderRow),
}

impl Row {
    /// The row's value, if it is of this kind.
    #[must_use]
    pub fn into_shard(self) -> Option<ShardRow> {
        if let Self::Shard(row) = self {
            Some(row)
        } else {
            None
        }
    }

    /// The row's value, if it is of this kind.
    #[must_use]
    pub fn into_settled(self) -> Option<SettledRow> {
        if let Self::Settled(row) = self {
            Some(row)
        } else {
            None
        }
    }

    /// The row's value, if it is of this kind.
    #[must_use]
    pub fn into_counts(self) -> Option<CountsRow> {
        if let Self::Counts(row) = self {
            Some(row)
        } else {
            None
        }
    }

    /// The row's value, if it is of this kind.
    #[must_use]
    pub fn into_producer(self) -> Option<ProducerRow> {
        if let Self::Producer(row) = self {
            Some(row)
        } else {
            None
        }
    }

    /// The row's value, if it is of this kind.
    #[must_use]
    pub fn into_memory(self) -> Option<MemoryRow> {
        if let Self::Memory(row) = self {
            Some(row)
        } else {
            None
        }
    }

    /// The row's value, if it is of this kind.
    #[must_use]
    pub fn into_memory_order(self) -> Option<MemoryOrderRow> {
        if let Self::MemoryOrder(row) = self {
            Some(row)
        } else {
            None
        }
    }

    /// The row's value, if it is of this kind.
    #[must_use]
    pub fn into_marks(self) -> Option<MarksRow> {
        if let Self::Marks(row) = self {
            Some(row)
        } else {
            None
        }
    }
}

/// One change to the rows.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    Put(RowKey, Row),
    Delete(RowKey),
    /// Every row of a deleted queue: its blocks and all that goes with them, and producers (not `RowKey::Queue` itself).
    DeleteQueueRows(QueueId),
}

/// Facts of the shard as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardRow {
    /// The last stamp; time never runs behind it.
    pub now: ShardTime,
    /// The highest topology index any entry carried.
    pub topology: TopologyIndex,
    /// The last number given to messages on their way, by target shard.
    pub moved_out: BTreeMap<ShardId, u64>,
}

/// Messages on their way to queues of another shard, under one number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutgoingRow {
    pub queue: QueueId,
    pub ranges: Vec<PositionRange>,
    /// Where to.
    pub queues: Vec<QueueId>,
    pub reason: SettleReason,
    /// The dead-letter exchange they go through.
    pub exchange: ExchangeName,
    /// The routing key they go on under; `None` = each its own.
    pub routing_key: Option<RoutingKey>,
    /// They get this priority, and go on as they were published otherwise.
    pub priority: Option<u8>,
    /// When it was decided.
    pub at: ShardTime,
    /// Of the messages: those that another shard has stored.
    pub arrived: Vec<PositionRange>,
}

/// What a node (one incarnation of it) has sent so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginRow {
    pub run: Run,
    pub last: BatchSequence,
    /// Recent batches of this run that were not simply stored: their exceptions. Bounded, oldest forgotten first.
    pub exceptions: Vec<(BatchSequence, Vec<(u32, NotStored)>)>,
    /// Exceptions of batches below this are forgotten.
    pub remembered_from: BatchSequence,
    /// Of recent batches with scheduled messages: where the first message of each part is. Bounded, oldest forgotten first.
    pub places: Vec<(BatchSequence, Vec<Position>)>,
}

/// A queue's counters and marks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueRow {
    pub queue: QueueId,
    pub vhost: VhostId,
    pub name: QueueName,
    /// The next position to be given.
    pub next: Position,
    /// Per priority that has ever been used, ascending.
    pub levels: Vec<LevelRow>,
    pub counters: Counters,
    /// Fencing number of the last activation of a single active consumer; 0 = there was none.
    pub fencing: u64,
    /// What it remembers for a while, ascending, each kind from its first use on.
    pub memories: Vec<(MemoryOf, MemorySpan)>,
    #[cfg(feature = "next-version")]
    pub note: u64,
}

/// The numbers of what a memory holds: `first` up to, not including, `next`. They begin at 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemorySpan {
    pub first: u64,
    pub next: u64,
}

impl Default for MemorySpan {
    fn default() -> Self {
        Self { first: 1, next: 1 }
    }
}

/// One thing that is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryRow {
    pub number: u64,
    /// When it came.
    pub at: ShardTime,
    /// Tells it from another thing with the same key; 0 = nothing does.
    pub check: u64,
}

/// The key of what has a number. It may have come again since, under a later number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryOrderRow {
    pub key: u64,
    pub at: ShardTime,
}

/// One priority of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LevelRow {
    pub priority: Priority,
    /// No block of this priority begins below this position.
    pub head: Position,
    /// Live messages of the priority.
    pub live: u64,
    /// Messages at or above were never handed out.
    pub handed_out: Position,
    /// Below the mark or released, yet never handed out.
    pub released: Vec<PositionRange>,
    /// Of the live ones: not due yet.
    pub scheduled: u64,
    /// Of the live ones: set aside.
    pub parked: u64,
}

/// Totals since the queue was made; `enqueued = live + settled (all reasons) + purged` always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    pub enqueued: u64,
    pub acked: u64,
    pub rejected: u64,
    pub expired: u64,
    pub dropped: u64,
    pub dead_lettered: u64,
    pub no_ack: u64,
    pub purged: u64,
    /// Taken back before they were due.
    pub cancelled: u64,
    /// Not stored, since they are there or were: confirmed all the same. None of the others counts them.
    pub duplicates: u64,
    /// Body bytes of live messages.
    pub live_body_bytes: u64,
    /// Of them: of messages that are not due yet.
    pub scheduled_body_bytes: u64,
    /// Of them: of messages that are set aside.
    pub parked_body_bytes: u64,
}

/// One stored block.
#[derive(Clone, PartialEq, Debug)]
pub struct BlockRow {
    pub first: Position,
    pub facts: Arc<Facts>,
    pub payload: Bytes,
}

/// Settled messages of a block, as ranges of positions: ascending, joined.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SettledRow {
    pub ranges: Vec<PositionRange>,
}

/// `(position, delivery count, acquired count)` of messages that came back, ascending.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CountsRow {
    pub counts: Vec<(Position, u32, u32)>,
    /// Those of them that are not ready again before a time.
    pub delayed: Vec<(Position, ShardTime)>,
    /// What consumers said of messages, ascending; of each, oldest first. These need no counts.
    pub said: Vec<(Position, Vec<SaidAt>)>,
}

impl CountsRow {
    /// What consumers said of a message, oldest first.
    #[must_use]
    pub fn said_of(&self, position: Position) -> Vec<SaidAt> {
        let found = self.said.binary_search_by_key(&position, |(at, _)| *at);
        let said = found.ok().and_then(|at| self.said.get(at));
        said.map_or(Vec::new(), |(_, said)| said.clone())
    }
}

/// What a consumer said, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SaidAt {
    pub at: ShardTime,
    pub said: Said,
}

/// States of messages of a block that most blocks have none of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MarksRow {
    /// Stored with a due time, and due since. Ascending, joined.
    pub released: Vec<PositionRange>,
    /// Set aside, ascending.
    pub parked: Vec<(Position, ParkCause)>,
    /// The time of the block's timer, where it is not the first its facts name; `ShardTime(u64::MAX)` = it has none.
    pub timer: Option<ShardTime>,
}

/// What a queue remembers of one producer: the newest epoch, the highest sequence, and which of the 1,024 numbers below it were stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerRow {
    pub epoch: u64,
    pub last: u64,
    /// Bit `n` set: `last - n` was stored. 16 words of 64 bits.
    pub window: Vec<u64>,
    /// When it last published; idle producers are forgotten.
    pub seen: ShardTime,
}

/// A synchronous, consistent view of one shard's rows. Reads see the rows as of before the current call of `apply`
/// plus the changes handed over since (the caller keeps the overlay). Damage is not an answer: an implementation that finds it stops the replica.
pub trait Rows {
    fn get(&self, key: &RowKey) -> Option<Row>;

    /// The first block of this queue and priority that begins at or after `from`.
    fn block_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<BlockRow>;

    /// The block of this queue and priority that holds `position`: the last one that begins at or before it.
    fn block_holding(
        &self,
        queue: QueueId,
        priority: Priority,
        position: Position,
    ) -> Option<BlockRow>;

    /// Every queue row, ascending, for opening the store.
    fn queues(&self) -> Vec<QueueRow>;

    /// Every origin row, for opening the store.
    fn origins(&self) -> Vec<(Incarnation, OriginRow)>;

    /// Everything on its way to other shards, for opening the store.
    fn outgoing(&self) -> Vec<((ShardId, u64), OutgoingRow)>;
    /// The first timers of a queue, by time: at most `max`.
    fn timers(&self, queue: QueueId, max: usize) -> Vec<(ShardTime, Priority, Position)>;

    /// Every counts row of a queue that delays a message, for opening the dispatcher.
    fn delayed(&self, queue: QueueId) -> Vec<(Priority, CountsRow)>;

    /// The first block of this queue and priority at or after `from` that has a row of marks.
    fn marks_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<(Position, MarksRow)>;

    /// Every producer a queue remembers, with when it was last seen; any order.
    fn producers(&self, queue: QueueId) -> Vec<(ProducerId, ShardTime)>;
}
