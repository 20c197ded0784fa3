//! What a client session asks of the broker on its node and what it hears back. Not here: sockets (`gateway`), who leads (`uplink`).

use std::sync::Arc;

use thiserror::Error;
use warren_codec::StoredMessageView;
use warren_queue::dispatch::io::{AttachResult, ConsumerOptions, Credit, Held, SettleResult};
use warren_queue::entry::{ReturnKind, Said, SettleReason, SettleTogether};
use warren_types::{
    Attempt, ClusterVersion, ConsumerId, Message, NodeId, NotStored, Position, Priority,
    ProducerId, QueueId, ShardId,
};

/// Chosen by the session; comes back once with the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestToken(pub u64);

/// Where a message is to be stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    pub queue: QueueId,
    pub shard: ShardId,
}

/// One message for one queue. A message routed to several queues is several of these, with tokens the session can tell apart.
#[derive(Clone, Debug)]
pub struct PublishItem {
    pub token: RequestToken,
    pub queue: QueueId,
    pub message: Message,
    pub producer: Option<ProducerTag>,
}

/// Makes a publish idempotent: who numbered it, and how (features X8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerTag {
    pub producer: ProducerId,
    pub epoch: u64,
    pub sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishOutcome {
    /// On disk on a majority, and applied.
    Stored,
    /// The same; it waits to be due, here.
    Scheduled(Position),
    NotStored(NotStored),
    /// Never sent to a leader: safe to try again.
    NotStarted(Unavailable),
    /// Sent, but the answer did not come before the node gave up: it may be stored.
    Unknown,
}

/// What became of a scheduled message that was to be taken back (features A30).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CancelResult {
    /// It is taken back, now or when it was asked for before.
    Cancelled,
    /// It is not scheduled any more: ready, handed out, or gone from the queue.
    TooLate,
    /// There never was such a message, or its queue is gone.
    NotFound,
}

/// Why a shard cannot serve at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unavailable {
    #[error("no leader is reachable for the shard")]
    NoQuorum,
    #[error("the node is not ready yet")]
    NotReady,
    #[error("the node is shutting down")]
    Draining,
    #[error("too much is unconfirmed")]
    Overloaded,
    #[error("the deadline passed before anything was begun")]
    DeadlinePassed,
}

/// Opens a consumer.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    pub target: Target,
    pub options: ConsumerOptions,
    pub credit: Credit,
}

/// A settle or return of deliveries of one queue.
#[derive(Clone, Debug)]
pub struct SettleSpec {
    pub target: Target,
    pub items: Vec<Held>,
    pub action: SettleAction,
    pub answer: AnswerTime,
    /// Messages for queues of the same shard that come with the ack of one delivery, all of it or nothing (features X4). Their tokens are
    /// what `SettleResult::OutputRefused` names; nothing else is told of them.
    pub outputs: Vec<PublishItem>,
    /// What the consumer says of them; kept with them (features X6).
    pub said: Option<Arc<Said>>,
}

/// Deliveries of queues of one shard end in one, and messages for queues of it may come with it, all of it or nothing (features X4). Answered
/// by one result.
#[derive(Clone, Debug)]
pub struct TogetherSpec {
    pub shard: ShardId,
    /// At most [`TOGETHER_MAX`] deliveries.
    pub parts: Vec<SettlePart>,
    /// As [`SettleSpec::outputs`].
    pub outputs: Vec<PublishItem>,
    /// What the consumer says of what it gives back.
    pub said: Option<Arc<Said>>,
}

/// So many deliveries end in one.
pub const TOGETHER_MAX: usize = SettleTogether::DELIVERIES_MAX;
/// The version that a cluster must have finalised before they do.
pub const TOGETHER_SINCE: ClusterVersion = SettleTogether::SINCE;

/// Deliveries of one queue that end alike.
#[derive(Clone, Debug, PartialEq)]
pub struct SettlePart {
    pub queue: QueueId,
    pub items: Vec<Held>,
    pub action: SettleAction,
}

/// When the answer to a settle is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerTime {
    /// Somebody waits for it: it is committed with the next entry.
    AtOnce,
    /// Acks may wait a few milliseconds for an entry that is made for something else.
    Soon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAction {
    Settle(SettleReason),
    Return { kind: ReturnKind, wait: ReturnWait },
}

/// When a returned message is ready again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReturnWait {
    Not,
    /// After so many milliseconds.
    Ms(u64),
    /// Not before somebody decides: it is set aside, as its consumer wishes (features B49).
    Parked,
    /// As the queue's retry settings say (features B50).
    #[default]
    ByPolicy,
}

/// What a session hears, in order per consumer. The inbox is bounded by what the session asked for: its credit, its unconfirmed
/// publishes, its unanswered settles.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    Published(Vec<(RequestToken, PublishOutcome)>),
    Attached {
        consumer: ConsumerId,
        result: AttachResult,
    },
    Deliveries {
        consumer: ConsumerId,
        deliveries: Vec<Delivery>,
    },
    /// One result per item of the request, in order.
    Settled {
        token: RequestToken,
        results: Vec<SettleResult>,
    },
    Recalled {
        consumer: ConsumerId,
        credit: Credit,
    },
    /// Messages wait for the consumer's credit.
    Waiting {
        consumer: ConsumerId,
    },
    /// Its queue is gone.
    Cancelled {
        consumer: ConsumerId,
    },
    /// A delivery was settled or returned through another door.
    Forget {
        consumer: ConsumerId,
        queue: QueueId,
        position: Position,
        why: Forgotten,
    },
    Purged {
        token: RequestToken,
        result: Result<u64, Unavailable>,
    },
    /// The consumer's shard is led from here now.
    LeaderMoved {
        consumer: ConsumerId,
        node: NodeId,
    },
}

/// Why a delivery is not its consumer's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It was settled or returned, by whoever has its receipt.
    Settled,
    /// A new leader did not leave it with its consumer: another has it, or gets it.
    Lost,
}

/// What has left a queue, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftTotals {
    /// By their consumers, or on being handed out.
    pub acked: u64,
    /// These three with nowhere to go.
    pub rejected: u64,
    pub expired: u64,
    pub dropped: u64,
    /// Stored in another queue.
    pub dead_lettered: u64,
    pub purged: u64,
}

/// What a queue holds of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelStats {
    pub priority: Priority,
    /// In whatever state.
    pub live: u64,
    /// Of them.
    pub scheduled: u64,
    pub parked: u64,
}

/// How much is asked of a queue's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsDepth {
    Counts,
    /// Also when the oldest ready message came, which costs a read.
    Age,
    /// Only once the leader knows every consumer: not before the nodes have reported theirs to a new one.
    Consumers,
}

/// A queue's counts, from its leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    pub ready: u64,
    /// Of what is ready: known to wait for its group key.
    pub held_back: u64,
    pub unacked: u64,
    /// Not due yet.
    pub scheduled: u64,
    /// Returned until later.
    pub delayed: u64,
    /// Set aside.
    pub parked: u64,
    pub consumers: u64,
    pub enqueued: u64,
    /// The sum of what has left.
    pub settled: u64,
    pub left: LeftTotals,
    /// Not stored, since they are there or were.
    pub duplicates: u64,
    /// Handed out since the present leader leads.
    pub delivered: u64,
    /// Of them: flagged as redelivered.
    pub redelivered: u64,
    /// On their way to their dead-letter targets: neither ready nor unacked.
    pub dead_lettering: u64,
    pub body_bytes: u64,
    /// Of what is ready.
    pub ready_bytes: u64,
    /// When the oldest ready message came, in milliseconds since the Unix epoch; `None`: there is none, or it was not asked for.
    pub oldest_ready_ms: Option<u64>,
    /// Highest priority first; only those with messages.
    pub levels: Vec<LevelStats>,
}

/// A message handed to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub queue: QueueId,
    pub position: Position,
    pub attempt: Attempt,
    pub redelivered: bool,
    /// Counted failed attempts so far.
    pub delivery_count: u32,
    /// Hand-outs so far, this one not counted; best effort across a change of leader.
    pub acquired_count: u32,
    /// Number of the single active consumer's activation, which rises at each takeover; 0 = the queue serves all its consumers.
    pub fencing: u64,
    pub message: StoredMessageView,
}
