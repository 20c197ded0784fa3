//! A cluster of brokers in one process: each node with its own runtime, disk and loopback listener, so that a node can be killed.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

mod nodes;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use warren_proto::internal_v1::forward_service_server::ForwardServiceServer;
use warren_proto::internal_v1::node_service_server::NodeServiceServer;
use warren_raft::{
    ClusterSecret, NodeListener, PeerOptions, Peers, RaftNode, RaftOptions, node_server,
};
use warren_shard::api::{
    ConsumerSpec, PublishItem, PublishOutcome, RequestToken, SessionEvent, Target,
};
use warren_shard::{
    Broker, BrokerParts, ConsumerOptions, Credit, PlacementOptions, Refill, Session,
};
use warren_storage::{LogOptions, ReplicaState, SegmentLog, SetAside, StateOptions, StateStore};
use warren_topology::{
    Addresses, DeclareQueue, FormCluster, NewQueueName, Node, Software, TopologyCommand,
    TopologyReply,
};
use warren_types::{
    ClusterId, ClusterVersion, ExchangeName, GroupId, Incarnation, Member, Message, NodeId,
    Priority, Properties, QueueName, ReplicaId, RoutingKey, Run, Table, VhostId,
};

use nodes::Nodes;

const CLUSTER: ClusterId = ClusterId(0xc1);
pub const NODES: u64 = 3;

pub struct TestNode {
    pub id: u64,
    pub broker: Broker,
    raft: RaftNode,
    log: Arc<SegmentLog>,
    state: StateStore,
    stop_server: Option<oneshot::Sender<()>>,
    pub runtime: Runtime,
}

pub struct Cluster {
    pub nodes: BTreeMap<u64, TestNode>,
    addresses: Vec<SocketAddr>,
    runs: BTreeMap<u64, u64>,
    dir: TempDir,
}

fn members() -> Vec<Member> {
    (1..=NODES)
        .map(|id| Member {
            replica: ReplicaId(id),
            node: NodeId(id),
        })
        .collect()
}

impl TestNode {
    /// The rows of one replica, past the node that has it.
    pub fn state(&self, group: GroupId, replica: ReplicaId) -> ReplicaState {
        self.state.replica(group, replica).unwrap()
    }
}

impl Cluster {
    pub fn start(shards: u32) -> Self {
        if std::env::var_os("RUST_LOG").is_some() {
            let _set = tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .try_init();
        }
        let held: Vec<StdListener> = (0..NODES)
            .map(|_| StdListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<SocketAddr> = held.iter().map(|it| it.local_addr().unwrap()).collect();
        drop(held);
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            addresses,
            runs: BTreeMap::new(),
            dir: TempDir::new().unwrap(),
        };
        for id in (1..=NODES).rev() {
            cluster.start_node(id, id == 1);
        }
        let nodes = (1..=NODES).map(|id| Node {
            id: NodeId(id),
            incarnation: Incarnation(u128::from(id)),
            addresses: Addresses {
                node: cluster.addresses[id as usize - 1].to_string().into(),
                ..Addresses::default()
            },
            zone: "".into(),
            leaving: false,
            former: Vec::new(),
            software: Software::default(),
        });
        let form = TopologyCommand::FormCluster(FormCluster {
            cluster: CLUSTER,
            name: "test".into(),
            version: ClusterVersion::FIRST,
            nodes: nodes.collect(),
            topology_members: members(),
            shards,
            replication_factor: 3,
        });
        cluster.propose(form);
        cluster.eventually("every shard has a leader", |cluster| {
            cluster.nodes.values().all(|node| node.broker.is_ready())
        });
        cluster
    }

    pub fn start_node(&mut self, id: u64, initialise: bool) {
        let run = self.runs.entry(id).or_insert(0);
        *run += 1;
        let run = Run(*run);
        let path = self.dir.path().join(format!("node-{id}"));
        std::fs::create_dir_all(path.join("log")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let address = self.addresses[id as usize - 1];
        let addresses = self
            .addresses
            .iter()
            .zip(1..)
            .map(|(it, id)| (NodeId(id), it.to_string()))
            .collect();
        let (broker, raft, log, state, stop) = runtime.block_on(async move {
            let log = Arc::new(SegmentLog::open(&path.join("log"), small_log()).unwrap());
            let state = StateStore::open(&path.join("state"), StateOptions::default()).unwrap();
            let peers = peers(id, addresses);
            let mut options = RaftOptions::new(NodeId(id), CLUSTER);
            options.compaction.every = Duration::from_secs(2);
            let raft = RaftNode::new(options, log.clone(), state.clone(), peers.clone());
            let listener = NodeListener::new(bind(address).await, peers.clone());
            let (stop, stopped) = oneshot::channel::<()>();
            // The services are mounted before the broker starts: replicas that open early must be reachable.
            let raft_service = raft.service();
            let parts = BrokerParts {
                node: NodeId(id),
                incarnation: Incarnation(u128::from(id)),
                run,
                cluster: CLUSTER,
                raft: raft.clone(),
                peers,
                topology_members: members(),
                initialise,
                placement: PlacementOptions::default(),
                aside: Arc::new(SetAside::open(&path.join("set-aside")).unwrap()),
                recoveries: Vec::new(),
            };
            let broker = Broker::start(parts).await.unwrap();
            let nodes = NodeServiceServer::new(Nodes(broker.clone()));
            let forward = ForwardServiceServer::new(broker.link_service())
                .max_decoding_message_size(64 << 20);
            let services = node_server()
                .add_service(raft_service)
                .add_service(nodes)
                .add_service(forward);
            tokio::spawn(async move {
                let stopped = async { drop(stopped.await) };
                let served = services.serve_with_incoming_shutdown(listener.incoming(), stopped);
                served.await.unwrap();
            });
            (broker, raft, log, state, stop)
        });
        self.nodes.insert(
            id,
            TestNode {
                id,
                broker,
                raft,
                log,
                state,
                stop_server: Some(stop),
                runtime,
            },
        );
    }

    /// As `kill -9`: tasks stop where they are, sockets close, nothing is said.
    pub fn kill(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        node.runtime.shutdown_timeout(Duration::from_secs(5));
        drop(node.broker);
        drop(node.raft);
        drop(node.log);
        let _closed = node.state.close();
    }

    pub fn node(&self, id: u64) -> &TestNode {
        &self.nodes[&id]
    }

    pub fn eventually(&self, what: &str, check: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !check(self) {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "waited too long for: {what}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn propose(&self, command: TopologyCommand) -> TopologyReply {
        self.eventually("a topology leader", |it| it.topology_leader().is_some());
        let node = self.topology_leader().unwrap();
        node.runtime
            .block_on(node.broker.topology().propose(command, "test"))
            .unwrap()
    }

    fn topology_leader(&self) -> Option<&TestNode> {
        self.nodes
            .values()
            .find(|node| node.broker.topology().group().lease_until().is_some())
    }

    pub fn declare(&self, name: &str) -> Target {
        self.declare_with(name, Table::default())
    }

    pub fn declare_with(&self, name: &str, arguments: Table) -> Target {
        let reply = self.propose(TopologyCommand::DeclareQueue(DeclareQueue {
            vhost: VhostId(1),
            name: NewQueueName::Named(QueueName::try_from(name).unwrap()),
            durable: true,
            auto_delete: false,
            exclusive: false,
            arguments,
            requester: None,
        }));
        let TopologyReply::QueueDeclared { queue, shard, .. } = reply else {
            panic!("not declared: {reply:?}")
        };
        let target = Target { queue, shard };
        self.eventually("the queue is known everywhere", |it| {
            it.nodes.values().all(|node| {
                node.broker
                    .topology()
                    .current()
                    .queue_by_id(queue)
                    .is_some()
            })
        });
        target
    }

    pub fn leader(&self, target: Target) -> u64 {
        self.eventually("a leader of the shard", |it| {
            it.nodes
                .values()
                .any(|node| node.broker.leader_of(target.shard) == Some(NodeId(node.id)))
        });
        self.nodes
            .values()
            .find(|node| node.broker.leader_of(target.shard) == Some(NodeId(node.id)))
            .unwrap()
            .id
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.kill(id);
        }
    }
}

fn peers(id: u64, addresses: Vec<(NodeId, String)>) -> Peers {
    Peers::new(PeerOptions {
        node: NodeId(id),
        incarnation: Incarnation(u128::from(id)),
        cluster_name: "test".to_owned(),
        secret: ClusterSecret::new(b"a secret of the test cluster"),
        addresses,
        connect_within: Duration::from_secs(1),
    })
}

/// The port of a node that was killed a moment ago may still be busy.
async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

pub fn message(body: impl Into<Bytes>) -> Message {
    Message {
        exchange: ExchangeName::try_from("").unwrap(),
        routing_key: RoutingKey::try_from("q").unwrap(),
        properties: Properties::default(),
        body: body.into(),
        priority: Priority::DEFAULT,
        ttl_ms: None,
        delay_ms: None,
        group_hash: 0,
        fairness_hash: 0,
        dedup_hash: 0,
        user: None,
        trace: Bytes::new(),
        died: false,
    }
}

pub fn item(target: Target, number: u64) -> PublishItem {
    PublishItem {
        token: RequestToken(number),
        queue: target.queue,
        message: message(number.to_string()),
        producer: None,
    }
}

pub fn consumer(target: Target, prefetch: u64) -> ConsumerSpec {
    ConsumerSpec {
        target,
        options: ConsumerOptions {
            no_ack: false,
            refill: Refill::All,
            priority: 0,
            exclusive: false,
            uncommitted_max: 1_000,
            passing: false,
        },
        credit: Credit {
            messages: prefetch,
            bytes: 64 << 20,
        },
    }
}

/// Waits for the confirms of `count` publishes; every one must be stored.
pub async fn confirmed(session: &Session, count: usize) {
    let mut seen = 0;
    while seen < count {
        let events = tokio::time::timeout(Duration::from_secs(30), session.events())
            .await
            .expect("confirms come")
            .unwrap();
        for event in events {
            if let SessionEvent::Published(results) = event {
                for (token, outcome) in results {
                    assert_eq!(outcome, PublishOutcome::Stored, "publish {token:?}");
                    seen += 1;
                }
            }
        }
    }
}

/// Small segments, so that old ones are given back in these tests too.
fn small_log() -> LogOptions {
    LogOptions {
        segment_bytes: 4 << 20,
        ..LogOptions::default()
    }
}
