//! Where frames are delivered on this node: each shard's leader task takes what comes up, each uplink what comes down.
//! Not here: the streams to other nodes (`remote`, `service`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use warren_types::{BatchSequence, NodeId, ShardId};

use super::frame::{BatchException, Down, Up};
use super::outbox::Outbox;
use crate::uplink::door::UplinkDoor;

/// Frames a shard's leader task has not taken yet, at most.
pub(crate) const LEADER_INBOX_MAX: usize = 4_096;

/// What a shard's leader task hears from one node's link.
#[derive(Debug)]
pub(crate) enum FromNode {
    Frames {
        node: NodeId,
        out: DownOut,
        frames: Vec<Up>,
    },
    /// A shard has taken a number of what this one moves there.
    Moved {
        target: ShardId,
        number: BatchSequence,
        exceptions: Vec<BatchException>,
    },
    /// The stream from the node broke.
    Gone { node: NodeId, stream: u64 },
}

/// The way down to one node, for one shard.
#[derive(Debug, Clone)]
pub(crate) enum DownOut {
    Local {
        node: NodeId,
        out: Outbox<ToUplink>,
    },
    Remote {
        shard: ShardId,
        stream: u64,
        out: Outbox<(ShardId, Down)>,
    },
}

impl DownOut {
    pub(crate) fn push(&self, frames: impl IntoIterator<Item = Down>) {
        match self {
            Self::Local { node, out } => out.push(ToUplink::Down {
                node: *node,
                frames: frames.into_iter().collect(),
            }),
            Self::Remote { shard, out, .. } => {
                out.push_all(frames.into_iter().map(|frame| (*shard, frame)))
            }
        }
    }

    /// Zero for the local node, else the number of the stream the node's frames came by.
    pub(crate) fn stream(&self) -> u64 {
        match self {
            Self::Local { .. } => 0,
            Self::Remote { stream, .. } => *stream,
        }
    }
}

/// The leader tasks of this node's replicas.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaderDoors {
    doors: Arc<parking_lot::RwLock<BTreeMap<ShardId, mpsc::Sender<FromNode>>>>,
}

impl LeaderDoors {
    pub(crate) fn open(&self, shard: ShardId) -> mpsc::Receiver<FromNode> {
        let (sender, receiver) = mpsc::channel(LEADER_INBOX_MAX);
        self.doors.write().insert(shard, sender);
        receiver
    }

    /// There is no replica of the shard here any more.
    pub(crate) fn close(&self, shard: ShardId) {
        self.doors.write().remove(&shard);
    }

    pub(crate) fn door(&self, shard: ShardId) -> Option<mpsc::Sender<FromNode>> {
        self.doors.read().get(&shard).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(ShardId, mpsc::Sender<FromNode>)> {
        self.doors
            .read()
            .iter()
            .map(|(shard, door)| (*shard, door.clone()))
            .collect()
    }
}

/// This node's uplinks, for what a shard led here moves to others.
pub(crate) type UplinkRequests = Arc<parking_lot::RwLock<BTreeMap<ShardId, UplinkDoor>>>;

/// What an uplink hears: frames of the link it asked for, or that the stream to a node broke.
#[derive(Debug)]
pub(crate) enum ToUplink {
    Down { node: NodeId, frames: Vec<Down> },
    StreamLost { node: NodeId },
}

/// The uplinks of this node, for what comes down from other nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct UplinkDoors {
    doors: Arc<parking_lot::RwLock<BTreeMap<ShardId, Outbox<ToUplink>>>>,
}

impl UplinkDoors {
    pub(crate) fn open(&self, shard: ShardId) -> Outbox<ToUplink> {
        let inbox = Outbox::default();
        self.doors.write().insert(shard, inbox.clone());
        inbox
    }

    pub(crate) fn door(&self, shard: ShardId) -> Option<Outbox<ToUplink>> {
        self.doors.read().get(&shard).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Outbox<ToUplink>> {
        self.doors.read().values().cloned().collect()
    }
}
