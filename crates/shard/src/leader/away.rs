//! Nodes that are away from a leader: their process is gone, or the leader has lost its majority and they are better off without it.
//! Not here: links and what comes by them (`links`, `work`).

use std::time::Duration;

use tracing::debug;
use warren_queue::dispatch::io::Input;
use warren_types::NodeId;

use super::work::Leading;

/// A lease that is out for less is no sign of a lost majority: this process may have been held up.
const POWERLESS_AFTER: Duration = Duration::from_millis(250);

impl Leading {
    /// What lost nodes held returns at once if their process is known to be gone: nobody will claim it.
    pub(super) fn bury(&mut self, is_gone: impl Fn(NodeId) -> bool) {
        let gone: Vec<NodeId> = self
            .lost
            .iter()
            .copied()
            .filter(|node| is_gone(*node))
            .collect();
        for node in gone {
            self.lost.remove(&node);
            self.step(Input::NodeBack { node });
            self.step(Input::NodeReported { node });
        }
    }

    /// Other nodes do not wait for a leader that has no majority: they are told, and not heard before it has one again. What they have sent
    /// they send again. This node's own uplink sees for itself.
    pub(super) fn turn_away(&mut self) {
        self.begin_turn();
        if !self.is_powerless() {
            return;
        }
        for node in self.links.turn_away(self.me.node) {
            debug!(shard_id = %self.shard, node_id = %node, "turned away for want of a majority");
            self.lost.insert(node);
            self.step(Input::NodeLost { node, silent_ms: 0 });
        }
    }

    pub(super) fn is_powerless(&self) -> bool {
        let since = self.powerless_since;
        since.is_some_and(|since| since.elapsed() >= POWERLESS_AFTER)
    }
}
