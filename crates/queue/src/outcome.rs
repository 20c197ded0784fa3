//! What `apply` answers: replies and effects, equal on all replicas; effects matter on the leader only. Not here: the changes to rows (`rows`).

use std::sync::Arc;

use bytes::Bytes;
use warren_types::{
    BatchSequence, Facts, Incarnation, NotStored, Position, PositionRange, Priority, QueueId, Run,
    ShardId, ShardTime,
};

use crate::entry::{EndedDelivery, ParkCause, ProposalId, ReturnKind, SettleReason};
use crate::rows::{Change, OutgoingRow};

/// Filled by `apply`, reused between calls.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows every replica writes in one batch with the applied id.
    pub changes: Vec<Change>,
    /// Applied entries with their answers, in order.
    pub entries: Vec<EntryOutcome>,
    /// What the leader's dispatcher must hear, in order.
    pub effects: Vec<Effect>,
}

/// The answer to one entry.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryOutcome {
    pub proposal: ProposalId,
    /// One per command.
    pub replies: Vec<Reply>,
    pub batches: Vec<BatchOutcome>,
}

/// What one command did. A command that no longer made sense is a recorded no-op.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Enqueued {
        first: Position,
        count: u64,
    },
    /// How many of the named messages were live and left.
    Settled {
        count: u64,
    },
    Returned {
        count: u64,
    },
    Marked,
    Released {
        count: u64,
    },
    Created,
    Deleted {
        messages: u64,
    },
    Purged {
        count: u64,
    },
    /// The fencing number in force.
    Activated {
        fencing: u64,
    },
    /// So many are on their way.
    MovedOut {
        count: u64,
    },
    Arrived,
    Parked {
        count: u64,
    },
    Rearmed,
    #[cfg(feature = "next-version")]
    Noted,
    /// So many of an atomic batch are stored: all but duplicates, or none.
    EnqueuedTogether {
        count: u64,
    },
    /// Acked and its outputs stored, or nothing happened.
    AckedWithOutputs {
        is_done: bool,
    },
    /// Deliveries ended and what comes with it is stored, or nothing happened.
    SettledTogether {
        is_done: bool,
    },
    /// So many were scheduled, and left.
    Cancelled {
        count: u64,
    },
    /// Of so many messages it is remembered.
    Remarked {
        count: u64,
    },
    /// The queue does not exist (any more).
    QueueGone,
}

/// Messages and their body bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub messages: u64,
    pub body_bytes: u64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.body_bytes += other.body_bytes;
    }

    /// Never below nothing: what is taken was there.
    pub fn take(&mut self, other: Self) {
        debug_assert!(other.messages <= self.messages && other.body_bytes <= self.body_bytes);
        self.messages = self.messages.saturating_sub(other.messages);
        self.body_bytes = self.body_bytes.saturating_sub(other.body_bytes);
    }
}

/// What left a queue, and in which states it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    pub all: Tally,
    /// Of all: not due yet.
    pub scheduled: Tally,
    /// Of all: set aside.
    pub parked: Tally,
}

impl Left {
    pub fn add(&mut self, other: Self) {
        self.all.add(other.all);
        self.scheduled.add(other.scheduled);
        self.parked.add(other.parked);
    }
}

/// The answer to one numbered batch of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    pub incarnation: Incarnation,
    pub run: Run,
    pub sequence: BatchSequence,
    pub verdict: BatchVerdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchVerdict {
    /// Taken. Messages not listed are stored; `(index in the batch, why)`, ascending.
    Taken {
        exceptions: Vec<(u32, NotStored)>,
        /// Where the first message of each part is, in order, if the batch has scheduled messages; else empty. 0 = nothing of the part
        /// is stored.
        places: Vec<Position>,
    },
    /// At or below the last one taken: what was recorded then.
    Duplicate {
        exceptions: Vec<(u32, NotStored)>,
        places: Vec<Position>,
    },
    /// Older than the results that are kept: it was taken, its exceptions are forgotten.
    DuplicateForgotten,
    /// Not the next one: resume after `last`.
    Gap { last: BatchSequence },
    /// A newer run of the node is known.
    OldRun { current: Run },
}

/// What changed for the dispatcher.
#[derive(Debug, Clone)]
pub enum Effect {
    QueueCreated {
        queue: QueueId,
    },
    QueueDeleted {
        queue: QueueId,
    },
    /// A block was added.
    Added(Added),
    /// These left, for good.
    Settled {
        queue: QueueId,
        ranges: Vec<PositionRange>,
        reason: SettleReason,
        left: Left,
    },
    /// An ack with outputs did nothing.
    OutputsRefused(OutputsRefused),
    /// Deliveries that were to end in one did not.
    TogetherRefused(TogetherRefused),
    /// They did; the first of them. Those that are dead letters are on their way.
    TogetherDone {
        first: EndedDelivery,
    },
    /// These go back to ready; `counts` has one `(delivery count, acquired count)` per position of `ranges`, in order.
    Returned {
        queue: QueueId,
        ranges: Vec<PositionRange>,
        counts: Vec<(u32, u32)>,
        kind: ReturnKind,
        not_before: Option<ShardTime>,
    },
    /// The hand-out mark of a priority is now here.
    Raised {
        queue: QueueId,
        priority: Priority,
        mark: Position,
    },
    /// Taken out of "released, not handed out" (`HandOut::positions`): these may be handed out now. One per command that names some.
    Taken {
        queue: QueueId,
        priority: Priority,
        ranges: Vec<PositionRange>,
    },
    /// Scheduled messages of a priority are ready.
    Released(Released),
    /// Deliveries are set aside.
    Parked {
        queue: QueueId,
        ranges: Vec<PositionRange>,
        cause: ParkCause,
        tally: Tally,
    },
    /// Timers of the queue were set anew.
    Rearmed {
        queue: QueueId,
    },
    Purged {
        queue: QueueId,
        ranges: Vec<PositionRange>,
        left: Left,
    },
    /// One per command that asks to cancel, also if nothing left or the queue is gone.
    Cancelled(Cancelled),
    /// A single active consumer was activated; the number in force.
    Activated {
        queue: QueueId,
        fencing: u64,
    },
    /// These messages are on their way to another shard under this number; the leader sends them.
    Outgoing {
        shard: ShardId,
        number: u64,
        row: OutgoingRow,
    },
    /// No queue took these: they are to be decided on anew.
    NotMoved {
        queue: QueueId,
        ranges: Vec<PositionRange>,
        reason: SettleReason,
    },
    /// The shard's time after this entry.
    Time {
        now: ShardTime,
    },
}

/// Why an ack with outputs did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputsRefused {
    pub queue: QueueId,
    pub position: Position,
    /// The first output that is not stored, of all in their order.
    pub index: u32,
    pub why: NotStored,
}

/// Deliveries that were to end in one, and did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TogetherRefused {
    pub deliveries: Vec<EndedDelivery>,
    pub why: WhyNotTogether,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNotTogether {
    /// This message of those that were to come with it is not stored, the first of all in their order.
    Output { index: u32, why: NotStored },
    /// One of the deliveries has left its queue.
    Left,
    /// A queue of the deliveries is gone.
    QueueGone,
    /// One would be a dead letter, and nothing takes it now: no queue, or too many are on their way.
    DeadLetter,
}

/// Messages that came due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    pub queue: QueueId,
    pub priority: Priority,
    pub ranges: Vec<PositionRange>,
    /// Hashes of their group keys, in order; 0 = none.
    pub groups: Vec<u64>,
    pub tally: Tally,
    /// They may be handed out at once.
    pub hand_out: bool,
}

/// What became of messages that were to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    pub queue: QueueId,
    /// These were scheduled and left, now.
    pub ranges: Vec<PositionRange>,
    pub left: Left,
    /// These left in this way before, as far as the queue remembers.
    pub before: Vec<PositionRange>,
    /// There never were such messages, or their queue is gone. The rest is too late: no more scheduled, or no more there.
    pub unknown: Vec<PositionRange>,
}

/// A block that was just stored, with its bytes while they are at hand.
#[derive(Debug, Clone)]
pub struct Added {
    pub queue: QueueId,
    pub block: BlockRef,
    pub facts: Arc<Facts>,
    pub payload: Bytes,
    /// Positions of the block that were not stored (duplicates, refused): settled from the start.
    pub absent: Vec<PositionRange>,
    /// What was stored.
    pub tally: Tally,
    /// Of it: not due yet.
    pub scheduled: Tally,
    /// When the block wants to be looked at: something comes due or expires.
    pub wake: Option<ShardTime>,
}

/// Names a block: messages `first .. first + count` of one queue and priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    pub priority: Priority,
    pub first: Position,
    pub count: u32,
}
