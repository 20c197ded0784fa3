//! A message as it is stored, and the few facts about it that the machines need without looking into it.
//! Not here: formats (`codec`), routing (`topology`), sessions (`gateway`).

use bytes::Bytes;

use crate::{ExchangeName, Priority, Properties, QueueId, RoutingKey, ShardTime, UserName};

/// One message as a session took it from a client: names checked, properties in canonical form, body untouched.
#[derive(Clone, Debug)]
pub struct Message {
    /// As published; the default exchange is the empty name.
    pub exchange: ExchangeName,
    pub routing_key: RoutingKey,
    pub properties: Properties,
    pub body: Bytes,
    pub priority: Priority,
    /// Milliseconds after which it expires, counted from when it is enqueued.
    pub ttl_ms: Option<u64>,
    /// Milliseconds after which it becomes ready, counted from when it is enqueued.
    pub delay_ms: Option<u64>,
    /// Hash of the group key (message groups); 0 = none.
    pub group_hash: u64,
    /// Hash of the fairness key; 0 = none.
    pub fairness_hash: u64,
    /// Hash of the deduplication key; 0 = none.
    pub dedup_hash: u64,
    pub user: Option<UserName>,
    /// W3C `traceparent` and `tracestate`, joined by a line feed; empty = none.
    pub trace: Bytes,
    /// It was dead-lettered here: its `x-death` headers are the broker's own.
    pub died: bool,
}

/// The facts of the messages of one block, one column per fact. All columns have the block's count of entries;
/// an optional column that is empty says "none has it".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Encoded bytes of each message in the block's payload, in order: their running sum gives the offsets.
    pub size: Vec<u32>,
    /// Body bytes of each message, which credit and limits count.
    pub body_size: Vec<u32>,
    pub expiry: Vec<Option<ShardTime>>,
    pub due: Vec<Option<ShardTime>>,
    pub group_hash: Vec<u64>,
    pub fairness_hash: Vec<u64>,
    pub dedup_hash: Vec<u64>,
    /// Hash of each body, for queues that deduplicate; 0 = not told. Not kept once the message is stored.
    pub dedup_body: Vec<u64>,
}

impl Facts {
    /// Messages in the block.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.size.len() as u64
    }

    /// Total of the body sizes.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_size.iter().map(|&bytes| u64::from(bytes)).sum()
    }
}

/// A producer that wants its publishes stored once: its own id and the epoch that fences its predecessors (features X8).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProducerId(pub Bytes);

/// Which messages of a block one producer numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSpan {
    pub producer: ProducerId,
    pub epoch: u64,
    /// `(index in the block, the producer's sequence)`, indexes ascending.
    pub sequences: Vec<(u32, u64)>,
}

/// Why one message of an enqueue was not stored, or was not stored again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NotStored {
    /// The queue is gone: counts as unroutable.
    QueueGone,
    /// The producer's sequence is stored already: a success.
    Duplicate,
    /// The producer's sequence is older than what is remembered: refused, never dropped unseen.
    SequenceTooOld,
    /// A newer epoch of the producer has taken over.
    ProducerFenced,
    /// The queue is at its limit and refuses.
    QueueFull,
    /// Same deduplication key, other body.
    DedupConflict,
    /// The batch came twice or out of order from its node; the node resumes from the last one taken.
    BatchRefused,
    /// Another message of the atomic batch is not stored.
    BatchAborted,
}

/// A message handed to a consumer.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub queue: QueueId,
    pub position: crate::Position,
    pub attempt: crate::Attempt,
    pub redelivered: bool,
    /// Counted failed attempts so far.
    pub delivery_count: u32,
    /// Hand-outs so far, this one not counted; best effort across a change of leader.
    pub acquired_count: u32,
    /// The stored message's encoding; `codec` opens it without copying.
    pub message: Bytes,
}
