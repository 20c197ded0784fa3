//! `MoveReplica`, `SetTopologyVoters`, `PlacementSettled`. Not here: nodes that come and go (`nodes`).

use std::collections::BTreeSet;

use warren_types::{GroupId, Member, NodeId};

use super::{done, refused};
use crate::{
    command::{MoveReplica, PlacementSettled, SetTopologyVoters},
    reply::{PlacementFault, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn move_replica(
    topology: &mut Topology,
    it: &MoveReplica,
) -> Result<TopologyReply, Refusal> {
    let placement = topology.placement(it.group);
    let placement = placement.filter(|it| it.group != GroupId::TOPOLOGY);
    let placement = placement.ok_or(refused(PlacementFault::NoSuchGroup))?;
    if placement.generation != it.generation {
        return Err(refused(PlacementFault::Stale));
    }
    // One change at a time; but a replica that will never come may be exchanged for another.
    if !placement.settled && (it.add.is_none() || it.remove.is_none()) {
        return Err(refused(PlacementFault::Changing));
    }
    if let Some(node) = it.add {
        let known = topology.node(node).ok_or(Refusal::NoSuchNode { node })?;
        if known.leaving {
            return Err(refused(PlacementFault::Leaving));
        }
        if placement.keeps(node) {
            return Err(refused(PlacementFault::HasReplicas));
        }
    }
    let removed = match it.remove {
        None => None,
        Some(replica) => {
            let found = placement.members.iter().find(|it| it.replica == replica);
            Some(*found.ok_or(refused(PlacementFault::NoSuchReplica))?)
        }
    };
    let left =
        placement.members.len() + usize::from(it.add.is_some()) - usize::from(removed.is_some());
    if left == 0 || (it.add.is_none() && removed.is_none()) {
        return Err(refused(PlacementFault::Nothing));
    }
    let added = it.add.map(|node| topology.new_replica(node));
    let placement = topology.placement_mut(it.group)?;
    if let Some(removed) = removed {
        placement.members.retain(|it| *it != removed);
        placement.former.push(removed);
    }
    placement.members.extend(added);
    placement.changed();
    Ok(done(true))
}

pub(super) fn set_topology_voters(
    topology: &mut Topology,
    it: &SetTopologyVoters,
) -> Result<TopologyReply, Refusal> {
    let own = topology.placement_mut(GroupId::TOPOLOGY)?;
    if own.generation != it.generation {
        return Err(refused(PlacementFault::Stale));
    }
    let wanted: BTreeSet<NodeId> = it.voters.iter().copied().collect();
    let all: Vec<Member> = own.members.iter().chain(&own.learners).copied().collect();
    let (members, learners): (Vec<Member>, Vec<Member>) =
        all.into_iter().partition(|it| wanted.contains(&it.node));
    if members.is_empty() || members.len() != wanted.len() || wanted.len() != it.voters.len() {
        return Err(refused(PlacementFault::NoSuchReplica));
    }
    own.members = members;
    own.learners = learners;
    own.changed();
    Ok(done(true))
}

pub(super) fn settled(
    topology: &mut Topology,
    it: &PlacementSettled,
) -> Result<TopologyReply, Refusal> {
    let placement = topology.placement_mut(it.group)?;
    if placement.generation != it.generation {
        return Err(refused(PlacementFault::Stale));
    }
    let changed = !placement.settled;
    placement.settled = true;
    placement.former.clear();
    Ok(done(changed))
}
