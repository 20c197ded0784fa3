//! What one log entry tells a shard: facts, decided before they were proposed. Not here: their effect (`store`), their bytes (`codec`).

use bytes::Bytes;

mod together;

pub use together::{EndedDelivery, Ending, SettleTogether};
use warren_types::{
    Attempt, BatchSequence, ClusterVersion, ExchangeName, Facts, Incarnation, LogIndex, NodeId,
    Position, PositionRange, Priority, ProducerSpan, QueueId, QueueName, RoutingKey, Run, ShardId,
    ShardTime, Term, TopologyIndex, VhostId,
};

/// The payload of one normal entry of a shard's log; applied whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardEntry {
    /// Tells the proposing leader which of its proposals this is.
    pub proposal: ProposalId,
    /// The leader's stamp; `apply` never lets it run backwards.
    pub now: ShardTime,
    /// The leader's applied topology when it proposed.
    pub topology: TopologyIndex,
    /// The numbered batches of nodes that this entry carries.
    pub origins: Vec<OriginBatch>,
    pub commands: Vec<Command>,
}

/// Which proposal an entry is: unique over all leaders of a shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ProposalId {
    pub node: NodeId,
    pub run: Run,
    pub number: u64,
}

/// One batch that a node sent to the shard, and which messages of this entry's blocks are its.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginBatch {
    pub incarnation: Incarnation,
    pub run: Run,
    pub sequence: BatchSequence,
    /// In the order in which the batch named them.
    pub parts: Vec<OriginPart>,
}

/// `count` messages of the block that command number `command` of the entry stores, from `first` (index in the block) on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginPart {
    pub command: u32,
    pub first: u32,
    pub count: u32,
}

/// When and where an entry is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyContext {
    pub index: LogIndex,
    pub term: Term,
}

/// A fact about a shard's queues. Stored for ever: never change what a command means, add a new one.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "most commands of a busy shard are of the large kind; boxing would cost an allocation for each"
)]
pub enum Command {
    Enqueue(Enqueue),
    Settle(Settle),
    Return(Return),
    HandOut(HandOut),
    Release(Release),
    CreateQueue(CreateQueue),
    DeleteQueue(DeleteQueue),
    Purge(Purge),
    Activate(Activate),
    MoveOut(MoveOut),
    Arrived(Arrived),
    Park(Park),
    DropParked(DropParked),
    Rearm(Rearm),
    Cancel(Cancel),
    EnqueueTogether(EnqueueTogether),
    AckWithOutputs(AckWithOutputs),
    Remark(Remark),
    SettleTogether(SettleTogether),
    #[cfg(feature = "next-version")]
    Note(Note),
}

impl Command {
    /// The version that a cluster must have finalised before this is proposed. A new command, or a new field of one, needs a new
    /// version.
    #[must_use]
    pub fn since(&self) -> ClusterVersion {
        match self {
            Self::Enqueue(_)
            | Self::Settle(_)
            | Self::Return(_)
            | Self::HandOut(_)
            | Self::Release(_)
            | Self::CreateQueue(_)
            | Self::DeleteQueue(_)
            | Self::Purge(_)
            | Self::Activate(_)
            | Self::MoveOut(_)
            | Self::Arrived(_)
            | Self::Park(_)
            | Self::DropParked(_)
            | Self::Rearm(_)
            | Self::Cancel(_)
            | Self::EnqueueTogether(_)
            | Self::AckWithOutputs(_)
            | Self::Remark(_) => ClusterVersion::FIRST,
            Self::SettleTogether(_) => SettleTogether::SINCE,
            #[cfg(feature = "next-version")]
            Self::Note(_) => ClusterVersion(3),
        }
    }
}

/// Adds one block: messages of one queue and one priority, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Enqueue {
    pub queue: QueueId,
    pub priority: Priority,
    pub facts: Facts,
    /// The messages' encodings, one after the other, lengths in `facts.size`.
    pub payload: Bytes,
    pub producers: Vec<ProducerSpan>,
    /// Raises the hand-out mark of the priority to at least the queue's next position after this block plus so many.
    pub raise: Option<u32>,
    /// Messages of the block, by index, that the queue's limit refuses: they are not stored, and have no bytes.
    pub full: Vec<IndexRange>,
    /// Messages whose key the queue remembers are not stored again; `None` = keys mean nothing.
    pub dedup: Option<Dedup>,
}

/// How long and how many deduplication keys a queue remembers (features X8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedup {
    pub window_ms: u64,
    pub keys_max: u64,
}

/// The blocks of an atomic batch (features A20): if one of their messages is refused for a reason other than being a duplicate, none is
/// stored. Parts of batches count messages through the blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct EnqueueTogether {
    pub blocks: Vec<Enqueue>,
}

/// A delivery is acked and messages come into queues of the shard, all of it or nothing (features X4). Nothing happens if a message is
/// refused for a reason other than being a duplicate, or the delivery has left its queue. That it happened is remembered under the
/// delivery's position and attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AckWithOutputs {
    pub queue: QueueId,
    pub position: Position,
    /// Under which it was handed out.
    pub attempt: Attempt,
    pub blocks: Vec<Enqueue>,
}

/// `count` messages of a block from index `first` on; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRange {
    pub first: u32,
    pub count: u32,
}

/// Messages leave the queue for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub queue: QueueId,
    /// Ascending, not overlapping.
    pub ranges: Vec<PositionRange>,
    pub reason: SettleReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SettleReason {
    Acked,
    /// Rejected without requeue and without a dead-letter target.
    Rejected,
    Expired,
    /// Removed by a length limit.
    Dropped,
    /// Moved to another queue.
    DeadLettered,
    /// Delivered to a consumer that does not acknowledge.
    NoAck,
    /// Too many failed deliveries, and a dead-letter target that did not take it.
    DeliveryLimit,
    /// Deleted by an operator, one of a selection (features X10).
    Purged,
}

/// Deliveries go back to ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    pub queue: QueueId,
    pub ranges: Vec<PositionRange>,
    pub kind: ReturnKind,
    /// Not ready again before this time.
    pub not_before: Option<ShardTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnKind {
    /// A failed attempt: the delivery count rises (features A5).
    Failed,
    /// Given back untouched: only the acquired count rises.
    Untouched,
}

/// Allows messages to be handed out: what lies below the mark may have been seen by a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOut {
    pub queue: QueueId,
    pub priority: Priority,
    /// The mark rises to at least this position.
    pub up_to: Option<Position>,
    /// Below the new mark, but passed over: they join "released, not handed out".
    pub except: Vec<PositionRange>,
    /// Taken out of "released, not handed out".
    pub positions: Vec<PositionRange>,
}

/// Scheduled messages come due: they are ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub queue: QueueId,
    pub ranges: Vec<PositionRange>,
    /// They may be handed out at once; else they join "released, not handed out".
    pub hand_out: bool,
}

/// Scheduled messages are taken back before they are due (features A30).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    pub queue: QueueId,
    /// Ascending, not overlapping.
    pub ranges: Vec<PositionRange>,
}

/// Deliveries are set aside: kept, counted, never handed out (features B49).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Park {
    pub queue: QueueId,
    pub ranges: Vec<PositionRange>,
    pub cause: ParkCause,
    /// How the attempt that led here counts.
    pub kind: ReturnKind,
}

/// What a consumer says of deliveries that it is about to give back (features X6); comes before the command that does it. Kept while the
/// message is in its queue, and goes along when it becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub queue: QueueId,
    /// Ascending, not overlapping.
    pub ranges: Vec<PositionRange>,
    pub said: Said,
}

/// A consumer's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub outcome: AttemptOutcome,
    /// At most [`Said::REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// At most [`Said::DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
    /// The tag of the consumer that had it; empty = settled by receipt. At most [`Said::REASON_BYTES_MAX`] bytes.
    pub consumer: String,
}

impl Said {
    pub const REASON_BYTES_MAX: usize = 255;
    pub const DETAIL_BYTES_MAX: usize = 1_024;
    const OVERHEAD_BYTES: usize = 128;

    /// Cut to what is kept, at a character. `None`: nothing was said.
    #[must_use]
    pub fn new(
        outcome: AttemptOutcome,
        reason: &str,
        detail: &str,
        consumer: &str,
    ) -> Option<Self> {
        if reason.is_empty() && detail.is_empty() {
            return None;
        }
        let cut = |text: &str, max: usize| {
            let end = text.floor_char_boundary(max);
            text.get(..end).unwrap_or_default().to_owned()
        };
        Some(Self {
            outcome,
            reason: cut(reason, Self::REASON_BYTES_MAX),
            detail: cut(detail, Self::DETAIL_BYTES_MAX),
            consumer: cut(consumer, Self::REASON_BYTES_MAX),
        })
    }

    /// What it takes, roughly, wherever it is kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.reason.len() + self.detail.len() + self.consumer.len() + Self::OVERHEAD_BYTES
    }
}

/// How an attempt ended that a consumer said something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// Rejected: dropped, or sent to the dead-letter target.
    Rejected,
    /// Set aside in its queue.
    Parked,
    /// Given back as failed.
    Failed,
    /// Given back, not as failed.
    Returned,
}

impl AttemptOutcome {
    /// As clients read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Parked => "parked",
            Self::Failed => "failed",
            Self::Returned => "returned",
        }
    }
}

/// Beyond a number of parked messages the oldest are dropped (features B49).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropParked {
    pub queue: QueueId,
    /// So many stay. What is on its way to another queue counts, but is not dropped.
    pub keep: u64,
}

/// Why a message is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParkCause {
    /// Too many failed deliveries, and no dead-letter target.
    DeliveryLimit,
    /// A consumer asked for it.
    Rejected,
    /// As a dead letter it would go round in circles (features B46).
    Cycle,
}

/// Blocks whose timers rang with nothing to do: they are set to what comes next after the entry's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rearm {
    pub queue: QueueId,
    pub blocks: Vec<(Priority, Position)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateQueue {
    pub queue: QueueId,
    pub vhost: VhostId,
    /// For people who read dumps; the id is the identity.
    pub name: QueueName,
    pub topology: TopologyIndex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteQueue {
    pub queue: QueueId,
    pub topology: TopologyIndex,
}

/// A single active consumer is activated (features B33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activate {
    pub queue: QueueId,
    /// Higher than that of every earlier activation of the queue.
    pub fencing: u64,
}

/// Messages begin their way to queues of other shards (or of this one): they get the next number of each such shard, and stay until all of
/// them have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveOut {
    pub queue: QueueId,
    pub ranges: Vec<PositionRange>,
    /// Why they leave.
    pub reason: SettleReason,
    /// The dead-letter exchange they go through.
    pub exchange: ExchangeName,
    /// The routing key they go on under; `None` = each its own.
    pub routing_key: Option<RoutingKey>,
    /// They get this priority, as publishers name it, and go on as they were published otherwise (features X10).
    pub priority: Option<u8>,
    /// Ascending by shard, each once.
    pub targets: Vec<MoveTarget>,
}

/// Queues of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTarget {
    pub shard: ShardId,
    pub queues: Vec<QueueId>,
}

/// A number of moved messages was taken by its target shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub shard: ShardId,
    pub number: u64,
    /// Messages that no queue of the shard stored.
    pub refused: Vec<PositionRange>,
    /// They stay, to be decided on anew; else they leave for the reason they were to be moved for.
    pub keep: bool,
}

/// Removes messages of some states (dispatch says what is in flight).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    pub queue: QueueId,
    /// Every live message of the states below this position that is not in `except` is removed.
    pub below: Position,
    /// In flight: they stay.
    pub except: Vec<PositionRange>,
    pub states: PurgeStates,
}

/// Which messages a purge removes; those that consumers hold never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PurgeStates {
    pub ready: bool,
    pub delayed: bool,
    pub scheduled: bool,
    pub parked: bool,
    /// On their way to a dead-letter target. The dispatcher knows them; the command names them as exceptions.
    pub dead_lettering: bool,
}

impl Default for PurgeStates {
    /// What AMQP's queue.purge removes (features B31).
    fn default() -> Self {
        Self {
            ready: true,
            delayed: true,
            scheduled: false,
            parked: false,
            dead_lettering: true,
        }
    }
}

/// A number is noted of a queue: what the next version adds, as far as tests of upgrades are concerned.
#[cfg(feature = "next-version")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    pub queue: QueueId,
    pub note: u64,
}
