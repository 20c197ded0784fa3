//! What the handle, the tasks and the network side of one replica have in common. Not here: any of them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use warren_storage::GroupLog;
use warren_types::{GroupId, Leader, Leadership, LogId, LogIndex, NodeId, ReplicaId, Term};

use super::handle::ReplicaHealth;
use super::lease::Acknowledged;
use super::proposer::Proposal;
use crate::config::{TypeConfig, VoteOf};
use crate::machine::StateMachine;
use crate::options::RaftOptions;

pub(crate) type RaftOf = openraft::Raft<TypeConfig, StateMachine>;

/// No term has this number: "in no term".
const NO_TERM: u64 = u64::MAX;

pub(crate) struct Shared {
    pub(crate) group: GroupId,
    pub(crate) replica: ReplicaId,
    pub(crate) options: Arc<RaftOptions>,
    /// The running instance; none while the replica is being built again, or has failed.
    raft: RwLock<Option<RaftOf>>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) applied: watch::Sender<Option<LogId>>,
    /// What the machine found wrong with the replica's rows.
    pub(crate) damage: watch::Sender<Option<Arc<str>>>,
    /// What followers have acknowledged to this replica as their leader.
    pub(crate) acknowledged: Acknowledged,
    pub(super) proposals: mpsc::Sender<Proposal>,
    pub(super) waiting: AtomicUsize,
    pub(super) waiting_bytes: AtomicUsize,
    /// The term in which this replica led and has stopped for good: it asked for a transfer.
    given_up: AtomicU64,
    /// A transfer waits for a follower to catch up: whoever proposes is to pause.
    pub(super) handing_over: AtomicBool,
    /// The term of a leader that is gone, whom this replica tries to replace.
    early_from: AtomicU64,
    pub(super) health: Mutex<ReplicaHealth>,
    /// There once the replica was opened.
    pub(super) log: OnceLock<Arc<dyn GroupLog>>,
    /// The highest commit index that a heartbeat told of, whether this replica has the entry or not; 0 = none.
    heard_commit: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        group: GroupId,
        replica: ReplicaId,
        options: Arc<RaftOptions>,
        proposals: mpsc::Sender<Proposal>,
    ) -> Self {
        Self {
            group,
            replica,
            options,
            raft: RwLock::default(),
            leadership: watch::Sender::new(Leadership::default()),
            applied: watch::Sender::new(None),
            damage: watch::Sender::new(None),
            acknowledged: Acknowledged::default(),
            proposals,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            given_up: AtomicU64::new(NO_TERM),
            handing_over: AtomicBool::new(false),
            early_from: AtomicU64::new(NO_TERM),
            health: Mutex::new(ReplicaHealth::Running),
            log: OnceLock::new(),
            heard_commit: AtomicU64::new(0),
        }
    }

    pub(crate) fn hear_commit(&self, index: LogIndex) {
        self.heard_commit.fetch_max(index.0, Ordering::AcqRel);
    }

    pub(super) fn heard_commit(&self) -> Option<LogIndex> {
        Some(LogIndex(self.heard_commit.load(Ordering::Acquire))).filter(|index| index.0 > 0)
    }

    pub(crate) fn raft(&self) -> Option<RaftOf> {
        self.raft.read().clone()
    }

    pub(super) fn set_raft(&self, raft: Option<RaftOf>) {
        let old = std::mem::replace(&mut *self.raft.write(), raft);
        drop(old);
    }

    /// What is wrong with entries of the log that are still needed.
    pub(super) fn log_damage(&self) -> Option<Arc<str>> {
        self.log.get().and_then(|log| log.damage())
    }

    /// The newest metrics; nothing is awaited while they are borrowed (openraft issue 1238).
    pub(crate) fn metrics<T>(&self, read: impl FnOnce(&RaftMetrics<TypeConfig>) -> T) -> Option<T> {
        let receiver = self.raft()?.metrics();
        let metrics = receiver.borrow_watched();
        Some(read(&metrics))
    }

    /// The term in which this replica leads and has not given up, if there is one.
    pub(crate) fn leads(&self) -> Option<Term> {
        let leadership = *self.leadership.borrow();
        let leader = leadership.leader?;
        (leader.replica == self.replica).then_some(leadership.term)
    }

    pub(super) fn give_up(&self, term: Term) {
        self.given_up.store(term.0, Ordering::Release);
        self.leadership.send_if_modified(|now| {
            let ours = now.term == term && now.leader.is_some_and(|it| it.replica == self.replica);
            if ours {
                now.leader = None;
            }
            ours
        });
    }

    pub(super) fn has_given_up(&self, term: Term) -> bool {
        self.given_up.load(Ordering::Acquire) == term.0
    }

    pub(super) fn set_early_from(&self, term: u64) {
        self.early_from.store(term, Ordering::Release);
    }

    /// Whether an election for this vote replaces a leader whose process is gone.
    pub(crate) fn replaces_gone_leader(&self, vote: &VoteOf) -> bool {
        let from = self.early_from.load(Ordering::Acquire);
        from != NO_TERM && vote.leader_id.term == from.wrapping_add(1)
    }

    /// Until when this replica may act as leader, on what its followers have acknowledged so far.
    pub(crate) fn lease_until(&self) -> Option<Instant> {
        let lease = self.options.lease() * 9 / 10;
        let now = Instant::now();
        let (term, acked) = self.metrics(|metrics| {
            let leads = metrics.state == ServerState::Leader
                && metrics.vote.committed
                && metrics.vote.leader_id.node_id == self.replica.0
                && metrics.current_leader == Some(self.replica.0);
            if !leads {
                return None;
            }
            let term = Term(metrics.vote.leader_id.term);
            let configs = metrics.membership_config.membership().get_joint_config();
            let acked = self
                .acknowledged
                .by_majority(term, self.replica, configs, now)?;
            Some((term, acked))
        })??;
        let until = acked + lease;
        (until > now && !self.has_given_up(term)).then_some(until)
    }

    /// What the newest metrics say of the leadership, less what this replica has given up.
    pub(super) fn observe(&self) -> Leadership {
        // Not from the full metrics: they are published separately, and may not say yet what woke the caller.
        let seen = self.raft().map(|raft| {
            let server = raft.server_metrics();
            let server = server.borrow_watched();
            let leader = server.current_leader.filter(|_| server.vote.committed);
            let leader = leader.map(|replica| Leader {
                replica: ReplicaId(replica),
                node: server
                    .membership_config
                    .get_node(&replica)
                    .map_or(NodeId(0), |home| NodeId(home.node)),
            });
            let term = Term(server.vote.leader_id.term);
            Leadership { term, leader }
        });
        let mut seen = seen.unwrap_or(Leadership {
            term: self.leadership.borrow().term,
            leader: None,
        });
        let given_up = self.has_given_up(seen.term);
        seen.leader = seen
            .leader
            .filter(|it| !(given_up && it.replica == self.replica));
        seen
    }
}
