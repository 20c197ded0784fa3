//! Reading and changing the topology from any node: reads come from the local copy, changes go through the topology's leader and are
//! answered when every live node has applied them. Not here: who calls (`gateway`, `server`), what other nodes ask (`serve`), the rules
//! (`warren-topology`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::debug;
use warren_codec::{TopologyEntry, decode_reply, encode_topology_entry};
use warren_proto::internal_v1::node_service_client::NodeServiceClient;
use warren_proto::internal_v1::{
    AppliedTopologyRequest, ProposeTopologyRequest, ReadTopologyIndexRequest, TopologyRefusal,
};
use warren_queue::entry::ProposalId;
use warren_raft::{Group, Lane, Peers, ProposeError, ReadError};
use warren_topology::{Topology, TopologyCommand, TopologyReply};
use warren_types::{ClusterId, ClusterVersion, NodeId, ShardTime, TopologyIndex};

use super::machine::Waiting;
use crate::leader::task::NodeIdentity;

/// A change or read that has not succeeded by then is given up.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// How long a change waits for the live nodes to apply it.
const FELT_WITHIN: Duration = Duration::from_millis(500);
/// A node heard from within this time is waited for.
const LIVE_WITHIN: Duration = Duration::from_millis(500);
/// A copy that heard the leader within this time may give negative answers.
const RECENT_WITHIN: Duration = Duration::from_millis(400);
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Why the topology could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopologyError {
    /// Nothing was changed.
    #[error("no leader of the topology is reachable")]
    NoQuorum,
    #[error("the node has not joined its cluster yet")]
    NotReady,
    /// It was proposed; whether it was committed is not known. Commands can be repeated safely.
    #[error("the outcome of the change is not known")]
    OutcomeUnknown,
    #[error("a node of another cluster or version answered: {0}")]
    BadAnswer(String),
    /// Nothing was changed, or proposed.
    #[error(
        "this needs version {needs}, and the cluster has finalised version {finalised}: upgrade all nodes, then finalise the upgrade"
    )]
    NotFinalised {
        needs: ClusterVersion,
        finalised: ClusterVersion,
    },
}

/// Cheap to clone.
#[derive(Clone)]
pub struct TopologyHandle {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeIdentity,
    cluster: ClusterId,
    group: Group,
    peers: Peers,
    view: watch::Receiver<Arc<Topology>>,
    access: watch::Receiver<TopologyIndex>,
    policies: watch::Receiver<TopologyIndex>,
    waiting: Waiting,
    requests: AtomicU64,
    /// The copy has been as new as the leader's in this run: until then it may be one of the past that is made again from the log.
    caught_up: AtomicBool,
}

/// How one attempt at the leader ended.
pub(super) enum Attempt<T> {
    Done(T),
    /// Nothing happened: ask this node, or whoever leads by then.
    Elsewhere(Option<NodeId>),
    Unknown,
}

type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<Attempt<T>, TopologyError>> + Send + 'a>>;

impl TopologyHandle {
    pub(crate) fn new(
        me: NodeIdentity,
        cluster: ClusterId,
        group: Group,
        peers: Peers,
        (view, access, policies): (
            watch::Receiver<Arc<Topology>>,
            watch::Receiver<TopologyIndex>,
            watch::Receiver<TopologyIndex>,
        ),
        waiting: Waiting,
    ) -> Self {
        let inner = Inner {
            me,
            cluster,
            group,
            peers,
            view,
            access,
            policies,
            waiting,
            requests: AtomicU64::new(0),
            caught_up: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// This node's applied copy.
    #[must_use]
    pub fn current(&self) -> Arc<Topology> {
        self.inner.view.borrow().clone()
    }

    /// Follows this node's applied copy.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Topology>> {
        self.inner.view.clone()
    }

    /// Follows [`Topology::access_changed_at`]: told after the copy that holds the change is there.
    #[must_use]
    pub fn access_changes(&self) -> watch::Receiver<TopologyIndex> {
        self.inner.access.clone()
    }

    /// The same of [`Topology::policies_changed_at`].
    #[must_use]
    pub fn policy_changes(&self) -> watch::Receiver<TopologyIndex> {
        self.inner.policies.clone()
    }

    /// The topology group's replica on this node.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.inner.group
    }

    /// Whether this node leads the topology, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.leader() == Some(self.inner.me.node)
    }

    /// Whether a negative answer (unroutable, not found) may be given from the local copy.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        if !self.inner.caught_up.load(Ordering::Acquire) {
            return false;
        }
        if leader == self.inner.me.node {
            return self
                .inner
                .group
                .lease_until()
                .is_some_and(|until| Instant::now() < until);
        }
        self.inner
            .peers
            .heard(leader)
            .last_heard
            .is_some_and(|at| at.elapsed() <= RECENT_WITHIN)
    }

    /// Changes the topology: answered when it is committed, applied here, and applied on every other live node or half a second has passed.
    ///
    /// # Errors
    /// [`TopologyError::NoQuorum`], [`TopologyError::NotFinalised`]: nothing was changed. [`TopologyError::OutcomeUnknown`]: repeat the
    /// command to find out.
    pub async fn propose(
        &self,
        command: TopologyCommand,
        user: &str,
    ) -> Result<TopologyReply, TopologyError> {
        if self.check_version(&command).is_err() {
            // It may have been finalised a moment ago, and not come here yet.
            self.fresh().await?;
            self.check_version(&command)?;
        }
        let number = self.inner.requests.fetch_add(1, Ordering::Relaxed);
        let me = self.inner.me;
        let entry = TopologyEntry {
            proposal: ProposalId {
                node: me.node,
                run: me.run,
                number,
            },
            now: ShardTime(crate::time::wall_clock_ms()),
            command,
        };
        let proposal = entry.proposal;
        let identity = warren_proto::internal_v1::Identity {
            user: user.to_owned(),
            ..Default::default()
        };
        let bytes = encode_topology_entry(&entry);
        let (index, reply) = self
            .at_leader(|leader| -> Asked<'_, (TopologyIndex, TopologyReply)> {
                let bytes = bytes.clone();
                match leader {
                    None => Box::pin(async move { Ok(self.propose_here(bytes, proposal).await) }),
                    Some(node) => Box::pin(self.propose_at(node, bytes, identity.clone())),
                }
            })
            .await?;
        self.wait_applied(index, GIVE_UP_AFTER).await?;
        Ok(reply)
    }

    /// What is newer than the finalised version never enters the log: a member might not know it (guarantee G23).
    pub(crate) fn check_version(&self, command: &TopologyCommand) -> Result<(), TopologyError> {
        let needs = command.since();
        let finalised = self.current().version();
        if needs <= finalised {
            return Ok(());
        }
        Err(TopologyError::NotFinalised { needs, finalised })
    }

    pub(super) fn node(&self) -> NodeId {
        self.inner.me.node
    }

    /// The local copy, at least as new as everything committed before the call (ReadIndex on the topology group).
    ///
    /// # Errors
    /// [`TopologyError::NoQuorum`] if no leader could confirm it.
    pub async fn fresh(&self) -> Result<Arc<Topology>, TopologyError> {
        let index = self
            .at_leader(|leader| -> Asked<'_, TopologyIndex> {
                match leader {
                    None => Box::pin(async move { Ok(self.read_here().await) }),
                    Some(node) => Box::pin(self.read_at(node)),
                }
            })
            .await?;
        self.wait_applied(index, GIVE_UP_AFTER).await?;
        self.inner.caught_up.store(true, Ordering::Release);
        Ok(self.current())
    }

    /// # Errors
    /// [`TopologyError::NotReady`] if the copy did not get that far in time.
    pub async fn wait_applied(
        &self,
        index: TopologyIndex,
        within: Duration,
    ) -> Result<(), TopologyError> {
        let mut view = self.watch();
        let reached = timeout(within, view.wait_for(|topology| topology.index() >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(TopologyError::NotReady),
        }
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.inner
            .group
            .leadership()
            .borrow()
            .leader
            .map(|leader| leader.node)
    }

    /// Tries at the leader (`None` = here) until it is done or given up.
    async fn at_leader<'a, T>(
        &'a self,
        ask: impl Fn(Option<NodeId>) -> Asked<'a, T>,
    ) -> Result<T, TopologyError> {
        let give_up = Instant::now() + GIVE_UP_AFTER;
        let mut hint = None;
        let mut unknown = false;
        while Instant::now() < give_up {
            let target = hint.take().or_else(|| self.leader());
            if let Some(node) = target {
                match ask((node != self.inner.me.node).then_some(node)).await? {
                    Attempt::Done(value) => return Ok(value),
                    Attempt::Elsewhere(known) => hint = known.filter(|known| *known != node),
                    // Commands are idempotent by content, so trying again is safe.
                    Attempt::Unknown => unknown = true,
                }
                if hint.is_some() {
                    continue;
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Err(if unknown {
            TopologyError::OutcomeUnknown
        } else {
            TopologyError::NoQuorum
        })
    }

    pub(super) async fn propose_here(
        &self,
        bytes: Bytes,
        proposal: ProposalId,
    ) -> Attempt<(TopologyIndex, TopologyReply)> {
        let group = &self.inner.group;
        let mut leadership = group.leadership();
        let known = *leadership.borrow_and_update();
        let answer = self.inner.waiting.wait_for(proposal);
        let taken = group.propose(known.term, &bytes);
        if let Err(
            refused @ (ProposeError::NotLeader(_) | ProposeError::Full | ProposeError::Stopped),
        ) = taken
        {
            debug!(error = %refused, "topology command not proposed here");
            self.inner.waiting.forget(proposal);
            return Attempt::Elsewhere(None);
        }
        let lost = async {
            // Another leads, in the same term even: the command may be committed still, or never.
            while !leadership.borrow_and_update().is_after(&known) {
                if leadership.changed().await.is_err() {
                    return;
                }
            }
        };
        let answered = tokio::select! {
            biased; // an answer counts, whatever else happened
            answer = answer => answer.ok(),
            () = lost => None,
            () = tokio::time::sleep(GIVE_UP_AFTER) => None,
        };
        self.inner.waiting.forget(proposal);
        let Some((index, reply)) = answered else {
            return Attempt::Unknown;
        };
        self.felt_everywhere(index).await;
        Attempt::Done((index, reply))
    }

    /// Waits until every live node has applied `index`, for half a second at most.
    async fn felt_everywhere(&self, index: TopologyIndex) {
        let others = self.inner.peers.live(LIVE_WITHIN);
        let asked = others.into_iter().map(|node| self.ask_applied(node, index));
        if timeout(FELT_WITHIN, join_all(asked)).await.is_err() {
            debug!(%index, "not every node applied the topology in time");
        }
    }

    async fn ask_applied(&self, node: NodeId, index: TopologyIndex) {
        let Some(mut client) = self.client(node) else {
            return;
        };
        let request = AppliedTopologyRequest {
            topology_index: index.0,
            wait_ms: u64::try_from(FELT_WITHIN.as_millis()).unwrap_or(u64::MAX),
            cluster_id: self.cluster_bytes(),
        };
        if let Err(error) = client.applied_topology(request).await {
            debug!(node_id = %node, %error, "node did not say whether it applied the topology");
        }
    }

    async fn propose_at(
        &self,
        node: NodeId,
        entry: Bytes,
        identity: warren_proto::internal_v1::Identity,
    ) -> Result<Attempt<(TopologyIndex, TopologyReply)>, TopologyError> {
        let Some(mut client) = self.client(node) else {
            return Ok(Attempt::Elsewhere(None));
        };
        let request = ProposeTopologyRequest {
            entry,
            identity: Some(identity),
            cluster_id: self.cluster_bytes(),
        };
        let answered = timeout(GIVE_UP_AFTER, client.propose_topology(request)).await;
        let Ok(Ok(response)) = answered else {
            return Ok(Attempt::Unknown);
        };
        let response = response.into_inner();
        if let Some(attempt) = refusal(response.refusal, response.leader_node)? {
            return Ok(attempt);
        }
        let reply = decode_reply(&response.reply)
            .map_err(|error| TopologyError::BadAnswer(error.to_string()))?;
        Ok(Attempt::Done((
            TopologyIndex(response.topology_index),
            reply,
        )))
    }

    pub(super) async fn read_here(&self) -> Attempt<TopologyIndex> {
        match self.inner.group.read_index().await {
            Ok(index) => Attempt::Done(TopologyIndex(index.0)),
            Err(ReadError::NotLeader | ReadError::NoMajority | ReadError::Stopped) => {
                Attempt::Elsewhere(None)
            }
        }
    }

    async fn read_at(&self, node: NodeId) -> Result<Attempt<TopologyIndex>, TopologyError> {
        let Some(mut client) = self.client(node) else {
            return Ok(Attempt::Elsewhere(None));
        };
        let request = ReadTopologyIndexRequest {
            cluster_id: self.cluster_bytes(),
        };
        let answered = timeout(GIVE_UP_AFTER, client.read_topology_index(request)).await;
        let Ok(Ok(response)) = answered else {
            return Ok(Attempt::Elsewhere(None));
        };
        let response = response.into_inner();
        if let Some(attempt) = refusal(response.refusal, response.leader_node)? {
            return Ok(attempt);
        }
        Ok(Attempt::Done(TopologyIndex(response.topology_index)))
    }

    fn client(&self, node: NodeId) -> Option<NodeServiceClient<tonic::transport::Channel>> {
        self.inner
            .peers
            .channel(node, Lane::Control)
            .map(NodeServiceClient::new)
    }

    pub(crate) fn cluster_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.inner.cluster.0.to_be_bytes())
    }
}

/// What a refusal means for the attempt; `Ok(None)`: there was none.
fn refusal<T>(refusal: i32, leader: u64) -> Result<Option<Attempt<T>>, TopologyError> {
    let leader = (leader != 0).then_some(NodeId(leader));
    match TopologyRefusal::try_from(refusal) {
        Ok(TopologyRefusal::Unspecified) => Ok(None),
        Ok(
            TopologyRefusal::NotLeader
            | TopologyRefusal::NoQuorum
            | TopologyRefusal::NotReady
            // It was allowed by our copy: the leader is about to hear of it.
            | TopologyRefusal::NotFinalized,
        ) => Ok(Some(Attempt::Elsewhere(leader))),
        Ok(TopologyRefusal::OutcomeUnknown) => Ok(Some(Attempt::Unknown)),
        Ok(TopologyRefusal::WrongCluster) => Err(TopologyError::BadAnswer(
            "it is of another cluster".to_owned(),
        )),
        Ok(TopologyRefusal::UnknownCommand) => Err(TopologyError::BadAnswer(
            "its software does not know the command".to_owned(),
        )),
        Ok(TopologyRefusal::BadRequest) => Err(TopologyError::BadAnswer(
            "it cannot read the command".to_owned(),
        )),
        Err(_) => Err(TopologyError::BadAnswer(format!(
            "unknown refusal {refusal}"
        ))),
    }
}
