//! The broker on one node: its replicas, its uplinks, its copy of the topology, and the door for sessions.
//! Not here: sockets of clients (`gateway`), configuration and start order (`server`).

mod aside;
mod copies;
mod leading;
mod members;
mod needed;
mod placing;
mod reconcile;
#[cfg(test)]
mod testing;
mod upgrade;
mod without;
mod wrong;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use warren_codec::KNOWN_VERSIONS;
use warren_proto::internal_v1 as wire;
use warren_queue::entry::ReturnKind;
use warren_raft::{Group, GroupSpec, GroupStatus, OpenError, Peers, RaftNode};
use warren_storage::{RecoveryRecord, SetAside};
use warren_topology::Topology;
use warren_types::{
    ClusterId, ClusterVersion, ConsumerId, GroupId, Incarnation, Member, NodeId, QueueId,
    ReplicaId, Run, SessionId, ShardId, Term, TopologyIndex,
};

use crate::api::Unavailable;
use crate::attempts::{self, AttemptDoor, AttemptKeeper};
use crate::audit::{Audits, Fault, TopologyAudits};
use crate::handover::{self, HandedOver, Keeper, KeeperDoor};
use crate::jobs::{self, JobsDoor, JobsKeeper};
use crate::leader::task::NodeIdentity;
use crate::link::post::{LeaderDoors, UplinkDoors, UplinkRequests};
use crate::link::remote::NodeStreams;
use crate::link::reply::{DirectReply, ReplyDoor};
use crate::link::service::LinkService;
use crate::open::{initialise, open};
use crate::reaper::{Asked, Reaper, Reaping};
use crate::session::Session;
use crate::surplus::{Surplus, SurplusTask};
use crate::topology::handle::TopologyHandle;
use crate::topology::machine::{TopologyMachineFactory, Waiting};
use crate::topology::stored::Stored;
use crate::uplink::door::{Request, UplinkDoor};
use crate::uplink::encode::Publish;

pub use aside::AsideView;
pub use copies::CopiesError;
pub use leading::HandOverError;
pub use reconcile::PlacementOptions;
use reconcile::{Reconciler, SpreadNow};

/// How long one leadership may take to be handed over when the node stops.
const TRANSFER_WITHIN: Duration = Duration::from_secs(2);
/// Sessions number their consumers in the low bits, under the run of the node.
const CONSUMER_BITS: u32 = 40;

/// What the broker is started with.
pub struct BrokerParts {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub run: Run,
    pub cluster: ClusterId,
    pub raft: RaftNode,
    pub peers: Peers,
    /// The topology group's replicas, as the cluster was formed.
    pub topology_members: Vec<Member>,
    /// This node forms the cluster: its topology group is to be initialised (repeatable).
    pub initialise: bool,
    pub placement: PlacementOptions,
    /// Replicas of this node that are not to be opened.
    pub aside: Arc<SetAside>,
    /// Made in this data directory, without a majority.
    pub recoveries: Vec<RecoveryRecord>,
}

#[derive(Debug, Error)]
pub enum BrokerError {
    #[error("node {node} has no replica of the topology")]
    NotMember { node: NodeId },
    #[error("replica of group {group} cannot be opened")]
    Open {
        group: GroupId,
        #[source]
        source: OpenError,
    },
    #[error("group {group} cannot be initialised: {cause}")]
    Initialise { group: GroupId, cause: String },
    /// Nothing of shards was opened.
    #[error(
        "the cluster has finalised version {finalised}, and this software knows {KNOWN_VERSIONS} only"
    )]
    Version { finalised: ClusterVersion },
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeIdentity,
    raft: RaftNode,
    peers: Peers,
    topology: TopologyHandle,
    leaders: LeaderDoors,
    uplink_doors: UplinkDoors,
    keeper: KeeperDoor,
    jobs: JobsDoor,
    audits: Audits,
    topology_audits: TopologyAudits,
    aside: Arc<SetAside>,
    recoveries: Vec<RecoveryRecord>,
    attempts: AttemptDoor,
    streams: NodeStreams,
    replies: ReplyDoor,
    uplinks: UplinkRequests,
    surplus: Surplus,
    groups: RwLock<BTreeMap<GroupId, Group>>,
    sessions: AtomicU64,
    consumers: AtomicU64,
    spread_now: SpreadNow,
    reaping: Reaping,
    /// Ends the leader task of one replica.
    leader_stops: RwLock<BTreeMap<ShardId, CancellationToken>>,
    tasks: TaskTracker,
    /// Where the broker runs: a session may be dropped anywhere.
    runtime: Handle,
    stop: CancellationToken,
}

/// The topology as it is applied here, and when rights and policies changed.
type Watches = (
    watch::Receiver<Arc<Topology>>,
    watch::Receiver<TopologyIndex>,
    watch::Receiver<TopologyIndex>,
);

/// Software that does not know the version of the stored topology must not go on from it to shards.
async fn open_topology(
    parts: &BrokerParts,
    replica: ReplicaId,
    (waiting, stored): (Waiting, Stored),
) -> Result<(Group, Watches), BrokerError> {
    let (view, watched) = watch::channel(Arc::new(Topology::new()));
    let (access, access_watched) = watch::channel(TopologyIndex(0));
    let (policies, policies_watched) = watch::channel(TopologyIndex(0));
    let factory = TopologyMachineFactory {
        view,
        access,
        policies,
        waiting,
        stored,
    };
    let spec = GroupSpec {
        // A directory of which the log is gone is refused before.
        may_be_blank: true,
        group: GroupId::TOPOLOGY,
        replica,
        machine: Box::new(factory),
    };
    let opened = open(&parts.raft, spec).await;
    // Before an error: what cannot be read comes after the version that it needs.
    let finalised = watched.borrow().version();
    if !KNOWN_VERSIONS.knows(finalised) {
        return Err(BrokerError::Version { finalised });
    }
    let group = opened?;
    if parts.initialise {
        initialise(&parts.raft, GroupId::TOPOLOGY, &parts.topology_members).await?;
    }
    Ok((group, (watched, access_watched, policies_watched)))
}

impl Broker {
    /// Opens the topology's replica and follows it: replicas and uplinks of shards are opened as it places them here.
    ///
    /// # Errors
    /// [`BrokerError`] if the topology's replica cannot work; a shard's that cannot is reported and left out.
    pub async fn start(parts: BrokerParts) -> Result<Self, BrokerError> {
        let me = NodeIdentity {
            node: parts.node,
            incarnation: parts.incarnation,
            run: parts.run,
        };
        let own = parts.topology_members.iter().find(|it| it.node == me.node);
        let own = own.ok_or(BrokerError::NotMember { node: parts.node })?;
        let (waiting, stored) = (Waiting::default(), Stored::default());
        let kept = (waiting.clone(), stored.clone());
        let (group, watches) = open_topology(&parts, own.replica, kept).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let uplink_doors = UplinkDoors::default();
        let replies = ReplyDoor::default();
        let (reaping, asked) = Reaping::channel();
        let (surplus, surplus_task) = Surplus::new(watches.0.clone());
        let (audits, faults) = Audits::new(me.node, parts.peers.clone(), tasks.clone());
        let topology = TopologyHandle::new(
            me,
            parts.cluster,
            group.clone(),
            parts.peers.clone(),
            watches,
            waiting,
        );
        let peers = parts.peers.clone();
        let inner = Inner {
            me,
            topology_audits: TopologyAudits::new(me.node, topology.clone(), peers, stored),
            topology,
            leaders: LeaderDoors::default(),
            streams: NodeStreams::new(
                parts.peers.clone(),
                uplink_doors.clone(),
                replies.clone(),
                tasks.clone(),
                stop.clone(),
            ),
            uplink_doors,
            replies,
            keeper: KeeperDoor::default(),
            jobs: JobsDoor::default(),
            audits,
            aside: parts.aside,
            recoveries: parts.recoveries,
            attempts: AttemptDoor::default(),
            uplinks: UplinkRequests::default(),
            surplus,
            groups: RwLock::new(BTreeMap::from([(GroupId::TOPOLOGY, group)])),
            sessions: AtomicU64::new(0),
            consumers: AtomicU64::new(0),
            spread_now: SpreadNow::default(),
            reaping,
            leader_stops: RwLock::default(),
            raft: parts.raft,
            peers: parts.peers,
            tasks,
            runtime: Handle::current(),
            stop,
        };
        let inner = Arc::new(inner);
        let broker = Self { inner };
        broker.spawn_followers((asked, faults), parts.placement, surplus_task);
        Ok(broker)
    }

    fn spawn_followers(
        &self,
        (asked, faults): (Asked, mpsc::Receiver<Fault>),
        placement: PlacementOptions,
        surplus: SurplusTask,
    ) {
        let (follower, it) = (self.clone(), &self.inner);
        it.tasks
            .spawn(async move { follower.follow_placement(faults).await });
        it.tasks
            .spawn(Reconciler::new(self.clone(), placement).run());
        it.tasks.spawn(self.clone().keep_members());
        it.tasks.spawn(self.clone().tend_aside());
        let topology_audits = it.topology_audits.clone();
        it.tasks.spawn(topology_audits.run(it.stop.clone()));
        let reaper = Reaper::new(it.me, &it.topology, &it.peers, asked, &it.reaping);
        it.tasks
            .spawn(reaper.run(it.tasks.clone(), it.stop.clone()));
        it.tasks.spawn(surplus.run(self.clone(), it.stop.clone()));
    }

    /// Deletes an exclusive queue whose connection has ended, as soon as that can be done.
    pub fn delete_later(&self, queue: QueueId) {
        self.inner.reaping.leave(queue);
    }

    #[must_use]
    pub fn topology(&self) -> &TopologyHandle {
        &self.inner.topology
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.me.node
    }

    #[must_use]
    pub fn run(&self) -> Run {
        self.inner.me.run
    }

    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    /// For the node-to-node listener.
    #[must_use]
    pub fn link_service(&self) -> LinkService {
        LinkService::new(
            self.inner.leaders.clone(),
            self.inner.replies.clone(),
            (self.inner.keeper.clone(), self.inner.jobs.clone()),
            (self.inner.audits.doors(), self.inner.attempts.clone()),
            self.inner.tasks.clone(),
            self.inner.stop.clone(),
        )
    }

    /// Who takes the direct replies that come from other nodes; only the first call counts.
    pub fn take_replies(&self, sink: impl Fn(DirectReply) + Send + Sync + 'static) {
        self.inner.replies.open(Box::new(sink));
    }

    /// Sends a direct reply to another node, at most once. False: too much waits, or there is no such node; it is dropped.
    #[must_use]
    pub fn send_reply(&self, node: NodeId, reply: DirectReply) -> bool {
        self.inner.peers.nodes().contains(&node) && self.inner.streams.send_reply(node, reply)
    }

    /// Opens a session.
    #[must_use]
    pub fn session(&self) -> Session {
        let id = self.inner.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        Session::new(SessionId(id), self.clone())
    }

    /// Says who is asked when a client of a consumer of this node has come back to another node.
    pub fn keep_consumers(&self, keeper: Keeper) {
        self.inner.keeper.open(keeper);
    }

    /// Has a consumer handed over by the node that gave its client the token. `None`: it keeps none under it, or does not answer.
    pub async fn take_over(
        &self,
        node: NodeId,
        resume_token: Bytes,
        queue: QueueId,
    ) -> Option<HandedOver> {
        handover::ask(&self.inner.peers, node, resume_token, queue).await
    }

    /// Says who is asked about long jobs of this node.
    pub fn keep_jobs(&self, keeper: JobsKeeper) {
        self.inner.jobs.open(keeper);
    }

    /// What another node says of its long jobs. `None`: it does not answer.
    pub async fn ask_jobs(
        &self,
        node: NodeId,
        request: wire::JobsRequest,
    ) -> Option<wire::JobsResponse> {
        jobs::ask(&self.inner.peers, node, request).await
    }

    /// Says who is asked about attempts of this node.
    pub fn keep_attempts(&self, keeper: AttemptKeeper) {
        self.inner.attempts.open(keeper);
    }

    /// The answer of another node that knows an attempt, which has so long for it. `None`: none knows it.
    pub async fn find_attempt(
        &self,
        request: wire::FindAttemptRequest,
        wait: std::time::Duration,
    ) -> Option<wire::FindAttemptResponse> {
        attempts::ask(&self.inner.peers, request, wait).await
    }

    /// Every replica of this node.
    #[must_use]
    pub fn status(&self) -> Vec<GroupStatus> {
        let groups = self.inner.groups.read();
        groups.values().map(Group::status).collect()
    }

    /// Who leads a shard, as this node knows it.
    #[must_use]
    pub fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        self.leadership_of(shard.into()).map(|(node, _)| node)
    }

    /// Who leads a group, and in which term: by the replica here, or without one by the link to the leader.
    #[must_use]
    pub fn leadership_of(&self, group: GroupId) -> Option<(NodeId, Term)> {
        let replica = self.inner.groups.read().get(&group).cloned();
        // One that has just come may not know on which node the leader is, or that there is one.
        if let Some(replica) = replica.filter(|it| it.group() == GroupId::TOPOLOGY || it.is_voter())
        {
            let leadership = *replica.leadership().borrow();
            return Some((leadership.leader?.node, leadership.term));
        }
        let uplinks = self.inner.uplinks.read();
        let linked = uplinks.get(&group.shard()?)?.linked.borrow();
        *linked
    }

    /// Whether this node knows a leader of every shard, and the topology is up to date: the node can serve. A shard without a
    /// replica here counts when its leader has answered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let topology = self.inner.topology.current();
        let placed = topology.cluster().is_some();
        placed
            && self.inner.topology.is_recent()
            && topology
                .shards()
                .all(|shard| self.leader_of(shard).is_some())
    }

    /// Hands every leadership of this node to a caught-up replica elsewhere, as far as there is one.
    pub async fn hand_over(&self) {
        let groups: Vec<Group> = self.inner.groups.read().values().cloned().collect();
        let led = groups.into_iter().filter(|group| {
            group
                .leadership()
                .borrow()
                .leader
                .is_some_and(|leader| leader.replica == group.replica())
        });
        let handed = led.map(|group| async move {
            match tokio::time::timeout(TRANSFER_WITHIN, group.transfer_leader(None)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(group = %group.group(), %error, "leadership not handed over")
                }
                Err(_) => warn!(group = %group.group(), "leadership not handed over in time"),
            }
        });
        futures::future::join_all(handed).await;
    }

    /// Ends every task of the broker and waits for them. The replicas are stopped by their owner.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub(crate) fn next_consumer(&self) -> ConsumerId {
        let number = self.inner.consumers.fetch_add(1, Ordering::Relaxed) + 1;
        ConsumerId((self.inner.me.run.0 << CONSUMER_BITS) | number)
    }

    /// Asks the uplink of a shard, waiting while it has too much to do.
    pub(crate) async fn ask(&self, shard: ShardId, request: Request) -> Result<(), Unavailable> {
        let uplink = self.uplink(shard)?;
        let asked = uplink.requests.send(request).await;
        asked.map_err(|_| Unavailable::Draining)
    }

    /// Hands publishes to the uplink of a shard, waiting while there is no room.
    pub(crate) async fn publish(
        &self,
        shard: ShardId,
        publishes: Vec<Publish>,
    ) -> Result<(), Unavailable> {
        let uplink = self.uplink(shard)?;
        let handed = uplink.publishes.send(publishes).await;
        handed.map_err(|_| Unavailable::Draining)
    }

    fn uplink(&self, shard: ShardId) -> Result<UplinkDoor, Unavailable> {
        let uplinks = self.inner.uplinks.read();
        uplinks.get(&shard).cloned().ok_or(Unavailable::NotReady)
    }

    /// A session has ended: everything it holds returns.
    pub(crate) fn detach_all(&self, consumers: BTreeMap<ConsumerId, ShardId>) {
        let broker = self.clone();
        let detached = async move {
            for (consumer, shard) in consumers {
                let request = Request::Detach {
                    consumer,
                    returns: Some(ReturnKind::Failed),
                };
                // An uplink that has stopped takes its consumers with it.
                let _stopped = broker.ask(shard, request).await;
            }
        };
        self.inner.tasks.spawn_on(detached, &self.inner.runtime);
    }
}
