//! The other nodes: their addresses, channels and whether they are alive. Not here: what is sent to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::info;
use warren_types::{Alarms, Incarnation, NodeId};

use super::connector::Connector;
use super::handshake::{ClusterSecret, Introduction, PeerIdentity};
use super::lanes::{LaneState, Patience};

/// HTTP/2 flow control and frames, the same at both ends.
pub(super) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
pub(super) const FRAME_BYTES_MAX: u32 = 1 << 20;
/// A frozen node's links are given up after both: no later than what its consumers hold is to return (5 s).
pub(super) const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
pub(super) const KEEPALIVE_WITHIN: Duration = Duration::from_secs(4);

/// What a node is told about itself and the others at its start.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub cluster_name: String,
    pub secret: ClusterSecret,
    /// `host:port` of the node-to-node listeners; an entry for this node is ignored.
    pub addresses: Vec<(NodeId, String)>,
    /// For a connection, and then as much for the handshake, which gets more when that was not enough.
    pub connect_within: Duration,
}

/// Connections are kept apart by what they carry, so that a large frame never delays liveness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Log entries and snapshots.
    Bulk,
    /// Votes, heartbeats, liveness.
    Control,
    /// Requests and deliveries of clients (`shard`).
    Forward,
}

/// What is known of another node's life.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PeerHealth {
    /// When anything was last heard from it.
    pub last_heard: Option<Instant>,
    /// Its process is gone: its port refuses connections and every connection it had made to this node is closed.
    pub refused: bool,
    /// Its wall clock less ours, to about half a round trip.
    pub wall_clock_offset_ms: Option<i64>,
    /// What it said last that it is short of.
    pub alarms: Alarms,
    /// It said last that it gives its leaderships away.
    pub draining: bool,
}

/// The other nodes of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    us: Arc<Introduction>,
    connect_within: Duration,
    table: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// Counts changes of the table and of `refused`.
    changes: watch::Sender<u64>,
    /// What this node is short of; the others hear it with their next beat.
    alarms: Mutex<Alarms>,
    /// This node gives its leaderships away; the others hear it with their next beat.
    draining: AtomicBool,
    /// What this node's clients use; the others hear it with their next beat.
    usage: Mutex<Bytes>,
    /// What is wrong with this node's replicas; the others hear it with their next beat.
    wrong: Mutex<Bytes>,
    /// Who has called lately as a node that is known as another incarnation; one per node.
    strangers: Mutex<BTreeMap<NodeId, (Incarnation, Instant)>>,
}

pub(super) struct Peer {
    pub(super) node: NodeId,
    address: RwLock<String>,
    /// The incarnation that may speak for the node, once the topology knows it.
    expected: RwLock<Option<Incarnation>>,
    /// Cancelled when the node has moved: what goes to the old address ends.
    place: Mutex<CancellationToken>,
    lanes: [Mutex<LaneState>; 3],
    pub(super) patience: Patience,
    health: Mutex<Health>,
    /// Connections that the node has made to this one.
    inbound: AtomicUsize,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Health {
    last_heard: Option<Instant>,
    port_refuses: bool,
    wall_clock_offset_ms: Option<i64>,
    alarms: Alarms,
    draining: bool,
    usage: Bytes,
    wrong: Bytes,
}

impl Peers {
    #[must_use]
    pub fn new(options: PeerOptions) -> Self {
        let PeerOptions {
            node,
            incarnation,
            cluster_name,
            secret,
            addresses,
            connect_within,
        } = options;
        let us = Introduction {
            node,
            incarnation,
            cluster_name,
            secret,
        };
        let inner = Inner {
            us: Arc::new(us),
            connect_within,
            table: RwLock::default(),
            changes: watch::Sender::new(0),
            alarms: Mutex::default(),
            draining: AtomicBool::new(false),
            usage: Mutex::default(),
            wrong: Mutex::default(),
            strangers: Mutex::default(),
        };
        let peers = Self {
            inner: Arc::new(inner),
        };
        for (node, address) in addresses {
            peers.set_address(node, address);
        }
        peers
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.us.node
    }

    /// The other nodes, in order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.inner.table.read().keys().copied().collect()
    }

    /// Adds a node, or tells where it is now. Connections to an old address are ended.
    pub fn set_address(&self, node: NodeId, address: String) {
        if node == self.inner.us.node {
            return;
        }
        let mut table = self.inner.table.write();
        if let Some(peer) = table.get(&node) {
            peer.move_to(address);
            return;
        }
        let peer = Peer {
            node,
            address: RwLock::new(address),
            expected: RwLock::default(),
            place: Mutex::default(),
            lanes: Default::default(),
            patience: Patience::new(self.inner.connect_within),
            health: Mutex::default(),
            inbound: AtomicUsize::new(0),
            changes: self.inner.changes.clone(),
        };
        table.insert(node, Arc::new(peer));
        drop(table);
        self.inner.changes.send_modify(|count| *count += 1);
    }

    /// From now on only this incarnation may speak for the node: a wiped disk does not come back as the old node.
    pub fn set_incarnation(&self, node: NodeId, incarnation: Incarnation) {
        if let Some(peer) = self.peer(node) {
            *peer.expected.write() = Some(incarnation);
        }
    }

    /// The incarnation as which a node has called within this time and was refused, because it is known as another: it knows the
    /// cluster's secret and has another directory.
    #[must_use]
    pub fn stranger(&self, node: NodeId, within: Duration) -> Option<Incarnation> {
        let strangers = self.inner.strangers.lock();
        let (incarnation, at) = strangers.get(&node)?;
        (at.elapsed() <= within).then_some(*incarnation)
    }

    pub(super) fn note_stranger(&self, node: NodeId, incarnation: Incarnation) {
        let mut strangers = self.inner.strangers.lock();
        strangers.insert(node, (incarnation, Instant::now()));
    }

    /// Forgets a node that left the cluster.
    pub fn remove(&self, node: NodeId) {
        self.inner.strangers.lock().remove(&node);
        let removed = self.inner.table.write().remove(&node);
        if let Some(peer) = removed {
            peer.place.lock().cancel();
        }
        self.inner.changes.send_modify(|count| *count += 1);
    }

    /// A channel to the node, connected when first used and again after it broke. `None` for an unknown node.
    ///
    /// Ask again for every call or stream, and `report` how it went: a wedged channel is replaced.
    #[must_use]
    pub fn channel(&self, node: NodeId, lane: Lane) -> Option<Channel> {
        let peer = self.peer(node)?;
        let mut state = peer.lane(lane).lock();
        if let Some(channel) = &state.channel {
            return Some(channel.clone());
        }
        let within = self.inner.connect_within;
        let connector = Connector::new(self.inner.us.clone(), peer.clone(), lane, within);
        let channel = endpoint(node).connect_with_connector_lazy(connector);
        state.channel = Some(channel.clone());
        Some(channel)
    }

    /// How a call or stream over the lane ended.
    pub fn report(&self, node: NodeId, lane: Lane, ok: bool) {
        let Some(peer) = self.peer(node) else { return };
        let mut state = peer.lane(lane).lock();
        if ok {
            state.succeeded();
            return;
        }
        let replaced = state.failed(Instant::now());
        // A node that is down gets here every few seconds: worth a line for a wedged channel only.
        if let Some(generation) = replaced.filter(|_| !peer.is_gone()) {
            info!(%node, ?lane, generation, "channel replaced");
        }
    }

    /// What is known of a node; nothing for an unknown one.
    #[must_use]
    pub fn heard(&self, node: NodeId) -> PeerHealth {
        let Some(peer) = self.peer(node) else {
            return PeerHealth::default();
        };
        let refused = peer.is_gone();
        let health = peer.health.lock();
        PeerHealth {
            last_heard: health.last_heard,
            refused,
            wall_clock_offset_ms: health.wall_clock_offset_ms,
            alarms: health.alarms,
            draining: health.draining,
        }
    }

    /// Says what this node is short of: the others hear it with their next beat.
    pub fn set_alarms(&self, alarms: Alarms) {
        *self.inner.alarms.lock() = alarms;
    }

    /// What this node has said of itself.
    #[must_use]
    pub fn alarms(&self) -> Alarms {
        *self.inner.alarms.lock()
    }

    /// Says what this node's clients use, in a form that is the gateway's: the others hear it with their next beat.
    pub fn set_usage(&self, usage: Bytes) {
        *self.inner.usage.lock() = usage;
    }

    pub(super) fn own_usage(&self) -> Bytes {
        self.inner.usage.lock().clone()
    }

    /// What a node said last of what its clients use; empty if it has said nothing.
    #[must_use]
    pub fn usage(&self, node: NodeId) -> Bytes {
        let peer = self.peer(node);
        peer.map_or_else(Bytes::new, |peer| peer.health.lock().usage.clone())
    }

    /// Says what is wrong with this node's replicas, in a form that is the broker's: the others hear it with their next beat.
    pub fn set_wrong(&self, wrong: Bytes) {
        *self.inner.wrong.lock() = wrong;
    }

    pub(super) fn own_wrong(&self) -> Bytes {
        self.inner.wrong.lock().clone()
    }

    /// What a node said last of its replicas; empty if it has said nothing.
    #[must_use]
    pub fn wrong(&self, node: NodeId) -> Bytes {
        let peer = self.peer(node);
        peer.map_or_else(Bytes::new, |peer| peer.health.lock().wrong.clone())
    }

    /// Says whether this node gives its leaderships away: the others hear it with their next beat and give it none.
    pub fn set_draining(&self, draining: bool) {
        self.inner.draining.store(draining, Ordering::Release);
    }

    /// Whether this node gives its leaderships away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// The other nodes heard within this time, without those whose process is gone.
    #[must_use]
    pub fn live(&self, within: Duration) -> Vec<NodeId> {
        let now = Instant::now();
        let heard = |peer: &Peer| {
            peer.health
                .lock()
                .last_heard
                .is_some_and(|at| now.duration_since(at) <= within)
        };
        let table = self.inner.table.read();
        table
            .values()
            .filter(|peer| !peer.is_gone() && heard(peer))
            .map(|peer| peer.node)
            .collect()
    }

    /// Changes whenever a node is added or removed, or its process goes or comes back.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Cancelled when the node's address changes or it is forgotten; whoever holds a long-lived stream to it ends that.
    #[must_use]
    pub fn moved(&self, node: NodeId) -> CancellationToken {
        let peer = self.peer(node);
        let gone = || {
            let token = CancellationToken::new();
            token.cancel();
            token
        };
        peer.map_or_else(gone, |peer| peer.place.lock().clone())
    }

    pub(super) fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.inner.table.read().get(&node).cloned()
    }

    pub(super) fn us(&self) -> &Arc<Introduction> {
        &self.inner.us
    }

    /// Notes that the node said something.
    pub(crate) fn hear(&self, node: NodeId) {
        if let Some(peer) = self.peer(node) {
            peer.hear(None);
        }
    }
}

impl Peer {
    pub(super) fn lane(&self, lane: Lane) -> &Mutex<LaneState> {
        let [bulk, control, forward] = &self.lanes;
        match lane {
            Lane::Bulk => bulk,
            Lane::Control => control,
            Lane::Forward => forward,
        }
    }

    fn move_to(&self, address: String) {
        let old = std::mem::replace(&mut *self.address.write(), address.clone());
        if old == address {
            return;
        }
        for lane in &self.lanes {
            *lane.lock() = LaneState::default();
        }
        let place = std::mem::take(&mut *self.place.lock());
        place.cancel();
    }

    pub(super) fn address(&self) -> String {
        self.address.read().clone()
    }

    /// Whether this identity may speak for the node.
    pub(super) fn accepts(&self, identity: &PeerIdentity) -> bool {
        self.expected
            .read()
            .is_none_or(|expected| expected == identity.incarnation)
    }

    /// The incarnation that alone may speak for the node, once it is known.
    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        *self.expected.read()
    }

    pub(super) fn hear(&self, wall_clock_offset_ms: Option<i64>) {
        let mut health = self.health.lock();
        health.last_heard = Some(Instant::now());
        if wall_clock_offset_ms.is_some() {
            health.wall_clock_offset_ms = wall_clock_offset_ms;
        }
    }

    pub(super) fn hear_alarms(&self, alarms: Alarms) {
        self.health.lock().alarms = alarms;
    }

    pub(super) fn hear_usage(&self, usage: Bytes) {
        self.health.lock().usage = usage;
    }

    pub(super) fn hear_wrong(&self, wrong: Bytes) {
        self.health.lock().wrong = wrong;
    }

    pub(super) fn hear_draining(&self, draining: bool) {
        self.health.lock().draining = draining;
    }

    /// A connected node could still refuse new connections (a rule in between), so a live connection from it counts more.
    pub(super) fn is_gone(&self) -> bool {
        self.inbound.load(Ordering::Acquire) == 0 && self.health.lock().port_refuses
    }

    /// The outcome of a connection attempt: whether the port refused.
    pub(super) fn dialled(&self, refused: bool) {
        let was_gone = self.is_gone();
        self.health.lock().port_refuses = refused;
        self.tell_if(was_gone);
    }

    pub(super) fn inbound_opened(&self) {
        let was_gone = self.is_gone();
        self.inbound.fetch_add(1, Ordering::AcqRel);
        self.tell_if(was_gone);
    }

    pub(super) fn inbound_closed(&self) {
        let was_gone = self.is_gone();
        self.inbound.fetch_sub(1, Ordering::AcqRel);
        self.tell_if(was_gone);
    }

    fn tell_if(&self, was_gone: bool) {
        if self.is_gone() != was_gone {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

/// The connector knows the address, and how long connecting may take; the name here is for HTTP/2 alone.
fn endpoint(node: NodeId) -> Endpoint {
    Endpoint::from_shared(format!("http://node-{node}.warren"))
        .expect("a number makes a valid host name")
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true)
}
