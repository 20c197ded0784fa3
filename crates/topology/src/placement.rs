//! Where the replicas of a group are. Not here: moving them (`plan`, `apply/placement`), who leads (`raft`).

use std::collections::BTreeMap;

use warren_types::{Generation, GroupId, Member, NodeId, ReplicaId, ShardId};

use crate::cluster::Node;

/// A group's replicas, as they are to be. Its leader makes the membership so, and reports it by [`crate::PlacementSettled`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub group: GroupId,
    /// Counts the changes.
    pub generation: Generation,
    /// Those that are to vote. As the cluster was formed, the first one begins.
    pub members: Vec<Member>,
    /// Those that are to follow without a vote; of the topology group only.
    pub learners: Vec<Member>,
    /// Those that are to go, and may still be in the membership: kept until it is settled.
    pub former: Vec<Member>,
    /// The membership is known to be so.
    pub settled: bool,
    /// How many members there are to be; of shards only.
    pub copies: Copies,
}

/// How many copies a shard is to have; fewer if there are fewer nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copies {
    /// As the cluster's replication factor says.
    #[default]
    Factor,
    /// So many, where the cluster places them.
    Count(u32),
    /// So many, on nodes that somebody has named: none is moved only so that nodes have as many as others.
    Placed(u32),
}

impl Copies {
    #[must_use]
    pub fn count(self, replication_factor: u32) -> u32 {
        match self {
            Self::Factor => replication_factor,
            Self::Count(count) | Self::Placed(count) => count,
        }
    }
}

impl Placement {
    /// As a cluster is formed.
    pub(crate) fn first(group: GroupId, members: Vec<Member>) -> Self {
        Self {
            group,
            generation: Generation(1),
            members,
            learners: Vec::new(),
            former: Vec::new(),
            settled: true,
            copies: Copies::Factor,
        }
    }

    /// Every replica that there is to be.
    pub fn replicas(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.learners)
    }

    /// The replica that there is to be on a node.
    #[must_use]
    pub fn on(&self, node: NodeId) -> Option<Member> {
        self.replicas().find(|it| it.node == node).copied()
    }

    /// Whether there is, or may still be, something of the group on a node.
    #[must_use]
    pub fn keeps(&self, node: NodeId) -> bool {
        self.replicas()
            .chain(&self.former)
            .any(|it| it.node == node)
    }

    /// The replica that is added last and is not known to vote yet, if nothing else changes.
    #[must_use]
    pub fn coming(&self) -> Option<Member> {
        let newest = self.members.iter().max_by_key(|it| it.replica);
        newest
            .copied()
            .filter(|_| !self.settled && self.former.is_empty() && self.members.len() > 1)
    }

    pub(crate) fn changed(&mut self) {
        self.generation.0 += 1;
        self.settled = false;
    }

    /// Puts another replica in the place of the one on its node, which is lost.
    pub(crate) fn exchange(&mut self, fresh: Member) {
        let mut all = self.members.iter_mut().chain(&mut self.learners);
        let Some(there) = all.find(|it| it.node == fresh.node) else {
            return;
        };
        let lost = std::mem::replace(there, fresh);
        self.former.push(lost);
        self.changed();
    }
}

/// Places `shards` shards on `nodes`: distinct zones first, then fewest replicas, then the lowest number. Preferred leaders are spread evenly.
/// Replica ids are taken from `next`, which is left at the first free one.
pub(crate) fn place(
    nodes: &BTreeMap<NodeId, Node>,
    shards: u32,
    replication_factor: u32,
    next: &mut ReplicaId,
) -> Vec<Placement> {
    let mut load: BTreeMap<NodeId, Load> =
        nodes.keys().map(|&node| (node, Load::default())).collect();
    (1..=shards)
        .map(|shard| {
            let mut chosen = choose(nodes, &load, replication_factor);
            chosen.sort_by_key(|node| {
                let load = load.get(node).copied().unwrap_or_default();
                (load.preferred, *node)
            });
            let mut members = Vec::with_capacity(chosen.len());
            for (place, node) in chosen.into_iter().enumerate() {
                let load = load.entry(node).or_default();
                load.replicas += 1;
                load.preferred += u64::from(place == 0);
                members.push(Member {
                    replica: *next,
                    node,
                });
                next.0 += 1;
            }
            Placement::first(ShardId(shard).into(), members)
        })
        .collect()
}

#[derive(Clone, Copy, Default)]
struct Load {
    replicas: u64,
    preferred: u64,
}

fn choose(
    nodes: &BTreeMap<NodeId, Node>,
    load: &BTreeMap<NodeId, Load>,
    replication_factor: u32,
) -> Vec<NodeId> {
    let mut chosen: Vec<&Node> = Vec::new();
    for _ in 0..replication_factor {
        let best = nodes
            .values()
            .filter(|node| !chosen.iter().any(|it| it.id == node.id))
            .min_by_key(|node| {
                let in_zone = chosen.iter().filter(|it| it.zone == node.zone).count();
                let replicas = load.get(&node.id).copied().unwrap_or_default().replicas;
                (in_zone, replicas, node.id)
            });
        match best {
            Some(node) => chosen.push(node),
            None => break,
        }
    }
    chosen.into_iter().map(|node| node.id).collect()
}
