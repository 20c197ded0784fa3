//! What somebody who runs the cluster wants of a shard's copies, as the command for it: whether it can be is judged by what is seen now.
//! Not here: what the cluster does by itself, also to reach a count (`replicas`).

use thiserror::Error;
use warren_types::{GroupId, Member, NodeId};

use super::{Condition, Observed};
use crate::{
    command::SetCopies,
    placement::{Copies, Placement},
    topology::Topology,
};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopiesWish {
    /// One more, on this node.
    Add(NodeId),
    /// One fewer: that of this node.
    Remove(NodeId),
    /// So many, where the cluster places them; `None`: as its replication factor says.
    Count(Option<u32>),
}

/// Why it cannot be, or not now. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CopiesRefused {
    #[error("there is no shard {0}")]
    NoSuchShard(GroupId),
    #[error("every node has a copy of the topology: it is no shard")]
    Topology,
    #[error("there is no node {0}")]
    NoSuchNode(NodeId),
    #[error("a shard has 1 to {nodes} copies in a cluster of so many nodes that stay, not {count}")]
    Count { count: u32, nodes: usize },
    #[error("node {0} is leaving")]
    Leaving(NodeId),
    #[error("node {0} is draining")]
    Draining(NodeId),
    #[error("node {0} does not answer")]
    NotUp(NodeId),
    #[error("another change of the copies of shard {0} is under way")]
    Changing(GroupId),
    #[error("replicas of shard {0} differ, and it is not known which are right")]
    InDoubt(GroupId),
    #[error("shard {0} has no leader that is known")]
    NoLeader(GroupId),
    #[error("it is the last copy of shard {0}")]
    LastCopy(GroupId),
    #[error("shard {group} would be left with {left} copies, of which {up} answer: no majority")]
    NoMajority {
        group: GroupId,
        left: usize,
        up: usize,
    },
}

/// The command for it; `None`: it is so already.
///
/// # Errors
/// It cannot be.
pub fn copies_change(
    topology: &Topology,
    observed: &Observed,
    group: GroupId,
    wish: CopiesWish,
) -> Result<Option<SetCopies>, CopiesRefused> {
    if group == GroupId::TOPOLOGY {
        return Err(CopiesRefused::Topology);
    }
    let placement = topology.placement(group);
    let placement = placement.ok_or(CopiesRefused::NoSuchShard(group))?;
    let ask = Ask {
        topology,
        observed,
        placement,
    };
    match wish {
        CopiesWish::Add(node) => ask.add(node),
        CopiesWish::Remove(node) => ask.remove(node),
        CopiesWish::Count(count) => ask.count(count),
    }
}

struct Ask<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    placement: &'a Placement,
}

impl Ask<'_> {
    fn add(&self, node: NodeId) -> Result<Option<SetCopies>, CopiesRefused> {
        let group = self.placement.group;
        let known = self.topology.node(node);
        let known = known.ok_or(CopiesRefused::NoSuchNode(node))?;
        if self.placement.members.iter().any(|it| it.node == node) {
            return Ok(None);
        }
        if known.leaving {
            return Err(CopiesRefused::Leaving(node));
        }
        match self.observed.condition(node) {
            Condition::Up => {}
            Condition::Draining => return Err(CopiesRefused::Draining(node)),
            Condition::Silent | Condition::Lost => return Err(CopiesRefused::NotUp(node)),
        }
        let (now, wanted) = (self.now(), self.wanted());
        if !self.placement.settled || now > wanted {
            return Err(CopiesRefused::Changing(group));
        }
        self.check_led()?;
        let copies = Copies::Placed(wanted.max(now.saturating_add(1)));
        Ok(Some(self.command(copies, Some(node), None)))
    }

    fn remove(&self, node: NodeId) -> Result<Option<SetCopies>, CopiesRefused> {
        let group = self.placement.group;
        if self.topology.node(node).is_none() {
            return Err(CopiesRefused::NoSuchNode(node));
        }
        let mut members = self.placement.members.iter();
        let Some(goes) = members.find(|it| it.node == node).copied() else {
            return Ok(None);
        };
        let others = self.placement.members.iter().filter(|it| **it != goes);
        let others: Vec<Member> = others.copied().collect();
        if others.is_empty() {
            return Err(CopiesRefused::LastCopy(group));
        }
        if !self.placement.settled && self.placement.coming() != Some(goes) {
            return Err(CopiesRefused::Changing(group));
        }
        self.check_led()?;
        let good = |it: &&Member| self.observed.is_good(group, it);
        let (left, up) = (others.len(), others.iter().filter(good).count());
        if up <= left / 2 {
            return Err(CopiesRefused::NoMajority { group, left, up });
        }
        let copies = Copies::Placed(self.wanted().min(self.now().saturating_sub(1)));
        Ok(Some(self.command(copies, None, Some(goes))))
    }

    fn count(&self, count: Option<u32>) -> Result<Option<SetCopies>, CopiesRefused> {
        let copies = match count {
            None => Copies::Factor,
            Some(count) => {
                let nodes = self.topology.nodes().filter(|it| !it.leaving).count();
                let possible = usize::try_from(count).is_ok_and(|it| (1..=nodes).contains(&it));
                if !possible {
                    return Err(CopiesRefused::Count { count, nodes });
                }
                Copies::Count(count)
            }
        };
        if copies == self.placement.copies {
            return Ok(None);
        }
        self.check_led()?;
        Ok(Some(self.command(copies, None, None)))
    }

    fn now(&self) -> u32 {
        u32::try_from(self.placement.members.len()).unwrap_or(u32::MAX)
    }

    fn wanted(&self) -> u32 {
        self.topology.wanted_copies(self.placement)
    }

    /// Copies of a shard that could not change, or of which the only right one might go, are left alone.
    fn check_led(&self) -> Result<(), CopiesRefused> {
        let group = self.placement.group;
        if self.observed.in_doubt.contains(&group) {
            return Err(CopiesRefused::InDoubt(group));
        }
        let leader = self.observed.leader(group);
        leader.map(drop).ok_or(CopiesRefused::NoLeader(group))
    }

    fn command(&self, copies: Copies, add: Option<NodeId>, remove: Option<Member>) -> SetCopies {
        SetCopies {
            group: self.placement.group,
            generation: self.placement.generation,
            copies,
            add,
            remove: remove.map(|it| it.replica),
        }
    }
}
