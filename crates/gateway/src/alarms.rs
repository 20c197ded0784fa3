//! Which nodes are short of memory or disk, and which publishes that stops: those that need such a node, no others. Consumers
//! and settles go on everywhere, since they free what is short. Not here: measuring (`server`), what clients are told (`grpc`, `amqp`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use warren_topology::{Target, Topology};
use warren_types::{Alarm, Alarms, NodeId, Watermarks};

use crate::gateway::Gateway;

/// A publish that waits looks so often whether its leader has moved to a node that has what it needs.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The nodes with an alarm; a node that is not named is short of nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AlarmedNodes(BTreeMap<NodeId, Alarms>);

impl FromIterator<(NodeId, Alarms)> for AlarmedNodes {
    fn from_iter<I: IntoIterator<Item = (NodeId, Alarms)>>(nodes: I) -> Self {
        Self(
            nodes
                .into_iter()
                .filter(|(_, alarms)| !alarms.is_empty())
                .collect(),
        )
    }
}

impl AlarmedNodes {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn of(&self, node: NodeId) -> Alarms {
        self.0.get(&node).copied().unwrap_or_default()
    }

    /// What stops a message that enters at `here`, is led by `leader` (if known) and stored on `replicas`. Memory counts where the
    /// message waits: at the door and at the leader. Disk counts wherever it is stored.
    fn stops(
        &self,
        here: NodeId,
        leader: Option<NodeId>,
        mut replicas: impl Iterator<Item = NodeId>,
    ) -> Option<Alarm> {
        let short_of_memory =
            self.of(here).memory || leader.is_some_and(|leader| self.of(leader).memory);
        if short_of_memory {
            return Some(Alarm::Memory);
        }
        replicas
            .any(|node| self.of(node).disk)
            .then_some(Alarm::Disk)
    }
}

/// What this node knows; shared by all sessions.
#[derive(Debug, Default)]
pub(crate) struct AlarmBoard {
    /// Kept beside the nodes: without an alarm a publish looks at this alone.
    any: AtomicBool,
    nodes: watch::Sender<Arc<AlarmedNodes>>,
    /// Where this node's own begin.
    watermarks: Mutex<Watermarks>,
}

impl AlarmBoard {
    pub(crate) fn new(watermarks: Watermarks) -> Self {
        Self {
            watermarks: Mutex::new(watermarks),
            ..Self::default()
        }
    }

    fn set(&self, nodes: AlarmedNodes) {
        self.any.store(!nodes.is_empty(), Ordering::Release);
        self.nodes.send_if_modified(|known| {
            let changed = **known != nodes;
            if changed {
                *known = Arc::new(nodes);
            }
            changed
        });
    }
}

impl Gateway {
    /// Tells all sessions which nodes are short of what.
    pub fn set_alarms(&self, nodes: AlarmedNodes) {
        self.alarm_board().set(nodes);
    }

    /// Where this node's alarms begin.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        *self.alarm_board().watermarks.lock()
    }

    /// Whoever measures looks a few times a second.
    pub(crate) fn set_watermarks(&self, watermarks: Watermarks) {
        *self.alarm_board().watermarks.lock() = watermarks;
    }

    /// The nodes with an alarm, whenever they change.
    #[must_use]
    pub fn alarms(&self) -> watch::Receiver<Arc<AlarmedNodes>> {
        self.alarm_board().nodes.subscribe()
    }

    /// What stops a message for these queues now; `None`: nothing.
    pub(crate) fn stopped_by(&self, targets: &[Target], topology: &Topology) -> Option<Alarm> {
        let board = self.alarm_board();
        if !board.any.load(Ordering::Acquire) {
            return None;
        }
        let nodes = board.nodes.borrow().clone();
        let here = self.broker().node();
        targets.iter().find_map(|target| {
            let leader = self.broker().leader_of(target.shard);
            let placement = topology.placement(target.shard.into());
            let replicas = placement.into_iter().flat_map(|it| &it.members);
            nodes.stops(here, leader, replicas.map(|it| it.node))
        })
    }

    /// Returns when nothing stops messages for these queues.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn relief(&self, targets: &[Target]) {
        let mut alarms = self.alarms();
        loop {
            alarms.mark_unchanged();
            if self.stopped_by(targets, &self.topology()).is_none() {
                return;
            }
            // Either way it is looked at again.
            let _changed = timeout(LOOK_AGAIN, alarms.changed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: NodeId = NodeId(1);
    const LEADER: NodeId = NodeId(2);
    const FOLLOWER: NodeId = NodeId(3);
    const OTHER: NodeId = NodeId(4);

    fn stopped(by: NodeId, alarms: Alarms) -> Option<Alarm> {
        let nodes: AlarmedNodes = [(by, alarms)].into_iter().collect();
        nodes.stops(HERE, Some(LEADER), [LEADER, FOLLOWER].into_iter())
    }

    #[test]
    fn memory_stops_what_waits_on_the_node_and_no_more() {
        let memory = Alarms {
            memory: true,
            disk: false,
        };
        assert_eq!(stopped(HERE, memory), Some(Alarm::Memory));
        assert_eq!(stopped(LEADER, memory), Some(Alarm::Memory));
        assert_eq!(stopped(FOLLOWER, memory), None);
        assert_eq!(stopped(OTHER, memory), None);
    }

    #[test]
    fn disk_stops_what_is_stored_on_the_node_and_no_more() {
        let disk = Alarms {
            memory: false,
            disk: true,
        };
        assert_eq!(stopped(HERE, disk), None);
        assert_eq!(stopped(LEADER, disk), Some(Alarm::Disk));
        assert_eq!(stopped(FOLLOWER, disk), Some(Alarm::Disk));
        assert_eq!(stopped(OTHER, disk), None);
    }

    #[test]
    fn board_tells_of_changes_only() {
        let board = AlarmBoard::default();
        let mut told = board.nodes.subscribe();
        board.set(AlarmedNodes::default());
        assert!(!told.has_changed().unwrap());
        let both = Alarms {
            memory: true,
            disk: true,
        };
        board.set([(HERE, both), (OTHER, Alarms::NONE)].into_iter().collect());
        assert!(told.has_changed().unwrap());
        assert_eq!(told.borrow_and_update().of(HERE), both);
        assert_eq!(told.borrow().of(OTHER), Alarms::NONE);
        board.set([(HERE, both)].into_iter().collect());
        assert!(!told.has_changed().unwrap());
    }
}
