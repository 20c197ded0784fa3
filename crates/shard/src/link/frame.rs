//! The frames between a node that has sessions (up) and the node that leads a shard (down): one ordered stream per node pair
//! carries those of all shards. Not here: their bytes (`convert`), the streams (`remote`), what they cause (`uplink`, `leader`).

use std::sync::Arc;

use bytes::Bytes;
use warren_queue::dispatch::io::{
    AttachResult, ConsumerOptions, Credit, HandedOut, Held, SettleResult, Token,
};
use warren_queue::entry::{PurgeStates, ReturnKind, Said, SettleReason};
use warren_types::{
    BatchSequence, ConsumerId, Facts, Incarnation, NodeId, NotStored, Position, Priority,
    ProducerSpan, QueueId, Run, ShardId, Term, TopologyIndex,
};

use crate::api::{AnswerTime, CancelResult, QueueStats, ReturnWait, SettlePart, StatsDepth};
use crate::peek::{Look, StoredPage};
use crate::redrive::{Redrive, RedriveStep};

/// From a node's uplink to a shard's leader.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    /// Opens the link of one node to one shard, again after each change of leader or loss of the stream. `link` rises each time.
    Hello(Hello),
    /// All consumers were attached again and all unconfirmed settles sent: what is not named is not held.
    Reported,
    Publish(Batch),
    Attach(AttachUp),
    Credit {
        consumer: ConsumerId,
        add: Credit,
    },
    Recall {
        consumer: ConsumerId,
        up_to: Credit,
    },
    Settle(SettleUp),
    SettleTogether(TogetherUp),
    Return(ReturnUp),
    Detach {
        consumer: ConsumerId,
        returns: Option<ReturnKind>,
    },
    Purge {
        queue: QueueId,
        token: Token,
        states: PurgeStates,
    },
    Stats {
        queue: QueueId,
        token: Token,
        depth: StatsDepth,
    },
    Peek(PeekUp),
    Redrive(PeekUp, Redrive),
    CancelScheduled(CancelUp),
    /// Messages of another shard, under the next number of the pair of shards: the batch's sequence.
    Move {
        source: ShardId,
        batch: Batch,
    },
}

impl Up {
    /// Whether messages come with it, which make an entry large.
    pub(crate) fn carries_messages(&self) -> bool {
        match self {
            Self::Publish(_) | Self::Move { .. } | Self::SettleTogether(_) => true,
            Self::Settle(it) => it.outputs.is_some(),
            Self::Hello(_)
            | Self::Reported
            | Self::Attach(_)
            | Self::Credit { .. }
            | Self::Recall { .. }
            | Self::Return(_)
            | Self::Detach { .. }
            | Self::Purge { .. }
            | Self::Stats { .. }
            | Self::Peek(_)
            | Self::Redrive(..)
            | Self::CancelScheduled(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub run: Run,
    /// Counts the links this run of the node opened to the shard.
    pub link: u64,
    /// The highest term of the shard this node has seen; a leader of a lower one must not serve it.
    pub term: Term,
    pub topology: TopologyIndex,
    /// The last batch whose result this node knows.
    pub confirmed: BatchSequence,
}

/// One numbered batch of publishes.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub sequence: BatchSequence,
    /// Routed by this topology: the leader waits until its own copy has applied it.
    pub topology: TopologyIndex,
    pub parts: Vec<Part>,
    pub storing: Storing,
}

/// Whether messages of a batch stand for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storing {
    Each,
    /// All or none (features A20).
    Together,
}

impl Batch {
    /// The part that a message of the batch is in, and its index there; messages are counted through all parts.
    pub(crate) fn part_of(&self, index: u32) -> Option<(&Part, usize)> {
        let mut at = usize::try_from(index).ok()?;
        for part in &self.parts {
            let count = part.facts.size.len();
            if at < count {
                return Some((part, at));
            }
            at -= count;
        }
        None
    }
}

impl Part {
    /// The encoding of the message at an index.
    pub(crate) fn message(&self, index: usize) -> Option<Bytes> {
        let size = |it: &u32| usize::try_from(*it).ok();
        let before = self.facts.size.get(..index)?.iter();
        let start: usize = before.map(size).sum::<Option<usize>>()?;
        let end = start.checked_add(size(self.facts.size.get(index)?)?)?;
        (end <= self.payload.len()).then(|| self.payload.slice(start..end))
    }
}

/// Messages of a batch for one queue and priority, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub queue: QueueId,
    pub priority: Priority,
    pub facts: Facts,
    pub payload: Bytes,
    pub producers: Vec<ProducerSpan>,
}

#[derive(Clone, Debug)]
pub(crate) struct AttachUp {
    pub consumer: ConsumerId,
    pub queue: QueueId,
    pub options: ConsumerOptions,
    pub credit: Credit,
    pub held: Vec<Held>,
    pub topology: TopologyIndex,
}

#[derive(Clone, Debug)]
pub(crate) struct SettleUp {
    pub token: Token,
    pub queue: QueueId,
    pub items: Vec<Held>,
    pub reason: SettleReason,
    pub answer: AnswerTime,
    pub outputs: Option<Outputs>,
    pub said: Option<Arc<Said>>,
}

/// Deliveries that end in one, and what comes with it.
#[derive(Clone, Debug)]
pub(crate) struct TogetherUp {
    pub token: Token,
    pub parts: Vec<SettlePart>,
    pub outputs: Outputs,
    pub said: Option<Arc<Said>>,
}

/// Messages that come into queues of the shard with an ack, all of it or nothing (features X4).
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    /// Routed by this topology.
    pub topology: TopologyIndex,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(crate) struct ReturnUp {
    pub token: Token,
    pub queue: QueueId,
    pub items: Vec<Held>,
    pub kind: ReturnKind,
    pub wait: ReturnWait,
    pub said: Option<Arc<Said>>,
}

/// Asks for a page of a queue's messages.
#[derive(Clone, Debug)]
pub(crate) struct PeekUp {
    pub token: Token,
    pub queue: QueueId,
    pub look: Look,
}

/// Asks to take scheduled messages back.
#[derive(Clone, Debug)]
pub(crate) struct CancelUp {
    pub token: Token,
    pub queue: QueueId,
    pub positions: Vec<Position>,
}

/// From a shard's leader to a node.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    /// The link is open.
    Welcome(Welcome),
    /// This node does not lead the shard (any more); who does, if it knows.
    NotLeader {
        link: u64,
        leader: Option<NodeId>,
    },
    /// Batches up to and including `upto` are applied; all their messages are stored but for `exceptions`
    /// `(batch, index in the batch, why)`.
    Results {
        upto: BatchSequence,
        exceptions: Vec<BatchException>,
        places: Vec<BatchPlaces>,
    },
    /// A batch did not follow the one before: nothing is taken until the node resumes after `last`.
    Resume {
        last: BatchSequence,
    },
    Attached {
        consumer: ConsumerId,
        result: AttachResult,
    },
    Deliver {
        consumer: ConsumerId,
        queue: QueueId,
        /// Of the single active consumer's activation; 0 = the queue serves all.
        fencing: u64,
        deliveries: Vec<HandedOut>,
    },
    SettleResults {
        token: Token,
        results: Vec<SettleResult>,
    },
    Recalled {
        consumer: ConsumerId,
        credit: Credit,
    },
    Waiting {
        consumer: ConsumerId,
    },
    Cancelled {
        consumer: ConsumerId,
    },
    Forget {
        consumer: ConsumerId,
        queue: QueueId,
        position: Position,
    },
    Purged {
        token: Token,
        count: u64,
    },
    Stats {
        token: Token,
        stats: Option<QueueStats>,
    },
    Peeked {
        token: Token,
        page: Option<StoredPage>,
    },
    Redriven {
        token: Token,
        step: Option<RedriveStep>,
    },
    /// One result per position asked for, in order.
    CancelResults {
        token: Token,
        results: Vec<CancelResult>,
    },
    /// A number of moved messages is taken; all are stored but for `exceptions`.
    Moved {
        source: ShardId,
        number: BatchSequence,
        exceptions: Vec<BatchException>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// As in the hello it answers.
    pub link: u64,
    pub term: Term,
    /// The last batch of this incarnation that is applied: what follows is to be sent again.
    pub last: Option<(Run, BatchSequence)>,
    /// What was not simply stored of the batches after the hello's `confirmed`.
    pub exceptions: Vec<BatchException>,
    pub places: Vec<BatchPlaces>,
}

/// Where the messages of a batch are that has scheduled ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchPlaces {
    pub sequence: BatchSequence,
    /// Of the first message of each part, in order; 0 = not told.
    pub first: Vec<Position>,
}

/// One message of a batch was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchException {
    pub sequence: BatchSequence,
    /// Index in the batch: its parts' messages counted through.
    pub index: u32,
    pub why: NotStored,
}
