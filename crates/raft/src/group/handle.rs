//! The handle of one group on this node, for those who propose and those who look. Not here: how (`proposer`, `transfer`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ReadPolicy, ServerState};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use warren_types::{GroupId, Leadership, LogId, LogIndex, Member, NodeId, ReplicaId, Term};

use super::proposer::Proposal;
use super::shared::Shared;
use crate::config::Command;
use crate::convert;

/// One group's replica on this node. Cheap to clone; stays valid while the replica is built again.
#[derive(Clone)]
pub struct Group {
    pub(crate) shared: Arc<Shared>,
}

/// Why a command was not taken. Nothing has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProposeError {
    #[error("this replica does not lead in term {0}")]
    NotLeader(Term),
    #[error("too many commands wait to be applied")]
    Full,
    #[error("the replica is stopped")]
    Stopped,
}

/// Why a read could not be confirmed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    #[error("this replica does not lead")]
    NotLeader,
    #[error("a majority was not reached in time")]
    NoMajority,
    #[error("the replica is stopped")]
    Stopped,
}

/// What a replica is in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Learner,
    Follower,
    Candidate,
    Leader,
    /// Being built, or stopped.
    Down,
}

/// Whether the replica works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicaHealth {
    Running,
    /// It failed and is being opened again from what is stored.
    Rebuilding {
        attempt: u32,
        cause: String,
    },
    /// It failed too often and stays down. Its data is left as it is.
    Failed {
        cause: String,
    },
    Stopped,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerStatus {
    pub replica: ReplicaId,
    pub node: NodeId,
    /// The follower's log agrees with the leader's up to here.
    pub matched: Option<LogIndex>,
    /// When the last heartbeat or append was sent that the follower has acknowledged.
    pub acked: Option<Instant>,
}

/// One replica, for `cluster status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStatus {
    pub group: GroupId,
    pub replica: ReplicaId,
    pub health: ReplicaHealth,
    pub role: Role,
    pub leadership: Leadership,
    pub last_log: Option<LogIndex>,
    pub committed: Option<LogIndex>,
    /// The highest commit index that a leader told of, whether the entry is here yet or not.
    pub heard_commit: Option<LogIndex>,
    pub applied: Option<LogIndex>,
    pub purged: Option<LogIndex>,
    pub voters: Vec<Member>,
    pub learners: Vec<Member>,
    /// The voters of each configuration of which a majority must agree: two while a change is half done, none while none is known.
    pub configs: Vec<Vec<Member>>,
    /// On the leader only.
    pub followers: Vec<FollowerStatus>,
    /// As [`Group::lease_until`].
    pub lease_until: Option<Instant>,
    /// Commands taken by `propose` and not yet applied.
    pub waiting: usize,
    pub waiting_bytes: usize,
}

impl GroupStatus {
    /// The voters are those of two configurations: a change is half done.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.configs.len() > 1
    }
}

impl Group {
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.shared.group
    }

    #[must_use]
    pub fn replica(&self) -> ReplicaId {
        self.shared.replica
    }

    /// Whether a command of about so many bytes would be taken now. One that would not be waits until earlier ones are applied.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        // What is around the messages is not counted by who asks.
        !self.is_full(bytes.saturating_add(bytes / 8).saturating_add(64 << 10))
    }

    fn is_full(&self, bytes: usize) -> bool {
        let shared = &self.shared;
        let waiting = shared.waiting.load(Ordering::Acquire);
        let waiting_bytes = shared.waiting_bytes.load(Ordering::Acquire);
        // A single command may be larger than the bound; it then goes alone.
        waiting >= shared.options.proposals_max
            || (waiting > 0
                && waiting_bytes.saturating_add(bytes) > shared.options.proposal_bytes_max)
    }

    /// Queues one command for replication, in call order, in `term` only: it is never appended in a later one.
    ///
    /// Its outcome is seen only by the machine's `apply`, or never: the term has ended. While this replica leads in
    /// `term`, no command taken is lost and none is applied out of order; if one had to be refused the leadership is given
    /// up first. A command that was appended when the term ended may still be applied, under this term's log id.
    ///
    /// # Errors
    /// Nothing was queued.
    pub fn propose(&self, term: Term, payload: &Bytes) -> Result<(), ProposeError> {
        let shared = &self.shared;
        if shared.leads() != Some(term) {
            return Err(ProposeError::NotLeader(term));
        }
        let bytes = payload.len();
        if self.is_full(bytes) {
            return Err(ProposeError::Full);
        }
        let proposal = Proposal {
            term,
            command: Command::new(payload),
            bytes,
        };
        shared.waiting.fetch_add(1, Ordering::AcqRel);
        shared.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        shared.proposals.try_send(proposal).map_err(|error| {
            shared.waiting.fetch_sub(1, Ordering::AcqRel);
            shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            match error {
                tokio::sync::mpsc::error::TrySendError::Full(_) => ProposeError::Full,
                tokio::sync::mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
            }
        })
    }

    /// The group's leadership as this replica knows it. Names this replica only while `propose` takes its commands.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.subscribe()
    }

    /// `Some(until)`: this replica leads, and a majority has acknowledged heartbeats or entries sent less than nine tenths
    /// of a lease ago. `None`: it must not act as leader. Ask again before each act; do not keep the answer past a call of
    /// `transfer_leader`.
    #[must_use]
    pub fn lease_until(&self) -> Option<Instant> {
        self.shared.lease_until()
    }

    /// Whether this replica votes, as far as it knows.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        let own = self.shared.replica.0;
        let votes = |metrics: &openraft::RaftMetrics<crate::config::TypeConfig>| {
            metrics.membership_config.voter_ids().any(|it| it == own)
        };
        self.shared.metrics(votes).unwrap_or(false)
    }

    /// Whether the leadership is being handed over: a follower is waited for, for 200 ms at most. Whoever proposes a lot pauses
    /// meanwhile, or the follower never catches up.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.shared.handing_over.load(Ordering::Acquire)
    }

    /// ReadIndex (Raft dissertation §6.4): returns when everything committed before the call is applied here. Leader only.
    ///
    /// # Errors
    /// Nothing is known of what is committed.
    pub async fn read_index(&self) -> Result<LogIndex, ReadError> {
        let raft = self.shared.raft().ok_or(ReadError::Stopped)?;
        let within = self.shared.options.lease();
        let confirmed =
            tokio::time::timeout(within, raft.get_read_linearizer(ReadPolicy::ReadIndex));
        let linearizer = confirmed
            .await
            .map_err(|_| ReadError::NoMajority)?
            .map_err(|error| match error.forward_to_leader() {
                Some(_) => ReadError::NotLeader,
                None if error.fatal().is_some() => ReadError::Stopped,
                None => ReadError::NoMajority,
            })?;
        let state = linearizer
            .await_ready(&raft)
            .await
            .map_err(|_| ReadError::Stopped)?;
        Ok(convert::index_from_raft(state.read_log_id().index()))
    }

    /// How far the machine has applied; moves after its `written`.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<LogId>> {
        self.shared.applied.subscribe()
    }

    /// What was found wrong with the replica's rows, in words. It stays down then.
    #[must_use]
    pub fn damage(&self) -> Option<Arc<str>> {
        self.shared.damage.borrow().clone()
    }

    /// What is wrong with entries of its log that it still needs, in words. It votes and follows all the same, as far as it can: it may be
    /// needed.
    #[must_use]
    pub fn log_damage(&self) -> Option<Arc<str>> {
        self.shared.log_damage()
    }

    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let shared = &self.shared;
        let mut status = GroupStatus {
            group: shared.group,
            replica: shared.replica,
            health: shared.health.lock().clone(),
            role: Role::Down,
            leadership: *shared.leadership.borrow(),
            last_log: None,
            committed: None,
            heard_commit: shared.heard_commit(),
            applied: shared.applied.borrow().map(|id| id.index),
            purged: None,
            voters: Vec::new(),
            learners: Vec::new(),
            configs: Vec::new(),
            followers: Vec::new(),
            lease_until: shared.lease_until(),
            waiting: shared.waiting.load(Ordering::Acquire),
            waiting_bytes: shared.waiting_bytes.load(Ordering::Acquire),
        };
        let Some(raft) = shared.raft() else {
            return status;
        };
        let receiver = raft.metrics();
        let metrics = receiver.borrow_watched();
        status.role = match metrics.state {
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Down,
        };
        status.last_log = metrics.last_log_index.map(convert::index_from_raft);
        status.committed = metrics
            .local_committed
            .map(|id| convert::index_from_raft(id.index));
        status.purged = metrics.purged.map(|id| convert::index_from_raft(id.index));
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let members = convert::members(membership);
        let configs = membership.get_joint_config().iter();
        let among = |all: &BTreeSet<u64>| {
            let voting = members.iter().filter(|it| all.contains(&it.replica.0));
            voting.copied().collect()
        };
        status.configs = configs.filter(|it| !it.is_empty()).map(among).collect();
        (status.voters, status.learners) = members
            .into_iter()
            .partition(|it| voters.contains(&it.replica.0));
        for (replica, matched) in metrics.replication.iter().flatten() {
            if *replica == shared.replica.0 {
                continue;
            }
            let acked = metrics.heartbeat.as_ref().and_then(|all| all.get(replica));
            status.followers.push(FollowerStatus {
                replica: ReplicaId(*replica),
                node: membership
                    .get_node(replica)
                    .map_or(NodeId(0), |home| NodeId(home.node)),
                matched: matched
                    .as_ref()
                    .map(|id| convert::index_from_raft(id.index)),
                acked: acked
                    .and_then(|at| at.as_ref())
                    .map(|at| convert::instant(at.into_inner())),
            });
        }
        status
    }
}
