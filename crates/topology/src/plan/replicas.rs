//! Where replicas are to be: lost and leaving ones are replaced, there are as many as wanted, nodes have as many as others, up
//! to five nodes vote on the topology. A step is a command; one per group at a time, few at once. Not here: leaders (`leaders`).

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{GroupId, Member, NodeId};

use super::{Condition, Observed};
use crate::{
    cluster::Node,
    command::{ForgetNode, MoveReplica, PlacementCommand, SetCopies, SetTopologyVoters, UndoMove},
    placement::{Copies, Placement},
    topology::Topology,
};

/// More voters make the topology slower and hardly safer.
const TOPOLOGY_VOTERS_MAX: usize = 5;

/// How much may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Groups whose replicas change.
    pub changes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { changes_max: 2 }
    }
}

/// What to propose next; empty: nothing, or nothing for now. Groups without a leader are left alone: they could not change. So are groups
/// in doubt.
#[must_use]
pub fn next_changes(
    topology: &Topology,
    observed: &Observed,
    limits: Limits,
) -> Vec<PlacementCommand> {
    if topology.cluster().is_none() {
        return Vec::new();
    }
    let mut plan = Plan::new(topology, observed);
    let mut changes: Vec<PlacementCommand> = plan.topology_voters().into_iter().collect();
    changes.extend(plan.forgotten());
    let shards = || {
        topology
            .placements()
            .filter(|it| it.group.shard().is_some())
    };
    let changing = shards().filter(|it| !it.settled).count();
    let mut room = limits.changes_max.saturating_sub(changing);
    for placement in shards() {
        let exchange_only = !placement.settled;
        if observed.in_doubt.contains(&placement.group) || !exchange_only && room == 0 {
            continue;
        }
        if let Some(change) = plan.mend(placement) {
            room -= usize::from(!exchange_only);
            changes.push(change);
        }
    }
    if changes.is_empty() {
        let mut taken = BTreeSet::new();
        while taken.len() < room {
            let Some(next) = plan.even_out(&taken) else {
                break;
            };
            taken.insert(next.group);
            changes.push(PlacementCommand::MoveReplica(next));
        }
    }
    changes
}

struct Plan<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    /// Replicas of shards per node, with what was planned.
    load: BTreeMap<NodeId, usize>,
}

impl<'a> Plan<'a> {
    fn new(topology: &'a Topology, observed: &'a Observed) -> Self {
        let mut load: BTreeMap<NodeId, usize> = topology.nodes().map(|it| (it.id, 0)).collect();
        let shards = topology
            .placements()
            .filter(|it| it.group.shard().is_some());
        for member in shards.flat_map(|it| &it.members) {
            *load.entry(member.node).or_default() += 1;
        }
        Self {
            topology,
            observed,
            load,
        }
    }

    fn condition(&self, node: NodeId) -> Condition {
        self.observed.condition(node)
    }

    fn is_leaving(&self, node: NodeId) -> bool {
        self.topology.node(node).is_none_or(|it| it.leaving)
    }

    /// Whether the node counts towards the copies of a shard.
    fn stays(&self, node: NodeId) -> bool {
        !self.is_leaving(node) && self.condition(node) != Condition::Lost
    }

    /// The nodes that may be given a replica.
    fn takers(&self) -> impl Iterator<Item = &'a Node> {
        let nodes = self.topology.nodes();
        nodes.filter(|it| !it.leaving && self.condition(it.id) == Condition::Up)
    }

    /// Few voters, on nodes that do not leave; those that vote already first. A lost one is replaced if another is up, never just
    /// dropped: it may be the one that comes back when the others do not.
    fn topology_voters(&self) -> Option<PlacementCommand> {
        // Of voters that differ the one that goes might be the only right one.
        if self.observed.in_doubt.contains(&GroupId::TOPOLOGY) {
            return None;
        }
        let own = self.topology.placement(GroupId::TOPOLOGY)?;
        let votes = |node: NodeId| own.members.iter().any(|it| it.node == node);
        let up = |node: NodeId| self.condition(node) == Condition::Up;
        let lost = |node: NodeId| self.condition(node) == Condition::Lost;
        let able = own.replicas().map(|it| it.node);
        let mut able: Vec<NodeId> = able
            .filter(|&node| !self.is_leaving(node) && (votes(node) || up(node)))
            .collect();
        able.sort_by_key(|&node| (lost(node), !votes(node), !up(node), node));
        // An even number tolerates no more than one fewer; two are kept, so that either has everything.
        let count = match able.len().min(TOPOLOGY_VOTERS_MAX) {
            4 => 3,
            count => count,
        };
        able.truncate(count);
        let wanted: BTreeSet<NodeId> = able.iter().copied().collect();
        let has: BTreeSet<NodeId> = own.members.iter().map(|it| it.node).collect();
        let stuck = !own.settled && !own.members.iter().any(|it| lost(it.node));
        if wanted.is_empty() || wanted == has || stuck {
            return None;
        }
        Some(PlacementCommand::SetTopologyVoters(SetTopologyVoters {
            generation: own.generation,
            voters: wanted.into_iter().collect(),
        }))
    }

    /// Nodes that leave and have nothing left.
    fn forgotten(&self) -> Vec<PlacementCommand> {
        let leaving = self.topology.nodes().filter(|it| it.leaving);
        let empty = leaving.filter(|node| {
            self.topology.placements().all(|it| {
                if it.group == GroupId::TOPOLOGY {
                    it.settled && it.members.iter().all(|member| member.node != node.id)
                } else {
                    !it.keeps(node.id)
                }
            })
        });
        let forget = empty.map(|it| PlacementCommand::ForgetNode(ForgetNode { node: it.id }));
        forget.take(1).collect()
    }

    /// The step that brings one shard nearer to what it is to be.
    fn mend(&mut self, placement: &Placement) -> Option<PlacementCommand> {
        self.observed.leader(placement.group)?;
        let change = if let Some(back) = self.dead_end(placement) {
            return Some(back);
        } else if placement.settled && placement.members.len() > self.wanted(placement) {
            self.shrink(placement)
        } else {
            self.repair(placement)
        };
        change.map(PlacementCommand::MoveReplica)
    }

    fn wanted(&self, placement: &Placement) -> usize {
        usize::try_from(self.topology.wanted_copies(placement)).unwrap_or(usize::MAX)
    }

    /// Under way to a node that is lost or leaves, and no other could have it: the replica that was to go stays after all, or the one that
    /// comes is taken back. The shard would never change again.
    fn dead_end(&self, placement: &Placement) -> Option<PlacementCommand> {
        let possible = self.topology.version() >= UndoMove::SINCE.max(SetCopies::SINCE);
        let bad = placement
            .members
            .iter()
            .filter(|it| !self.stays(it.node))
            .max_by_key(|it| it.replica)
            .filter(|_| possible && !placement.settled)?;
        if self.target(placement, Some(bad)).is_some() {
            return None;
        }
        let (group, generation) = (placement.group, placement.generation);
        if let Some(back) = self.way_back(placement, bad) {
            return Some(PlacementCommand::UndoMove(UndoMove {
                group,
                generation,
                gone: bad.replica,
                back: back.replica,
            }));
        }
        let coming = placement.coming().filter(|it| it == bad)?;
        self.is_enough(placement, &coming)
            .then_some(PlacementCommand::SetCopies(SetCopies {
                group,
                generation,
                copies: placement.copies,
                add: None,
                remove: Some(coming.replica),
            }))
    }

    /// A replica that was to go and could vote on instead of `bad`: one on a node that leaves only where the other is lost, or two that
    /// leave would replace each other for ever.
    fn way_back<'p>(&self, placement: &'p Placement, bad: &Member) -> Option<&'p Member> {
        let lost = self.condition(bad.node) == Condition::Lost;
        let able = placement.former.iter().filter(|it| {
            let other = placement
                .members
                .iter()
                .any(|member| member.node == it.node);
            self.observed.is_good(placement.group, it)
                && (lost || self.stays(it.node))
                && self.topology.is_kept(it)
                && !other
        });
        able.max_by_key(|it| it.replica)
    }

    /// Whether most of those that are left without one replica are there.
    fn is_enough(&self, placement: &Placement, without: &Member) -> bool {
        let left = placement.members.iter().filter(|it| *it != without);
        let good = left.filter(|it| self.observed.is_good(placement.group, it));
        good.count() > (placement.members.len() - 1) / 2
    }

    /// There are too many: one that is no good goes first, then one that has others in its zone, or is on a node with many.
    fn shrink(&mut self, placement: &Placement) -> Option<MoveReplica> {
        let leader = self.observed.leader(placement.group);
        let goes = placement.members.iter().max_by_key(|it| {
            let crowd = self.in_zone(placement, Some(it), it.node);
            let load = self.load.get(&it.node).copied().unwrap_or_default();
            let leads = leader == Some(it.node);
            (
                !self.stays(it.node),
                !self.observed.is_good(placement.group, it),
                crowd,
                load,
                !leads,
                it.replica,
            )
        });
        let goes = *goes?;
        self.is_enough(placement, &goes)
            .then(|| self.change(placement, None, Some(goes)))
    }

    /// A lost or leaving replica is replaced, a missing one comes.
    fn repair(&mut self, placement: &Placement) -> Option<MoveReplica> {
        let members = &placement.members;
        let lost = |it: &&Member| self.condition(it.node) == Condition::Lost;
        let leaving = |it: &&Member| self.is_leaving(it.node);
        let bad = members.iter().find(lost).or_else(|| {
            let settled = placement.settled;
            members.iter().find(leaving).filter(|_| settled)
        });
        let target = self.target(placement, bad);
        let stay = self.topology.nodes().filter(|it| self.stays(it.id)).count();
        let wanted = self.wanted(placement).min(stay.max(1));
        match (bad, target) {
            (Some(bad), Some(to)) => Some(self.change(placement, Some(to), Some(*bad))),
            _ if !placement.settled => None,
            // Asked for, and there is nowhere to go: fewer copies.
            (Some(bad), None) if self.is_leaving(bad.node) && members.len() > wanted => {
                // Those that are left must all be there, or the last good copy might go.
                let others = members.iter().filter(|it| *it != bad);
                let whole = others
                    .into_iter()
                    .all(|it| self.observed.is_good(placement.group, it));
                whole.then(|| self.change(placement, None, Some(*bad)))
            }
            (None, Some(to)) if members.len() < wanted => {
                Some(self.change(placement, Some(to), None))
            }
            (Some(_) | None, _) => None,
        }
    }

    /// One move from a node with many replicas to one with at least two fewer, if no zone gets worse by it; of a group that is not taken.
    fn even_out(&mut self, taken: &BTreeSet<GroupId>) -> Option<MoveReplica> {
        let takers: Vec<NodeId> = self.takers().map(|it| it.id).collect();
        let load = |node: &NodeId| self.load.get(node).copied().unwrap_or_default();
        let mut full = takers.clone();
        full.sort_by_key(|node| (std::cmp::Reverse(load(node)), *node));
        let mut found = None;
        'full: for from in full {
            for placement in self.topology.placements() {
                let member = placement.members.iter().find(|it| it.node == from);
                let Some(member) = member.filter(|_| placement.group.shard().is_some()) else {
                    continue;
                };
                let free = placement.settled
                    && !matches!(placement.copies, Copies::Placed(_))
                    && !taken.contains(&placement.group)
                    && self.observed.leader(placement.group).is_some()
                    && !self.observed.resting.contains(&placement.group)
                    && !self.observed.in_doubt.contains(&placement.group)
                    && placement
                        .members
                        .iter()
                        .all(|it| self.is_whole(placement.group, it));
                let Some(to) = self.target(placement, Some(member)).filter(|_| free) else {
                    continue;
                };
                let crowd = |node| self.in_zone(placement, Some(member), node);
                if load(&to) + 2 <= load(&from) && crowd(to) <= crowd(from) {
                    found = Some((placement, to, *member));
                    break 'full;
                }
            }
        }
        let (placement, to, member) = found?;
        Some(self.change(placement, Some(to), Some(member)))
    }

    /// Its node is there to stay, and it works.
    fn is_whole(&self, group: GroupId, member: &Member) -> bool {
        self.condition(member.node) == Condition::Up && self.observed.is_good(group, member)
    }

    /// The best node for a replica of the group, in the place of `instead`.
    fn target(&self, placement: &Placement, instead: Option<&Member>) -> Option<NodeId> {
        let free = self.takers().filter(|it| !placement.keeps(it.id));
        let best = free.min_by_key(|it| {
            let load = self.load.get(&it.id).copied().unwrap_or_default();
            (self.in_zone(placement, instead, it.id), load, it.id)
        });
        best.map(|it| it.id)
    }

    /// Other replicas of the group in the node's zone.
    fn in_zone(&self, placement: &Placement, instead: Option<&Member>, node: NodeId) -> usize {
        let zone = |node: NodeId| self.topology.node(node).map(|it| &it.zone);
        let others = placement.members.iter().filter(|it| Some(*it) != instead);
        others
            .filter(|it| it.node != node && zone(it.node) == zone(node))
            .count()
    }

    fn change(
        &mut self,
        placement: &Placement,
        add: Option<NodeId>,
        remove: Option<Member>,
    ) -> MoveReplica {
        if let Some(add) = add {
            *self.load.entry(add).or_default() += 1;
        }
        if let Some(remove) = remove {
            let load = self.load.entry(remove.node).or_default();
            *load = load.saturating_sub(1);
        }
        MoveReplica {
            group: placement.group,
            generation: placement.generation,
            add,
            remove: remove.map(|it| it.replica),
        }
    }
}
