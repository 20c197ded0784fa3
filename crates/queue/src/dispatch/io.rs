//! What goes into the dispatcher and what comes out. Not here: the decisions (the other files), who performs the actions (`warren-shard`).

use std::sync::Arc;

use bytes::Bytes;
use warren_types::{
    Attempt, ConsumerId, Facts, NodeId, NotStored, Position, PositionRange, Priority, QueueId,
    QueueSettings, ShardTime, Term,
};

use crate::entry::{Command, EndedDelivery, Ending, PurgeStates, ReturnKind, Said};
use crate::outcome::{BlockRef, Effect};

/// One consumer, wherever its session is. A node never uses a consumer id twice, also not after a restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConsumerKey {
    pub node: NodeId,
    pub consumer: ConsumerId,
}

/// Chosen by the node that asks; comes back with the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerOptions {
    /// Deliveries are settled when they are written (the session says so with `Settle`, reason no-ack).
    pub no_ack: bool,
    pub refill: Refill,
    /// Higher is served first (features B34).
    pub priority: i32,
    /// No other consumer may attach (features B35).
    pub exclusive: bool,
    /// Uncommitted settles beyond which credit waits for the commit: the greater of the prefetch and 1,000.
    pub uncommitted_max: u32,
    /// It takes what is there and leaves (AMQP 0-9-1 basic.get): no consumer by which an auto-delete queue lives (features B25).
    pub passing: bool,
}

/// What of its credit a settle or return gives back at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refill {
    /// The session lends anew by itself.
    Nothing,
    /// The message. The session lends bytes anew by itself, when they are written: what waits for a client that does not read is
    /// bounded by them, however many messages it may hold.
    Messages,
    /// The message and the bytes of its body.
    All,
}

/// Credit in messages and body bytes. A message may overdraw the bytes once, so that a large one never sticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credit {
    pub messages: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub enum Input {
    /// The replica leads and an entry of its term is applied: dispatch may be built. Nothing is handed out before `Start`.
    Open {
        term: Term,
        now: ShardTime,
        queues: Vec<QueueOpening>,
    },
    /// What is in force for a queue from now on; until then the defaults are. Again whenever it changes.
    Settings {
        queue: QueueId,
        settings: Arc<QueueSettings>,
    },
    /// Every live node has reported, or the time for it is up: what nobody holds becomes ready.
    Start,
    Attach(Attach),
    Credit {
        consumer: ConsumerKey,
        add: Credit,
    },
    /// Unspent credit is called back, up to this much; answered by `Action::Recalled`.
    Recall {
        consumer: ConsumerKey,
        up_to: Credit,
    },
    Settle(SettleRequest),
    Return(ReturnRequest),
    /// All of it or nothing; it waits for what is not known yet, or is under way already.
    SettleTogether(TogetherRequest),
    /// The consumer ends. What it holds returns (`Some`), or stays with its session to be settled still (`None`: cancel).
    Detach {
        consumer: ConsumerKey,
        returns: Option<ReturnKind>,
    },
    /// The session of a cancelled consumer ends: what is still held returns.
    /// Covers `Detach` of a consumer that is detached already.
    NodeLost {
        node: NodeId,
        /// Nothing was heard of it for so long already: that counts.
        silent_ms: u64,
    },
    /// The node's stream is made anew: it will attach again what it has; what it then does not claim, returns (after `NodeReported`).
    NodeBack {
        node: NodeId,
    },
    NodeReported {
        node: NodeId,
    },
    /// Messages of a queue are to be purged: ready ones go, those in flight stay.
    Purge {
        queue: QueueId,
        token: Token,
        node: NodeId,
        states: PurgeStates,
    },
    Applied(Effect),
    Loaded(Loaded),
    /// The answer to `Action::LookDue`.
    Due(Due),
    /// Messages that nobody holds leave for other queues: they are nobody's until they have, or are returned.
    TakeOut {
        queue: QueueId,
        messages: Vec<LeavingOpening>,
    },
    /// Time passes; `lease` says whether the leader may hand out at this moment.
    Clock {
        now: ShardTime,
        lease: bool,
    },
}

/// What the store knows of a queue when dispatch opens.
#[derive(Clone, Debug)]
pub struct QueueOpening {
    pub queue: QueueId,
    /// The next position to be given when dispatch opened; what is below and below the mark may have been seen.
    pub next: Position,
    pub levels: Vec<LevelOpening>,
    /// Of the last activation of a single active consumer.
    pub fencing: u64,
    /// On their way to other queues: nobody gets them. Ascending.
    pub leaving: Vec<LeavingOpening>,
    pub live_body_bytes: u64,
    /// Of live ones: of messages that are not due yet.
    pub scheduled_body_bytes: u64,
    /// Of live ones: of messages that are set aside.
    pub parked_body_bytes: u64,
    /// Returned until later.
    pub delayed: Vec<DelayedOpening>,
    /// When something is to be looked at.
    pub first_timer: Option<ShardTime>,
}

/// A message that is on its way to another queue.
#[derive(Clone, Copy, Debug)]
pub struct LeavingOpening {
    pub priority: Priority,
    pub position: Position,
    pub body_bytes: u32,
    /// Counts again if it is refused there.
    pub expiry: Option<ShardTime>,
    /// Hash of its group key; 0 = none.
    pub group: u64,
    /// It is to be a dead letter; else it is moved.
    pub dies: bool,
}

/// A message that was returned until later.
#[derive(Clone, Copy, Debug)]
pub struct DelayedOpening {
    pub priority: Priority,
    pub position: Position,
    pub until: ShardTime,
    pub body_bytes: u32,
    pub delivery_count: u32,
    pub acquired_count: u32,
    /// Hash of its group key; 0 = none.
    pub group: u64,
}

#[derive(Clone, Debug)]
pub struct LevelOpening {
    pub priority: Priority,
    pub head: Position,
    pub live: u64,
    pub handed_out: Position,
    pub released: Vec<PositionRange>,
    /// Of the live ones: not due yet.
    pub scheduled: u64,
    /// Of the live ones: set aside.
    pub parked: u64,
}

#[derive(Clone, Debug)]
pub struct Attach {
    pub consumer: ConsumerKey,
    pub queue: QueueId,
    pub options: ConsumerOptions,
    pub credit: Credit,
    /// After a change of leader or of the stream: what the consumer holds. Answered one by one in `Action::Attached`.
    pub held: Vec<Held>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub position: Position,
    pub attempt: Attempt,
}

/// Consumers ack (or settle without ack) what they hold.
#[derive(Clone, Debug)]
pub struct SettleRequest {
    pub node: NodeId,
    pub token: Token,
    pub queue: QueueId,
    pub items: Vec<Held>,
    pub reason: crate::entry::SettleReason,
    /// Messages come into queues with it (features X4): then it is an ack of one item.
    pub outputs: Option<OutputsId>,
    /// Kept with what is settled by it, if that stays or becomes a dead letter.
    pub said: Option<Arc<Said>>,
}

/// Names the outputs of a settle, which dispatch never sees. Chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OutputsId(pub u64);

/// Deliveries of several queues end in one, and messages may come with it (features X4). Answered by one result.
#[derive(Clone, Debug)]
pub struct TogetherRequest {
    pub node: NodeId,
    pub token: Token,
    pub outputs: OutputsId,
    pub parts: Vec<TogetherPart>,
    /// Kept with what stays.
    pub said: Option<Arc<Said>>,
}

/// Of one queue.
#[derive(Clone, Debug)]
pub struct TogetherPart {
    pub queue: QueueId,
    pub items: Vec<Held>,
    pub end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Settle(crate::entry::SettleReason),
    Return(ReturnKind, Wait),
}

#[derive(Clone, Debug)]
pub struct ReturnRequest {
    pub node: NodeId,
    pub token: Token,
    pub queue: QueueId,
    pub items: Vec<Held>,
    pub kind: ReturnKind,
    pub wait: Wait,
    /// Kept with what is returned by it.
    pub said: Option<Arc<Said>>,
}

/// When a returned message is ready again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wait {
    Not,
    Until(ShardTime),
    /// Never by itself: it is set aside, as its consumer wishes.
    Parked,
    /// As the queue's retry settings say (features B50).
    #[default]
    ByPolicy,
}

/// A block that dispatch asked for, or the news that there is none.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub queue: QueueId,
    pub priority: Priority,
    /// As asked.
    pub from: Position,
    /// The block that holds `from` or, if none does, the first that begins after it.
    pub block: Option<LoadedBlock>,
}

#[derive(Clone, Debug)]
pub struct LoadedBlock {
    pub block: BlockRef,
    pub facts: Arc<Facts>,
    pub payload: Bytes,
    pub settled: Vec<PositionRange>,
    /// `(position, delivery count, acquired count)`.
    pub counts: Vec<(Position, u32, u32)>,
    /// Stored with a due time, and due since.
    pub released: Vec<PositionRange>,
}

/// Whether somebody has a message now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whereabouts {
    NotInFlight,
    /// With a consumer.
    Unacked,
    /// Its end is decided, but not committed.
    Leaving,
}

/// What a queue's timers say is due.
#[derive(Clone, Debug)]
pub struct Due {
    pub queue: QueueId,
    /// As asked.
    pub up_to: ShardTime,
    /// Whose timers rang, in the order of time.
    pub blocks: Vec<DueBlock>,
    /// The first timer that was not looked at.
    pub next: Option<ShardTime>,
}

#[derive(Clone, Debug)]
pub struct DueBlock {
    pub priority: Priority,
    pub first: Position,
    /// Scheduled messages that are due, with when they were.
    pub release: Vec<(ShardTime, Position)>,
    /// Expired messages, in flight or not, with their body bytes.
    pub expired: Vec<(Position, u32)>,
}

/// Filled by `step`, emptied by the caller, in order.
#[derive(Debug, Default)]
pub struct Actions {
    pub list: Vec<Action>,
}

#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "few per step, moved once; boxing would cost an allocation per proposal"
)]
pub enum Action {
    /// Hand these to the consumer, in order.
    Deliver {
        consumer: ConsumerKey,
        queue: QueueId,
        /// Of the single active consumer's activation; 0 = the queue serves all.
        fencing: u64,
        deliveries: Vec<HandedOut>,
    },
    /// Put this fact into the next entry.
    Propose(Command),
    /// Put `AckWithOutputs` with these outputs into the next entry. `Done` says that the delivery was acked by then; whether with these
    /// outputs, the store tells.
    ProposeOutputs {
        queue: QueueId,
        held: Held,
        outputs: OutputsId,
    },
    /// Put `SettleTogether` with these outputs into the next entry.
    ProposeTogether {
        outputs: OutputsId,
        deliveries: Vec<EndedDelivery>,
        endings: Vec<Ending>,
    },
    /// Read a block; answered by `Input::Loaded`. At most one is outstanding per queue and priority.
    Load {
        queue: QueueId,
        priority: Priority,
        from: Position,
    },
    /// Look what of a queue is due; answered by `Input::Due`. At most one is outstanding per queue.
    LookDue { queue: QueueId, up_to: ShardTime },
    Attached {
        consumer: ConsumerKey,
        result: AttachResult,
    },
    /// One result per item, in the order asked. Sent after commit; refusals at once, together with the rest when that commits.
    SettleResults {
        node: NodeId,
        token: Token,
        results: Vec<SettleResult>,
    },
    Recalled {
        consumer: ConsumerKey,
        credit: Credit,
    },
    /// Messages wait for this consumer's credit (sent once until credit comes).
    Waiting { consumer: ConsumerKey },
    /// The consumer is over (queue deleted).
    Cancelled { consumer: ConsumerKey },
    /// Settled or returned by another door (receipt): the holder may forget it.
    Forget {
        consumer: ConsumerKey,
        queue: QueueId,
        position: Position,
    },
    Purged {
        node: NodeId,
        token: Token,
        count: u64,
    },
}

#[derive(Debug, Clone)]
pub struct HandedOut {
    pub position: Position,
    pub attempt: Attempt,
    pub redelivered: bool,
    pub delivery_count: u32,
    pub acquired_count: u32,
    /// The stored message's encoding: a slice of its block.
    pub message: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachResult {
    /// `held` has one answer per position the consumer brought, in order.
    Ok {
        held: Vec<HeldState>,
    },
    QueueGone,
    /// Another consumer is exclusive, or this one wants to be and there are others.
    Exclusive,
}

/// What became of a delivery that a consumer thinks it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldState {
    StillYours,
    Settled,
    /// It returned, and may be with another consumer.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleResult {
    Done,
    AlreadySettled,
    /// Another attempt is on record.
    NotOwner,
    /// It is not in flight: it was returned (lease, loss of the consumer).
    Expired,
    QueueGone,
    /// An output is not stored, so nothing was done: the delivery is held still.
    OutputRefused {
        index: u32,
        why: NotStored,
    },
    /// One of those that were to end in one would be a dead letter, and nothing takes it now: nothing was done.
    DeadLetter,
}
