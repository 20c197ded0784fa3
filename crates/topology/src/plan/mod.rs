//! What is to change next so that the cluster becomes as it should be: pure functions of the topology and of what was observed.
//! Each answer is a small step; whoever carries it out observes again and asks again. Not here: carrying it out (`warren-shard`).

mod copies;
mod leaders;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{GroupId, Member, NodeId, ReplicaId};

pub use copies::{CopiesRefused, CopiesWish, copies_change};
pub use leaders::{LeaderMove, next_leader_move, spread};
pub use replicas::{Limits, next_changes};

/// What the planning node sees of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// A node that is not here was never heard from.
    pub nodes: BTreeMap<NodeId, Condition>,
    /// Who leads each group, as far as known.
    pub leaders: BTreeMap<GroupId, NodeId>,
    /// Groups that are left alone for now: their leader has just changed, or a transfer was refused.
    pub resting: BTreeSet<GroupId>,
    /// Nodes that are short of memory: what they lead takes no messages.
    pub short_of_memory: BTreeSet<NodeId>,
    /// Groups whose replicas differ, where it is not known which are right: none of them is moved, or the only right one might go.
    pub in_doubt: BTreeSet<GroupId>,
    /// Replicas that are set aside: they will never answer again.
    pub set_aside: BTreeSet<(GroupId, ReplicaId)>,
}

/// How a node is, as the planning node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    Up,
    /// Up, and gives its leaders away.
    Draining,
    /// Not heard from, for less than the grace time.
    Silent,
    /// Not heard from for the grace time: its replicas are replaced.
    Lost,
}

impl Condition {
    /// Heard from, whether it takes leaders or not.
    pub(crate) fn is_there(self) -> bool {
        match self {
            Self::Up | Self::Draining => true,
            Self::Silent | Self::Lost => false,
        }
    }
}

impl Observed {
    #[must_use]
    pub fn condition(&self, node: NodeId) -> Condition {
        self.nodes.get(&node).copied().unwrap_or(Condition::Silent)
    }

    /// Whether the node may be given a leadership.
    #[must_use]
    pub fn takes_leaders(&self, node: NodeId) -> bool {
        match self.condition(node) {
            Condition::Up => !self.short_of_memory.contains(&node),
            Condition::Draining | Condition::Silent | Condition::Lost => false,
        }
    }

    /// Whether the node is to give its leaders to others: it is short of memory, and not already giving them away by itself.
    fn is_relieved(&self, node: NodeId) -> bool {
        self.condition(node) == Condition::Up && self.short_of_memory.contains(&node)
    }

    /// Whether a replica of the group counts towards a majority.
    fn is_good(&self, group: GroupId, member: &Member) -> bool {
        self.condition(member.node).is_there() && !self.set_aside.contains(&(group, member.replica))
    }

    #[must_use]
    pub fn leader(&self, group: GroupId) -> Option<NodeId> {
        self.leaders.get(&group).copied()
    }
}
