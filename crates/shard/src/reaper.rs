//! Asks the topology to note and delete queues that end by themselves: what shard leaders find due (features B25, B28), and exclusive
//! queues whose connection cannot come back (B24). Deletions name the queue's id, so that asking twice is harmless.
//! Not here: what is due in a shard (`leader::lifecycle`); a connection's own end (`gateway` deletes its queues before it answers).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use warren_raft::Peers;
use warren_topology::{DeleteQueue, NoteConsumer, Queue, QueueOwner, Topology, TopologyCommand};
use warren_types::QueueId;

use crate::leader::task::NodeIdentity;
use crate::topology::handle::TopologyHandle;

/// Wishes that wait; whoever finds no room asks again.
const ASKS_MAX: usize = 1_024;
/// Changes of the topology under way at once.
const AT_ONCE: usize = 64;
/// How often exclusive queues are looked through.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A node not heard of for so long has lost its connections' queues (features A8).
const GONE_AFTER: Duration = Duration::from_secs(60);

/// What a shard's leader asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Ask {
    /// The queue has had a consumer.
    Note(QueueId),
    Delete(QueueId),
}

/// Where shard leaders put their wishes.
#[derive(Clone, Debug)]
pub(crate) struct Asks {
    sender: mpsc::Sender<Ask>,
}

impl Asks {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(ASKS_MAX);
        (Self { sender }, receiver)
    }

    /// `false`: there is no room.
    pub(crate) fn ask(&self, ask: Ask) -> bool {
        self.sender.try_send(ask).is_ok()
    }
}

pub(crate) type Asked = mpsc::Receiver<Ask>;

/// The reaper as the rest of the broker has it.
#[derive(Clone)]
pub(crate) struct Reaping {
    pub(crate) asks: Asks,
    /// What is being asked for now, so that it is asked once at a time.
    under_way: Arc<Mutex<BTreeSet<Ask>>>,
    /// Queues of this node's ended connections that could not be deleted then.
    left: Arc<Mutex<BTreeSet<QueueId>>>,
}

impl Reaping {
    pub(crate) fn channel() -> (Self, Asked) {
        let (asks, asked) = Asks::channel();
        let reaping = Self {
            asks,
            under_way: Arc::default(),
            left: Arc::default(),
        };
        (reaping, asked)
    }

    /// Deletes the queue when that can be done.
    pub(crate) fn leave(&self, queue: QueueId) {
        self.left.lock().insert(queue);
    }
}

pub(crate) struct Reaper {
    me: NodeIdentity,
    topology: TopologyHandle,
    peers: Peers,
    asked: Asked,
    reaping: Reaping,
}

impl Reaper {
    pub(crate) fn new(
        me: NodeIdentity,
        topology: &TopologyHandle,
        peers: &Peers,
        asked: Asked,
        reaping: &Reaping,
    ) -> Self {
        Self {
            me,
            topology: topology.clone(),
            peers: peers.clone(),
            asked,
            reaping: reaping.clone(),
        }
    }

    pub(crate) async fn run(mut self, tasks: TaskTracker, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leads_since = None;
        loop {
            let asks = tokio::select! {
                biased; // stopping first; a tick is rare
                () = stop.cancelled() => return,
                _ = look.tick() => self.orphans(&mut leads_since),
                ask = self.asked.recv() => match ask {
                    Some(ask) => vec![ask],
                    None => return,
                },
            };
            for ask in asks {
                if !self.reaping.under_way.lock().insert(ask) {
                    continue;
                }
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                    return;
                };
                let (topology, under_way) =
                    (self.topology.clone(), Arc::clone(&self.reaping.under_way));
                tasks.spawn(async move {
                    perform(&topology, ask).await;
                    under_way.lock().remove(&ask);
                    drop(permit);
                });
            }
        }
    }

    /// Exclusive queues of connections that are gone for good: of this node's earlier runs, and, where the topology is led from
    /// here, of nodes that were not heard of for a minute.
    fn orphans(&self, leads_since: &mut Option<Instant>) -> Vec<Ask> {
        let topology = self.topology.current();
        if topology.cluster().is_none() {
            return Vec::new();
        }
        let leads = self.topology.leads();
        if !leads {
            *leads_since = None;
        }
        let since = leads.then(|| *leads_since.get_or_insert_with(Instant::now));
        let mut left = self.reaping.left.lock();
        left.retain(|queue| topology.queue_by_id(*queue).is_some());
        let delays = topology.delay_queues_without_exchange().filter(|_| leads);
        topology
            .exclusive_queues()
            .filter(|queue| left.contains(&queue.id) || self.is_orphan(queue, since))
            .chain(delays)
            .map(|queue| Ask::Delete(queue.id))
            .collect()
    }

    fn is_orphan(&self, queue: &Queue, leads_since: Option<Instant>) -> bool {
        let Some(QueueOwner::Connection { node, run, .. }) = &queue.owner else {
            return false;
        };
        if *node == self.me.node {
            return *run < self.me.run;
        }
        let heard = self.peers.heard(*node).last_heard;
        // What an earlier leader heard is not known here: the time counts from when this one began.
        leads_since.is_some_and(|since| {
            let last = heard.map_or(since, |heard| heard.max(since));
            last.elapsed() >= GONE_AFTER
        })
    }
}

async fn perform(topology: &TopologyHandle, ask: Ask) {
    let Some(command) = command(&topology.current(), ask) else {
        return;
    };
    match topology.propose(command, "").await {
        Ok(reply) => debug!(?ask, ?reply, "queue's life"),
        // It is asked for again.
        Err(error) => warn!(?ask, %error, "queue left as it is"),
    }
}

/// `None`: the queue is gone.
fn command(topology: &Topology, ask: Ask) -> Option<TopologyCommand> {
    match ask {
        Ask::Note(queue) => {
            topology.queue_by_id(queue)?;
            Some(TopologyCommand::NoteConsumer(NoteConsumer { queue }))
        }
        Ask::Delete(queue) => {
            let queue = topology.queue_by_id(queue)?;
            Some(TopologyCommand::DeleteQueue(DeleteQueue {
                vhost: queue.vhost,
                name: queue.name.clone(),
                only: Some(queue.id),
                // The cluster does it on the owner's behalf.
                requester: queue.owner.clone(),
            }))
        }
    }
}
