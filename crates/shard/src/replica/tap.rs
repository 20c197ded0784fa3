//! Between a replica's apply thread and the leader's task: requests that must be answered in order with applies, and what
//! applies brought about. Not here: applying (`machine`), deciding (`leader`).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use warren_queue::dispatch::io::{Due, Loaded, QueueOpening, Token};
use warren_queue::entry::EndedDelivery;
use warren_queue::outcome::{Effect, EntryOutcome};
use warren_queue::rows::{Counters, OriginRow, OutgoingRow};
use warren_queue::store::{PeekedMessage, PeekedPage, ReadMessage};
use warren_raft::MachineWaker;
use warren_types::{
    Incarnation, LogId, NodeId, Position, PositionRange, Priority, QueueId, ReplicaId, ShardId,
    ShardTime, Term, TopologyIndex,
};

use crate::api::LevelStats;
use crate::link::frame::PeekUp;
use crate::redrive::Redrive;

/// Chunks of outcomes that the leader has not taken yet, at most; beyond it the apply thread waits.
pub(crate) const TAP_EVENTS_MAX: usize = 256;

/// What the leader's task hears from the apply thread, in the order of applies.
#[derive(Debug)]
pub(crate) enum TapEvent {
    Applied {
        entries: Vec<EntryOutcome>,
        effects: Vec<Effect>,
    },
    Loaded(Loaded),
    Read {
        ticket: u64,
        messages: Vec<ReadMessage>,
    },
    Due(Due),
    Stats {
        node: NodeId,
        token: Token,
        stored: Option<(QueueId, StoredStats)>,
    },
    Peeked {
        node: NodeId,
        it: PeekUp,
        page: Option<PeekedPage>,
        /// What is to be done with it, beside showing it.
        redrive: Option<Redrive>,
    },
    HasOutputs {
        node: NodeId,
        token: Token,
        has: bool,
    },
    /// A snapshot replaced the state: what the leader knows is void (it cannot lead any more, but may not know yet).
    Restored,
}

/// What a leader knows of its shard when it opens: later changes come as events, none is missing or doubled.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The last entry that is in it.
    pub(crate) applied: Option<LogId>,
    pub(crate) now: ShardTime,
    /// The highest topology index of the shard's entries.
    pub(crate) topology: TopologyIndex,
    pub(crate) queues: Vec<QueueOpening>,
    pub(crate) origins: Vec<(Incarnation, OriginRow)>,
    /// What is on its way to other shards.
    pub(crate) outgoing: Vec<(ShardId, u64, OutgoingRow)>,
    pub(crate) events: mpsc::Receiver<TapEvent>,
}

impl Opening {
    /// The last entry is of this leader. So a majority has an entry of it, and no other leader of the term commits any.
    pub(crate) fn is_of(&self, term: Term, leader: ReplicaId) -> bool {
        self.applied
            .is_some_and(|last| last.term == term && last.leader == leader)
    }
}

/// Counters of a queue, for answers to people.
#[derive(Debug, Clone)]
pub(crate) struct StoredStats {
    pub(crate) counters: Counters,
    /// On their way to other queues.
    pub(crate) leaving: u64,
    pub(crate) levels: Vec<LevelStats>,
    /// Some of the first that are ready or in flight, if that was asked for.
    pub(crate) first: Vec<PeekedMessage>,
}

pub(crate) enum Request {
    Open(oneshot::Sender<Opening>),
    /// No one listens any more.
    Close,
    Load {
        queue: QueueId,
        priority: Priority,
        from: Position,
    },
    /// Answered by [`TapEvent::Read`].
    Read {
        ticket: u64,
        queue: QueueId,
        ranges: Vec<PositionRange>,
    },
    /// Answered by [`TapEvent::Due`].
    LookDue {
        queue: QueueId,
        up_to: ShardTime,
    },
    /// Answered by [`TapEvent::Peeked`].
    Peek {
        node: NodeId,
        it: PeekUp,
        redrive: Option<Redrive>,
    },
    /// Whether deliveries ended in one, or with outputs; answered by [`TapEvent::HasOutputs`].
    HasOutputs {
        node: NodeId,
        token: Token,
        proof: Vec<EndedDelivery>,
    },
    /// Answered by [`TapEvent::Stats`].
    Stats {
        queue: QueueId,
        /// Where the first ready messages are looked for.
        ready_from: Vec<(Priority, Position)>,
        node: NodeId,
        token: Token,
    },
}

/// Where requests wait for the apply thread. Bounded by dispatch: one load per queue and level; one question per caller.
#[derive(Clone, Default)]
pub(crate) struct Mailbox {
    shared: Arc<Mutex<Mail>>,
}

#[derive(Default)]
struct Mail {
    requests: VecDeque<Request>,
    waker: Option<MachineWaker>,
}

impl Mailbox {
    /// Dropping an unanswered request answers its caller: the sender in it goes.
    pub(crate) fn ask(&self, request: Request) {
        let waker = {
            let mut mail = self.shared.lock();
            mail.requests.push_back(request);
            mail.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A machine was opened (again): it takes what waits.
    pub(crate) fn attend(&self, waker: MachineWaker) {
        waker.wake();
        self.shared.lock().waker = Some(waker);
    }

    pub(crate) fn take(&self) -> VecDeque<Request> {
        std::mem::take(&mut self.shared.lock().requests)
    }
}
