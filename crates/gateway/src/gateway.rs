//! What all client sessions of a node share: the broker, limits, admission, and who is where. Not here: the sessions (`grpc`, `amqp`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use warren_shard::Broker;
use warren_topology::Topology;
use warren_types::{ClusterId, GroupId, NodeId, ShardId, Term};

use crate::admission::Admission;
use crate::alarms::AlarmBoard;
use crate::auth::Authenticator;
use crate::counters::Counters;
use crate::draining::Draining;
use crate::grpc::{Leases, Parked, answer_attempt};
use crate::jobs::Jobs;
use crate::options::GatewayOptions;
use crate::places::Places;
use crate::quota::Quotas;
use crate::rates::Rates;
use crate::replies::Replies;

/// A node that has not heard of the topology's leader for so long takes no publishes.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// The gateway of one node. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    options: GatewayOptions,
    admission: Admission,
    alarms: AlarmBoard,
    counters: Counters,
    draining: Draining,
    /// When the topology's copy was last seen to be recent.
    recent_at: Mutex<Instant>,
    numbers: AtomicU64,
    tasks: TaskTracker,
    parked: Parked,
    leases: Leases,
    replies: Replies,
    jobs: Jobs,
    /// AMQP connections that may open yet.
    connections: Arc<Semaphore>,
    places: Places,
    rates: Rates,
    quotas: Quotas,
    authenticator: Authenticator,
}

/// Where a shard is led, as this node knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LeaderSeen {
    pub(crate) node: NodeId,
    pub(crate) term: Term,
    /// For gRPC clients; empty = not known.
    pub(crate) endpoint: Box<str>,
}

impl Gateway {
    #[must_use]
    pub fn new(broker: Broker, options: GatewayOptions) -> Self {
        let parked = Parked::new(options.resumable_max);
        let keeper = parked.clone();
        broker.keep_consumers(Arc::new(move |request| keeper.hand_over(request)));
        let jobs = Jobs::new(broker.node(), broker.run());
        let asked = jobs.clone();
        broker.keep_jobs(Arc::new(move |request| asked.answer(&request)));
        let leases = Leases::new(options.receive_leases_max);
        let (attempts, own) = (leases.clone(), broker.node());
        broker.keep_attempts(Arc::new(move |request| {
            Box::pin(answer_attempt(attempts.clone(), own, request))
        }));
        let inner = Inner {
            admission: Admission::new(options.admission_bytes, options.connection_bytes),
            alarms: AlarmBoard::new(options.watermarks),
            counters: Counters::default(),
            draining: Draining::default(),
            recent_at: Mutex::new(Instant::now()),
            numbers: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            parked,
            leases,
            replies: Replies::default(),
            jobs,
            connections: Arc::new(Semaphore::new(options.amqp.connections_max)),
            places: Places::new(options.amqp.channels_max),
            rates: Rates::default(),
            quotas: Quotas::default(),
            authenticator: Authenticator::new(options.loopback_guest),
            broker,
            options,
        };
        let gateway = Self {
            inner: Arc::new(inner),
        };
        // The broker does not keep its gateway alive.
        let weak = Arc::downgrade(&gateway.inner);
        gateway.broker().take_replies(move |reply| {
            if let Some(inner) = weak.upgrade() {
                Self { inner }.reply_came(reply);
            }
        });
        gateway
    }

    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    #[must_use]
    pub fn options(&self) -> &GatewayOptions {
        &self.inner.options
    }

    /// Ends when every session of this node has ended.
    pub async fn sessions_ended(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    pub(crate) fn alarm_board(&self) -> &AlarmBoard {
        &self.inner.alarms
    }

    pub(crate) fn draining(&self) -> &Draining {
        &self.inner.draining
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    pub(crate) fn parked(&self) -> &Parked {
        &self.inner.parked
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.inner.leases
    }

    pub(crate) fn replies(&self) -> &Replies {
        &self.inner.replies
    }

    /// A place for one more open AMQP connection; `None`: there are as many as there may be.
    pub(crate) fn connection_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.connections).try_acquire_owned().ok()
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.inner.rates
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.inner.quotas
    }

    /// The places of open connections by vhost and user.
    pub(crate) fn places(&self) -> &Places {
        &self.inner.places
    }

    /// Long jobs that this node runs for clients.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.inner.jobs
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    /// Where the tasks of sessions run.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// A number that no other caller in this run of the node gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.inner.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Identifies the cluster; zero until it is formed.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.topology()
            .cluster()
            .map_or(ClusterId(0), |cluster| cluster.id)
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.inner.broker.topology().current()
    }

    /// Whether the node may take publishes: it has joined, and heard of the topology's leader within the last five seconds.
    pub(crate) fn may_serve(&self) -> bool {
        self.look_for_leader();
        let fresh = self.inner.recent_at.lock().elapsed() < STALE_AFTER;
        fresh && self.topology().cluster().is_some()
    }

    /// Notes how recent the topology is; both fronts do so all the time.
    pub(crate) fn look_for_leader(&self) {
        if self.inner.broker.topology().is_recent() {
            *self.inner.recent_at.lock() = Instant::now();
        }
    }

    /// Who leads a shard; `None`: not known here.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<LeaderSeen> {
        self.leader_of_group(GroupId::from(shard))
    }

    /// Who leads the topology, where changes of it are fastest.
    pub(crate) fn topology_leader(&self) -> Option<LeaderSeen> {
        self.leader_of_group(GroupId::TOPOLOGY)
    }

    fn leader_of_group(&self, group: GroupId) -> Option<LeaderSeen> {
        let (node, term) = self.inner.broker.leadership_of(group)?;
        let topology = self.topology();
        let endpoint = topology
            .node(node)
            .map(|it| it.addresses.grpc.clone())
            .unwrap_or_default();
        Some(LeaderSeen {
            node,
            term,
            endpoint,
        })
    }
}
