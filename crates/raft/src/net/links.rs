//! What this node sends Raft's traffic through: append streams and a pulse per node, and the bound on snapshots.
//! Not here: their protocols (`append_link`, `pulse`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use warren_types::{ClusterId, NodeId};

use super::append_link::AppendLinks;
use super::peers::Peers;
use super::pulse::{self, HeartbeatCall};
use crate::options::{RaftOptions, StreamOptions};
use crate::tasks::Tasks;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Links {
    pub(super) peers: Peers,
    pub(super) append: AppendLinks,
    pub(super) snapshots_out: Arc<Semaphore>,
    pub(super) snapshots_in: Arc<Semaphore>,
    /// Those that were not what had been sent.
    pub(crate) snapshots_refused: Arc<AtomicU64>,
    pulses: Pulses,
}

#[derive(Clone)]
struct Pulses {
    peers: Peers,
    cluster: ClusterId,
    options: StreamOptions,
    tasks: Tasks,
    calls: Arc<Mutex<BTreeMap<NodeId, mpsc::Sender<HeartbeatCall>>>>,
}

impl Links {
    /// Starts a pulse to every node, also to those that are added later.
    pub(crate) fn start(options: &RaftOptions, peers: &Peers, tasks: &Tasks) -> Self {
        let streams = options.streams.clone();
        let append = AppendLinks::new(
            peers.clone(),
            options.cluster,
            tasks.clone(),
            streams.per_peer,
            streams.requests_in_flight,
        );
        let pulses = Pulses {
            peers: peers.clone(),
            cluster: options.cluster,
            options: streams,
            tasks: tasks.clone(),
            calls: Arc::default(),
        };
        pulses.follow_peers();
        let changes = peers.changes();
        tasks.spawn("pulses", follow(pulses.clone(), changes));
        Self {
            peers: peers.clone(),
            append,
            snapshots_out: Arc::new(Semaphore::new(options.snapshots_max)),
            snapshots_in: Arc::new(Semaphore::new(options.snapshots_max)),
            snapshots_refused: Arc::default(),
            pulses,
        }
    }

    pub(super) fn pulse(&self, node: NodeId) -> Option<mpsc::Sender<HeartbeatCall>> {
        self.pulses.calls.lock().get(&node).cloned()
    }
}

async fn follow(pulses: Pulses, mut changes: tokio::sync::watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        pulses.follow_peers();
    }
}

impl Pulses {
    fn follow_peers(&self) {
        let nodes = self.peers.nodes();
        let mut calls = self.calls.lock();
        // A pulse ends when its node is forgotten: nobody holds its sender any more.
        calls.retain(|node, _| nodes.contains(node));
        for node in nodes {
            calls.entry(node).or_insert_with(|| {
                let (sender, queue) = mpsc::channel(pulse::CALLS_MAX);
                let work = pulse::run(
                    self.peers.clone(),
                    node,
                    self.cluster,
                    self.options.clone(),
                    queue,
                );
                self.tasks.spawn("pulse", work);
                sender
            });
        }
    }
}
