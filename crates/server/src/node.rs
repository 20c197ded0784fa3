//! One node from its configuration to its end: the order in which its parts start and stop. Not here: what the parts do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use warren_gateway::Gateway;
use warren_management::Overview;
use warren_proto::internal_v1::forward_service_server::ForwardServiceServer;
use warren_proto::internal_v1::node_service_server::NodeServiceServer;
use warren_proto::internal_v1::raft_service_server::RaftServiceServer;
use warren_raft::{NodeListener, Peers, RaftNode, RaftService, node_server};
use warren_shard::{Broker, BrokerError, BrokerParts, LinkService, PlacementOptions};
use warren_storage::{DataDir, RecoveryRecord};
use warren_topology::Addresses;
use warren_types::ClusterId;

use crate::clients::{self, ClientSockets, Clients};
use crate::config::Config;
use crate::cut::Cut;
use crate::definitions;
use crate::failure::{Failure, StartError, fail};
use crate::first_user::first_user;
use crate::formation::{
    Formation, Record, announce, look_round, renew, spread, unknown_version, wait_formed,
    watch_version,
};
use crate::identity::Identity;
use crate::late::Late;
use crate::listeners::{Bound, Sockets};
use crate::node_service::Nodes;
use crate::options::{peers, raft_options};
use crate::pages::Pages;
use crate::rejoin;
use crate::resources::Monitor;
use crate::storage::Storage;
use crate::usage;

/// Frames of links and Raft are bounded by what they carry, far below this.
const NODE_MESSAGE_BYTES_MAX: usize = 160 << 20;
/// Clients that have not left by then are cut off.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(10);
const READY_EVERY: Duration = Duration::from_millis(20);

/// A node that takes part in its cluster.
pub struct Node {
    base: Base,
    raft: RaftNode,
    broker: Broker,
    clients: Clients,
    record: Arc<Record>,
    addresses: Addresses,
    /// Served from the first step of the start to the last of the end.
    pages: Pages,
}

/// What is there before the cluster is formed.
struct Base {
    overview: Overview,
    dir: Arc<DataDir>,
    storage: Storage,
    peers: Peers,
    formation: Arc<Formation>,
    nodes: Nodes,
    raft_service: Late<RaftServiceServer<RaftService>>,
    forward_service: Late<ForwardServiceServer<LinkService>>,
    tasks: TaskTracker,
    /// Ends the node listener and the tasks of this crate.
    halt: CancellationToken,
    failure: watch::Sender<Option<Failure>>,
}

impl Node {
    /// Starts a node and waits until it is part of its cluster, which may take until the other nodes are there. `stop` ends that
    /// wait; it has no meaning afterwards.
    ///
    /// # Errors
    /// Nothing runs then. [`StartError`] says what is wrong and where.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, StartError> {
        let dir = rejoin::open_dir(&config, &stop).await?;
        match Self::start_in(&config, dir, &stop).await {
            Err(error) if error.damage().is_some() => {
                let dir = rejoin::after_damage(&config, error, &stop).await?;
                Self::start_in(&config, dir, &stop).await
            }
            started => started,
        }
    }

    async fn start_in(
        config: &Config,
        dir: DataDir,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let dir = Arc::new(dir);
        let sockets = Sockets::bind(config)?;
        let addresses = sockets.addresses(config);
        let us = Arc::new(Identity::new(config, &dir, addresses.clone()));
        info!(
            node_id = %us.node, incarnation = %us.incarnation, run = %us.run, data_dir = %Path::display(dir.path()),
            "starting"
        );
        let Sockets {
            node,
            grpc,
            amqp,
            http,
            metrics,
        } = sockets;
        let pages = Pages::serve(http, metrics, us.node)?;
        let base = match Base::open(config, dir, us, node, pages.overview()).await {
            Ok(base) => base,
            Err(error) => {
                pages.close().await;
                return Err(error);
            }
        };
        match base.join(config, stop, ClientSockets { grpc, amqp }).await {
            Ok((raft, broker, clients, record)) => Ok(Self {
                base,
                raft,
                broker,
                clients,
                record,
                addresses,
                pages,
            }),
            Err(error) => {
                base.close().await;
                pages.close().await;
                Err(error)
            }
        }
    }

    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.record.cluster.cluster
    }

    /// Where it is reached.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns when every shard has a leader that this node knows.
    pub async fn ready(&self) {
        while !self.broker.is_ready() {
            tokio::time::sleep(READY_EVERY).await;
        }
    }

    /// Returns when the node cannot go on.
    ///
    /// # Cancel safety
    /// Nothing is lost: the failure stays.
    pub async fn failed(&self) -> Failure {
        let mut failure = self.base.failure.subscribe();
        let found = failure.wait_for(Option::is_some).await;
        let found = found.expect("the sender lives in this node");
        found.clone().expect("waited for")
    }

    /// Ends in good order: takes no more clients, hands leaderships over, lets clients finish, stops replicas, makes everything
    /// durable.
    pub async fn shutdown(self) {
        info!("stopping: no more clients are taken");
        self.base.overview.stopping();
        self.clients.close();
        // Or what is given away would be given back.
        self.base.peers.set_draining(true);
        self.broker.hand_over().await;
        self.clients.drained(DRAIN_WITHIN).await;
        within("tasks of the broker", self.broker.stop()).await;
        within("replicas", self.raft.shutdown()).await;
        self.base.close().await;
        within("pages", self.pages.close()).await;
        info!("stopped");
    }
}

/// Said at every start: confirmed messages may be missing since.
fn recoveries(dir: &DataDir) -> Vec<RecoveryRecord> {
    let all = dir.recoveries().unwrap_or_else(|error| {
        // Nothing depends on it.
        error!(%error, "what is kept of recoveries cannot be read");
        Vec::new()
    });
    for it in &all {
        let lost: Vec<u64> = it.lost.iter().map(|node| node.0).collect();
        warn!(at_ms = it.at_ms, by = it.by, node = %it.node, ?lost, "this cluster was recovered without a majority");
    }
    all
}

impl Base {
    async fn open(
        config: &Config,
        dir: Arc<DataDir>,
        us: Arc<Identity>,
        socket: Bound,
        overview: Overview,
    ) -> Result<Self, StartError> {
        let peers = peers(config, &us);
        let listener = NodeListener::new(socket.listen()?, peers.clone());
        let formation = {
            let (dir, us) = (dir.clone(), us.clone());
            Arc::new(blocking(move || Formation::open(&dir, us)).await??)
        };
        let storage = {
            let (dir, config) = (dir.clone(), config.storage.clone());
            blocking(move || Storage::open(&dir, &config)).await??
        };
        overview.opened();
        let base = Self {
            overview,
            dir,
            storage,
            peers,
            nodes: Nodes::new(formation.clone()),
            formation,
            raft_service: Late::new(),
            forward_service: Late::new(),
            tasks: TaskTracker::new(),
            halt: CancellationToken::new(),
            failure: watch::Sender::new(None),
        };
        if let Some(record) = base.formation.record() {
            base.know_members(&record);
        }
        base.watch_storage();
        base.serve_nodes(listener);
        Ok(base)
    }

    async fn join(
        &self,
        config: &Config,
        stop: &CancellationToken,
        sockets: ClientSockets,
    ) -> Result<(RaftNode, Broker, Clients, Arc<Record>), StartError> {
        let record = wait_formed(&self.formation, &self.peers, &config.cluster, stop).await?;
        self.know_members(&record);
        let us = self.formation.us().clone();
        look_round(&record, &us, &self.peers).await?;
        let cluster = record.cluster.cluster;
        info!(node_id = %us.node, %cluster, "part of the cluster");
        let raft = RaftNode::new(
            raft_options(config, cluster),
            self.storage.log.clone(),
            self.storage.state.clone(),
            self.peers.clone(),
        );
        self.raft_service.set(raft.service());
        let parts = BrokerParts {
            node: us.node,
            incarnation: us.incarnation,
            run: us.run,
            cluster,
            raft: raft.clone(),
            peers: self.peers.clone(),
            topology_members: record.topology_members(),
            initialise: record.former == us.node,
            placement: PlacementOptions {
                leader_rest: config.cluster.leader_rest,
                repair_after: config.cluster.repair_after,
                finalise_after: config.cluster.finalise_after,
                ..PlacementOptions::default()
            },
            aside: Arc::new(self.dir.set_aside()?),
            recoveries: recoveries(&self.dir),
        };
        let broker = match start_broker(parts).await {
            Ok(broker) => broker,
            Err(error) => {
                raft.shutdown().await;
                return Err(error);
            }
        };
        let forward = ForwardServiceServer::new(broker.link_service())
            .max_decoding_message_size(NODE_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(NODE_MESSAGE_BYTES_MAX);
        self.forward_service.set(forward);
        self.nodes.joined(broker.clone());
        self.take_part(config, &broker, &record, us);
        let gateway = Gateway::new(broker.clone(), clients::options(config));
        match Clients::serve(sockets, &gateway, self.failure.clone()) {
            Ok(clients) => {
                self.monitor(config, gateway);
                Ok((raft, broker, clients, record))
            }
            Err(error) => {
                broker.stop().await;
                raft.shutdown().await;
                Err(error.into())
            }
        }
    }

    /// Tells and is told what members know of each other, in tasks of the node.
    fn take_part(&self, config: &Config, broker: &Broker, record: &Arc<Record>, us: Arc<Identity>) {
        let (record, halt) = (record.clone(), self.halt.clone());
        self.tasks.spawn(announce(
            broker.clone(),
            record.clone(),
            us.clone(),
            halt.clone(),
        ));
        let first_user = first_user(broker.clone(), config.auth.clone(), halt.clone());
        self.tasks.spawn(first_user);
        let cluster = record.cluster.cluster;
        let question = rejoin::Question::new(self.peers.clone(), &us, &record);
        self.spread(record, us);
        self.tasks
            .spawn(renew(broker.clone(), self.formation.clone(), halt.clone()));
        let watched = rejoin::watch(
            broker.clone(),
            self.dir.clone(),
            question,
            self.failure.clone(),
        );
        let until = halt.clone();
        self.tasks.spawn(async move {
            until.run_until_cancelled(watched).await;
        });
        let (broker, failure) = (broker.clone(), self.failure.clone());
        self.tasks.spawn(async move {
            if let Err(error) = watch_version(broker, cluster, halt).await {
                fail(&failure, Failure::Formation(Arc::new(error)));
            }
        });
    }

    /// From now on only the members' own directories may speak for them.
    fn know_members(&self, record: &Record) {
        let configured = self.peers.nodes();
        for node in record
            .cluster
            .nodes
            .iter()
            .filter(|node| node.id != self.formation.us().node)
        {
            if !configured.contains(&node.id) {
                self.peers
                    .set_address(node.id, node.addresses.node.to_string());
            }
            self.peers.set_incarnation(node.id, node.incarnation);
        }
    }

    fn serve_nodes(&self, listener: NodeListener) {
        let server = node_server()
            .add_service(NodeServiceServer::new(self.nodes.clone()))
            .add_service(self.raft_service.clone())
            .add_service(self.forward_service.clone());
        let (failure, halt) = (self.failure.clone(), self.halt.clone());
        let cut = self.halt.clone();
        let incoming = listener
            .incoming()
            .map(move |stream| stream.map(|stream| Cut::new(stream, cut.clone())));
        self.tasks.spawn(async move {
            let served = server
                .serve_with_incoming_shutdown(incoming, halt.cancelled())
                .await;
            let cause = match served {
                Ok(()) if halt.is_cancelled() => return,
                Ok(()) => "it ended by itself".to_owned(),
                Err(error) => error.to_string(),
            };
            fail(
                &failure,
                Failure::Listener {
                    what: "other nodes",
                    cause: cause.into(),
                },
            );
        });
    }

    fn watch_storage(&self) {
        for (engine, mut failed) in self.storage.failures() {
            let (failure, halt) = (self.failure.clone(), self.halt.clone());
            let (state, dir) = (self.storage.state.clone(), self.dir.clone());
            self.tasks.spawn(async move {
                let cause = tokio::select! {
                    biased; // a failure counts, even while stopping
                    cause = failed.wait_for(Option::is_some) => cause.ok().and_then(|cause| cause.clone()),
                    () = halt.cancelled() => return,
                };
                if let Some(cause) = cause {
                    if state.is_damaged() {
                        rejoin::note(dir, cause.to_string()).await;
                    }
                    fail(&failure, Failure::Engine { engine, cause });
                }
            });
        }
    }

    /// From now on the node tells how it is.
    fn monitor(&self, config: &Config, gateway: Gateway) {
        self.overview.joined(gateway.clone());
        let (peers, halt) = (self.peers.clone(), self.halt.clone());
        self.tasks.spawn(usage::run(gateway.clone(), peers, halt));
        if let Some(source) = config.node.load_definitions.clone() {
            let halt = self.halt.clone();
            self.tasks
                .spawn(definitions::load(gateway.clone(), source, halt));
        }
        let monitor = Monitor {
            data_dir: self.dir.path().to_owned(),
            storage: self.storage.clone(),
            peers: self.peers.clone(),
            gateway,
            overview: self.overview.clone(),
        };
        self.tasks.spawn(monitor.run(self.halt.clone()));
    }

    fn spread(&self, record: Arc<Record>, us: Arc<Identity>) {
        let (peers, halt, failure) = (self.peers.clone(), self.halt.clone(), self.failure.clone());
        self.tasks.spawn(async move {
            if let Err(error) = spread(record, us, peers, halt).await {
                fail(&failure, Failure::Formation(Arc::new(error)));
            }
        });
    }

    /// Ends what `open` began.
    async fn close(&self) {
        self.halt.cancel();
        self.tasks.close();
        within("tasks of the node", self.tasks.wait()).await;
        let (storage, dir) = (self.storage.clone(), self.dir.clone());
        let closed = blocking(move || {
            storage.close();
            // The lock goes last.
            drop(dir);
        });
        if let Err(error) = closed.await {
            error!(%error, "storage not closed");
        }
    }
}

/// The stored topology may know of a version that the record of the cluster was not told of any more.
async fn start_broker(parts: BrokerParts) -> Result<Broker, StartError> {
    let cluster = parts.cluster;
    Broker::start(parts).await.map_err(|error| match error {
        BrokerError::Version { finalised } => unknown_version(cluster, finalised).into(),
        error @ (BrokerError::NotMember { .. }
        | BrokerError::Open { .. }
        | BrokerError::Initialise { .. }) => error.into(),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

async fn within(what: &'static str, step: impl Future<Output = ()>) {
    if tokio::time::timeout(STOP_WITHIN, step).await.is_err() {
        warn!(what, "did not end in time");
    }
}
