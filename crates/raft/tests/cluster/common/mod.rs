//! A cluster in one process: each node with its own runtime, disk and loopback listener, so that a node can be killed.
#![allow(dead_code)]

pub(crate) mod flipping;
pub(crate) mod machine;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use warren_raft::{
    ClusterSecret, Group, GroupSpec, NodeListener, PeerOptions, Peers, RaftNode, RaftOptions,
    node_server,
};
use warren_storage::{LogEngine, LogOptions, SegmentLog, StateOptions, StateStore};
use warren_types::{ClusterId, GroupId, Incarnation, Member, NodeId, ReplicaId};

use machine::{Gate, Recorder, View};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

pub(crate) struct TestNode {
    pub(crate) id: u64,
    pub(crate) raft: RaftNode,
    pub(crate) peers: Peers,
    pub(crate) log: Arc<dyn LogEngine>,
    pub(crate) state: StateStore,
    pub(crate) groups: Vec<(GroupId, Group, View)>,
    pub(crate) gate: Gate,
    stop_server: Option<oneshot::Sender<()>>,
    runtime: Runtime,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Option<TestNode>>,
    addresses: Vec<SocketAddr>,
    dir: TempDir,
    groups: Vec<GroupId>,
    tune: fn(&mut RaftOptions),
}

pub(crate) fn replica(node: u64, group: GroupId) -> ReplicaId {
    ReplicaId(u64::from(group.0) * 100 + node)
}

pub(crate) fn members(nodes: usize, group: GroupId) -> Vec<Member> {
    let member = |id| Member {
        replica: replica(id, group),
        node: NodeId(id),
    };
    (1..=nodes as u64).map(member).collect()
}

impl Cluster {
    /// Starts nodes 1 to `nodes`, each with a replica of groups 1 to `groups`, and initialises the groups.
    pub(crate) fn start(nodes: usize, groups: u32, tune: fn(&mut RaftOptions)) -> Self {
        trace();
        let held: Vec<StdListener> = (0..nodes)
            .map(|_| StdListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses = held.iter().map(|it| it.local_addr().unwrap()).collect();
        drop(held);
        let mut cluster = Self {
            nodes: (0..nodes).map(|_| None).collect(),
            addresses,
            dir: TempDir::new().unwrap(),
            groups: (1..=groups).map(GroupId).collect(),
            tune,
        };
        for id in 1..=nodes as u64 {
            cluster.start_node(id);
        }
        for group in cluster.groups.clone() {
            let first = cluster.node(1 + u64::from(group.0) % nodes as u64);
            let members = members(nodes, group);
            first
                .block_on(first.raft.initialize(group, &members))
                .unwrap();
            first
                .block_on(first.raft.initialize(group, &members))
                .unwrap();
        }
        cluster
    }

    pub(crate) fn path(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node-{id}"))
    }

    pub(crate) fn start_node(&mut self, id: u64) {
        let addresses = self
            .addresses
            .iter()
            .enumerate()
            .map(|(at, it)| (NodeId(at as u64 + 1), it.to_string()));
        let mut options = RaftOptions::new(NodeId(id), CLUSTER);
        (self.tune)(&mut options);
        let address = self.addresses[id as usize - 1];
        let node = TestNode::start(
            id,
            options,
            self.path(id),
            address,
            addresses.collect(),
            &self.groups,
        );
        self.nodes[id as usize - 1] = Some(node);
    }

    pub(crate) fn node(&self, id: u64) -> &TestNode {
        self.nodes[id as usize - 1].as_ref().unwrap()
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.iter().flatten()
    }

    /// As `kill -9`: tasks stop where they are, sockets close, nothing is said.
    pub(crate) fn kill(&mut self, id: u64) {
        let node = self.nodes[id as usize - 1].take().unwrap();
        node.kill();
    }

    pub(crate) fn stop(&mut self, id: u64) {
        let node = self.nodes[id as usize - 1].take().unwrap();
        node.stop();
    }

    /// Cuts a node off in both directions: addresses lead nowhere, and so connections that are there end.
    pub(crate) fn isolate(&self, id: u64) {
        self.route(id, |_| "127.0.0.1:1".into());
    }

    pub(crate) fn join(&self, id: u64) {
        self.route(id, |address| address.to_string());
    }

    /// The others reach a node by a road of which the test has the end; its own roads stay.
    pub(crate) fn lead_by(&self, id: u64, road: SocketAddr) {
        for node in self.live().filter(|node| node.id != id) {
            node.peers.set_address(NodeId(id), road.to_string());
        }
    }

    pub(crate) fn address(&self, id: u64) -> SocketAddr {
        self.addresses[id as usize - 1]
    }

    fn route(&self, id: u64, address: impl Fn(SocketAddr) -> String) {
        let at = |id: u64| address(self.addresses[id as usize - 1]);
        for node in self.live().filter(|node| node.id != id) {
            node.peers.set_address(NodeId(id), at(id));
            self.node(id)
                .peers
                .set_address(NodeId(node.id), at(node.id));
        }
    }

    /// Waits for a leader that may act; returns its node.
    pub(crate) fn leader(&self, group: GroupId) -> u64 {
        let mut found = 0;
        eventually("a leader", || {
            let leads = |node: &&TestNode| {
                node.group(group).is_some_and(|(group, _)| {
                    let leadership = *group.leadership().borrow();
                    let ours = leadership
                        .leader
                        .is_some_and(|it| it.replica == group.replica());
                    let applied = *group.applied().borrow();
                    ours && group.lease_until().is_some()
                        && applied.is_some_and(|it| it.term == leadership.term)
                })
            };
            found = self.live().find(leads).map_or(0, |node| node.id);
            found != 0
        });
        found
    }

    /// Waits until all live replicas of a group have applied `count` commands; checks that they agree.
    pub(crate) fn agree(&self, group: GroupId, count: u64) {
        eventually("all replicas to apply", || {
            self.live()
                .all(|node| node.group(group).unwrap().1.count() >= count)
        });
        let views: Vec<_> = self
            .live()
            .map(|node| node.group(group).unwrap().1.digest())
            .collect();
        assert!(
            views.windows(2).all(|pair| pair[0] == pair[1]),
            "replicas differ: {views:?}"
        );
        assert_eq!(views[0].0, count);
    }
}

impl TestNode {
    pub(crate) fn start(
        id: u64,
        options: RaftOptions,
        path: PathBuf,
        address: SocketAddr,
        addresses: Vec<(NodeId, String)>,
        groups: &[GroupId],
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(format!("node-{id}"))
            .enable_all()
            .build()
            .unwrap();
        // Small segments, so that old ones are given back in these tests too.
        let small = LogOptions {
            segment_bytes: 4 << 20,
            ..LogOptions::default()
        };
        let log = Arc::new(retry(|| SegmentLog::open(&path.join("log"), small.clone())));
        let small = StateOptions {
            write_buffer_bytes: 32 << 20,
            block_cache_bytes: 64 << 20,
            ..StateOptions::default()
        };
        let state = retry(|| StateStore::open(&path.join("state"), small.clone()));
        let gate = Gate::default();
        let _entered = runtime.enter();
        let peers = Peers::new(PeerOptions {
            node: NodeId(id),
            incarnation: Incarnation(u128::from(id)),
            cluster_name: "test".into(),
            secret: ClusterSecret::new(b"secret"),
            addresses,
            connect_within: Duration::from_secs(1),
        });
        let raft = RaftNode::new(options, log.clone(), state.clone(), peers.clone());
        let stop_server = serve(&runtime, &raft, address);
        let groups = groups.iter().map(|group| {
            let view = View::default();
            let machine = Box::new(Recorder {
                view: view.clone(),
                gate: gate.clone(),
            });
            let spec = GroupSpec {
                may_be_blank: true,
                group: *group,
                replica: replica(id, *group),
                machine,
            };
            (
                *group,
                runtime.block_on(raft.open_group(spec)).unwrap(),
                view,
            )
        });
        let groups = groups.collect();
        drop(_entered);
        Self {
            id,
            raft,
            peers,
            log,
            state,
            groups,
            gate,
            stop_server: Some(stop_server),
            runtime,
        }
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn group(&self, group: GroupId) -> Option<(&Group, &View)> {
        let found = self.groups.iter().find(|(it, _, _)| *it == group);
        found.map(|(_, handle, view)| (handle, view))
    }

    fn kill(self) {
        self.gate.open();
        self.runtime.shutdown_background();
    }

    fn stop(mut self) {
        self.gate.open();
        self.runtime.block_on(self.raft.shutdown());
        self.groups.clear();
        drop(self.stop_server.take());
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// Serves the node on its address until the sender is dropped.
fn serve(runtime: &Runtime, raft: &RaftNode, address: SocketAddr) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    let service = raft.service();
    let listener = retry(|| runtime.block_on(TcpListener::bind(address)));
    let listener = NodeListener::new(listener, raft.peers().clone());
    runtime.spawn(async move {
        let stopped = async { drop(stopped.await) };
        node_server()
            .add_service(service)
            .serve_with_incoming_shutdown(listener.incoming(), stopped)
            .await
            .unwrap();
    });
    stop
}

/// Proposes through whoever leads until it is taken.
pub(crate) fn propose(cluster: &Cluster, group: GroupId, payload: &Bytes) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for node in cluster.live() {
            let (handle, _) = node.group(group).unwrap();
            let term = handle.leadership().borrow().term;
            if handle.propose(term, payload).is_ok() {
                return;
            }
        }
        assert!(Instant::now() < deadline, "nobody takes a proposal");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A killed node lets go of its files and port a moment later.
fn retry<T, E: std::fmt::Display>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn trace() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    // Another test has set it already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}
