//! Topic exchanges: patterns over the words of the routing key (features B4). Not here: other kinds.
//!
//! Patterns are a trie. A message walks it once with the *set* of places of its key where a node can stand, so that each node is
//! visited at most once per message, whatever the number of `#`: the work is bounded by the words plus the nodes that match.

mod pattern;
mod positions;
mod trie;

use super::{Published, Targets, hop::Hop};
use pattern::parts;
use trie::Node;

#[derive(Clone, Debug, Default)]
pub(super) struct TopicRoutes {
    root: Node,
}

impl TopicRoutes {
    pub(super) fn bind(&mut self, pattern: &str, hop: Hop) {
        self.root.add(&parts(pattern), hop);
    }

    pub(super) fn unbind(&mut self, pattern: &str, hop: &Hop) {
        self.root.remove(&parts(pattern), hop);
    }

    pub(super) fn route(&self, message: &Published<'_>, out: &mut Targets) {
        for key in message.keys() {
            self.root.find(key, out);
        }
    }
}
