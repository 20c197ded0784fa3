//! Nodes that are cut off and come back. Not here: their sessions (`sessions`), changes of leader (`world`).

use warren_queue::dispatch::io::{ConsumerKey, Input};
use warren_types::NodeId;

use crate::sessions::Link;
use crate::world::{NODES, World};

impl World {
    pub(crate) fn cut_node(&mut self) {
        let node = NodeId(1 + self.random.below(NODES));
        for session in self.sessions.values_mut().filter(|it| it.key.node == node) {
            session.link = Link::Cut;
        }
        self.step(Input::NodeLost { node, silent_ms: 0 });
    }

    /// The stream of a node is made anew: some of its sessions did not survive.
    pub(crate) fn node_back(&mut self) {
        let node = NodeId(1 + self.random.below(NODES));
        self.step(Input::NodeBack { node });
        self.report(node);
        self.step(Input::NodeReported { node });
    }

    pub(crate) fn report(&mut self, node: NodeId) {
        let keys: Vec<ConsumerKey> = self.sessions.keys().copied().collect();
        for key in keys.into_iter().filter(|it| it.node == node) {
            if self.random.one_in(5) {
                self.sessions.remove(&key);
            } else {
                // Deliveries may have been lost with the old stream.
                if self.random.one_in(4) {
                    self.sessions
                        .get_mut(&key)
                        .unwrap()
                        .take_some(&mut self.random);
                }
                self.attach(key);
            }
        }
        let asked: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, it)| it.key.node == node)
            .map(|(&token, _)| token)
            .collect();
        for token in asked {
            let again = self.asked.remove(&token).unwrap();
            self.ask(again);
        }
        self.ask_together_again(node);
    }
}
