//! The way from sessions to an uplink: requests, and publishes apart. Not here: what the uplink does with them (`task`).

use tokio::sync::{mpsc, watch};
use warren_queue::dispatch::io::{Credit, Held};
use warren_queue::entry::{PurgeStates, ReturnKind};
use warren_raft::Group;
use warren_topology::Topology;
use warren_types::{ClusterVersion, ConsumerId, NodeId, Position, QueueId, ShardId, Term};

use super::encode::Publish;
use crate::api::{
    CancelResult, ConsumerSpec, QueueStats, RequestToken, SessionEvent, SettleSpec, StatsDepth,
    TogetherSpec,
};
use crate::link::frame::Batch;
use crate::link::outbox::Outbox;
use crate::peek::{Look, StoredPage};
use crate::redrive::{Redrive, RedriveStep};

/// Requests that the uplink has not taken yet, at most, and as many calls with publishes; then sessions wait.
const REQUESTS_MAX: usize = 1_024;

/// The way to an uplink. Publishes come by a door of their own: while they wait for a leader, nothing else waits behind them.
#[derive(Clone)]
pub(crate) struct UplinkDoor {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) publishes: mpsc::Sender<Vec<Publish>>,
    /// The leader that the uplink is linked to, and its term.
    pub(crate) linked: watch::Receiver<Option<(NodeId, Term)>>,
    /// The replica on this node, if there is one that votes.
    pub(crate) replica: watch::Sender<Option<Group>>,
}

/// The uplink's end of its door.
pub(crate) struct Doorway {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) publishes: mpsc::Receiver<Vec<Publish>>,
    pub(super) linked: watch::Sender<Option<(NodeId, Term)>>,
    pub(super) replica: watch::Receiver<Option<Group>>,
}

/// A door and its inner side.
pub(crate) fn door() -> (UplinkDoor, Doorway) {
    let (requests, taken_requests) = mpsc::channel(REQUESTS_MAX);
    let (publishes, taken_publishes) = mpsc::channel(REQUESTS_MAX);
    let (linked, told) = watch::channel(None);
    let replica = watch::Sender::new(None);
    let taken_replica = replica.subscribe();
    let door = UplinkDoor {
        requests,
        publishes,
        linked: told,
        replica,
    };
    let doorway = Doorway {
        requests: taken_requests,
        publishes: taken_publishes,
        linked,
        replica: taken_replica,
    };
    (door, doorway)
}

/// What sessions ask of an uplink, but for publishes.
pub(crate) enum Request {
    Attach {
        consumer: ConsumerId,
        spec: ConsumerSpec,
        /// What its client holds already, handed over by another node, with the bytes of the bodies.
        held: Vec<(Held, u64)>,
        inbox: Outbox<SessionEvent>,
    },
    Credit {
        consumer: ConsumerId,
        add: Credit,
    },
    Recall {
        consumer: ConsumerId,
        up_to: Credit,
    },
    Settle {
        spec: SettleSpec,
        token: RequestToken,
        inbox: Outbox<SessionEvent>,
    },
    SettleTogether {
        spec: TogetherSpec,
        token: RequestToken,
        inbox: Outbox<SessionEvent>,
    },
    Detach {
        consumer: ConsumerId,
        returns: Option<ReturnKind>,
    },
    /// Messages that a shard led on this node moves to the uplink's shard; answered to that leader.
    Move {
        source: ShardId,
        batch: Batch,
    },
    Ask(Ask),
}

/// Questions that only the leader answers.
pub(crate) enum Ask {
    Purge {
        queue: QueueId,
        token: RequestToken,
        states: PurgeStates,
        inbox: Outbox<SessionEvent>,
    },
    Peek {
        queue: QueueId,
        look: Look,
        reply: tokio::sync::oneshot::Sender<Option<StoredPage>>,
    },
    Redrive {
        queue: QueueId,
        look: Look,
        wish: Redrive,
        reply: tokio::sync::oneshot::Sender<Option<RedriveStep>>,
    },
    CancelScheduled {
        queue: QueueId,
        positions: Vec<Position>,
        reply: tokio::sync::oneshot::Sender<Vec<CancelResult>>,
    },
    Stats {
        queue: QueueId,
        depth: StatsDepth,
        reply: tokio::sync::oneshot::Sender<Option<QueueStats>>,
    },
}

impl Ask {
    /// The version that the leader's software must know. A new question, or a new field of one, needs a new version.
    pub(super) fn since(&self) -> ClusterVersion {
        match self {
            Self::Purge { .. }
            | Self::Peek { .. }
            | Self::Redrive { .. }
            | Self::CancelScheduled { .. }
            | Self::Stats { .. } => ClusterVersion::FIRST,
        }
    }

    /// Whether a node can answer it: software that does not know a question overlooks it.
    pub(super) fn is_known_to(&self, node: Option<NodeId>, topology: &Topology) -> bool {
        let node = node.and_then(|it| topology.node(it));
        node.is_none_or(|it| it.software.versions.newest >= self.since())
    }
}
