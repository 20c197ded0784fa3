//! All replicas of one node. Not here: which replicas there should be (`server`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::RwLock;
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{info, warn};
use warren_proto::internal_v1::raft_service_server::RaftServiceServer;
use warren_storage::{LogEngine, ScrubView, StateStore};
use warren_types::{GroupId, Member};

use crate::compactor;
use crate::group::{
    Group, GroupSpec, GroupStatus, OpenError, Parts, Replica, voters_map, watch_for_gone_leaders,
};
use crate::machine::Appliers;
use crate::net::{Links, MESSAGE_BYTES_MAX, Peers, RaftService};
use crate::options::RaftOptions;
use crate::tasks::Tasks;

const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs the replicas of all groups on this node. Cheap to clone.
#[derive(Clone)]
pub struct RaftNode {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) parts: Arc<Parts>,
    pub(crate) tasks: Tasks,
    replicas: RwLock<BTreeMap<GroupId, Arc<Replica>>>,
}

/// Why a group was not initialised.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InitializeError {
    #[error("group {0} is not open here")]
    NotOpen(GroupId),
    #[error("group {group} is not initialised: {cause}")]
    Refused { group: GroupId, cause: String },
}

impl RaftNode {
    /// Starts the node's shared tasks and apply threads. Call inside a tokio runtime.
    #[must_use]
    pub fn new(
        options: RaftOptions,
        log: Arc<dyn LogEngine>,
        state: StateStore,
        peers: Peers,
    ) -> Self {
        let options = Arc::new(options);
        let tasks = Tasks::default();
        let parts = Parts {
            appliers: Appliers::start(options.apply_threads),
            links: Links::start(&options, &peers, &tasks),
            options: options.clone(),
            log,
            state,
            peers: peers.clone(),
        };
        let inner = Inner {
            parts: Arc::new(parts),
            tasks: tasks.clone(),
            replicas: RwLock::default(),
        };
        let node = Self {
            inner: Arc::new(inner),
        };

        if options.early_election {
            let changes = peers.changes();
            let weak = Arc::downgrade(&node.inner);
            let replicas = move || {
                weak.upgrade()
                    .map_or_else(Vec::new, |inner| inner.replicas())
            };
            tasks.spawn(
                "early-elections",
                watch_for_gone_leaders(peers, changes, replicas),
            );
        }
        tasks.spawn("compactor", compactor::run(Arc::downgrade(&node.inner)));
        node
    }

    /// Opens a replica from what is stored, or empty. It is part of its group from then on, and is opened again by itself
    /// if its core fails. A replica that is not yet initialised waits for `initialize` here or for a leader elsewhere.
    ///
    /// # Errors
    /// The replica takes no part in its group, and nothing on disk was changed.
    pub async fn open_group(&self, spec: GroupSpec) -> Result<Group, OpenError> {
        let group = spec.group;
        if self.inner.tasks.is_stopped() {
            return Err(OpenError::Stopped);
        }
        if self.inner.replica(group).is_some() {
            return Err(OpenError::OpenAlready(group));
        }
        let tasks = self.inner.tasks.child();
        let replica = Replica::open(self.inner.parts.clone(), tasks, spec).await?;
        let handle = replica.handle();
        info!(%group, replica = %handle.replica(), "replica opened");
        self.inner.replicas.write().insert(group, Arc::new(replica));
        Ok(handle)
    }

    /// Makes these members the first voters of a group that has none; one node does this. Repeatable with the same members.
    ///
    /// # Errors
    /// The group is not open here, or has other members already.
    pub async fn initialize(
        &self,
        group: GroupId,
        members: &[Member],
    ) -> Result<(), InitializeError> {
        let replica = self
            .inner
            .replica(group)
            .ok_or(InitializeError::NotOpen(group))?;
        let raft = replica
            .shared
            .raft()
            .ok_or(InitializeError::NotOpen(group))?;
        let wanted = voters_map(members);
        let refused = match raft.initialize(wanted.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        };
        // Asked of the core itself: its metrics may be older than the call before this one.
        let has = raft.with_raft_state(|state| {
            let membership = state.membership_state.effective().membership().clone();
            let nodes = membership.nodes();
            nodes
                .map(|(replica, home)| (*replica, *home))
                .collect::<BTreeMap<_, _>>()
        });
        if has.await.is_ok_and(|has| has == wanted) {
            return Ok(());
        }
        Err(InitializeError::Refused {
            group,
            cause: refused,
        })
    }

    /// The handle of an open group.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<Group> {
        self.inner.replica(group).map(|replica| replica.handle())
    }

    /// All open groups, in order.
    #[must_use]
    pub fn status(&self) -> Vec<GroupStatus> {
        self.inner
            .replicas()
            .iter()
            .map(|replica| replica.handle().status())
            .collect()
    }

    /// What reading the log in the background has brought.
    #[must_use]
    pub fn log_scrub(&self) -> ScrubView {
        self.inner.parts.log.scrub()
    }

    /// Snapshots that did not match their checksums when they came here, since the node started.
    #[must_use]
    pub fn snapshots_refused(&self) -> u64 {
        let links = &self.inner.parts.links;
        links.snapshots_refused.load(Ordering::Relaxed)
    }

    /// The service to be mounted on the node-to-node listener.
    #[must_use]
    pub fn service(&self) -> RaftServiceServer<RaftService> {
        RaftServiceServer::new(RaftService::new(self))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.inner.parts.peers
    }

    /// Stops one replica; what is stored stays.
    pub async fn close_group(&self, group: GroupId) {
        let replica = self.inner.replicas.write().remove(&group);
        if let Some(replica) = replica {
            replica.stop().await;
        }
    }

    /// Stops one replica for good and removes what is stored of it: it has left the group, and its id will never be used
    /// again.
    ///
    /// # Errors
    /// The data may be there still; call again.
    pub async fn remove_group(&self, group: GroupId) -> Result<(), OpenError> {
        self.close_group(group).await;
        let (done, removed) = oneshot::channel();
        let done = Box::new(move |result| {
            // Nobody waits if the node is stopping.
            let _ = done.send(result);
        });
        self.inner.parts.log.remove_group(group, done);
        let removed = removed.await.map_err(|_| OpenError::Stopped)?;
        removed.map_err(|source| OpenError::Log { group, source })?;
        let state = self.inner.parts.state.clone();
        let rows = tokio::task::spawn_blocking(move || state.remove_group(group));
        let rows = rows.await.map_err(|_| OpenError::Stopped)?;
        rows.map_err(|source| OpenError::State { group, source })
    }

    /// Stops all replicas and tasks. Leaderships are not handed over; do that first, and stop serving after it. The log
    /// engine and the state store stay open.
    pub async fn shutdown(&self) {
        let replicas = std::mem::take(&mut *self.inner.replicas.write());
        let stopping = replicas.values().map(|replica| replica.stop());
        futures::future::join_all(stopping).await;
        self.inner.tasks.stop(STOP_WITHIN).await;
        let parts = self.inner.parts.clone();
        // Joins threads, so not on the runtime. A machine that never returns is left behind; a panic has been logged.
        let joined = tokio::task::spawn_blocking(move || parts.appliers.stop());
        if tokio::time::timeout(STOP_WITHIN, joined).await.is_err() {
            warn!("apply threads did not end in time");
        }
    }
}

impl Inner {
    pub(crate) fn replica(&self, group: GroupId) -> Option<Arc<Replica>> {
        self.replicas.read().get(&group).cloned()
    }

    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().values().cloned().collect()
    }
}
