//! `MoveReplica`, `SetCopies`, `UndoMove`, `SetTopologyVoters`, `PlacementSettled`. Not here: nodes that come and go (`nodes`).

use std::collections::BTreeSet;

use warren_types::{Generation, GroupId, Member, NodeId};

use super::{NODES_MAX, done, refused};
use crate::{
    command::{MoveReplica, PlacementSettled, SetCopies, SetTopologyVoters, UndoMove},
    placement::{Copies, Placement},
    reply::{PlacementFault, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn move_replica(
    topology: &mut Topology,
    it: &MoveReplica,
) -> Result<TopologyReply, Refusal> {
    let placement = placement_of(topology, it.group, it.generation)?;
    // One change at a time; but a replica that will never come may be exchanged for another.
    if !placement.settled && (it.add.is_none() || it.remove.is_none()) {
        return Err(refused(PlacementFault::Changing));
    }
    exchange(topology, it)?;
    Ok(done(true))
}

pub(super) fn set_copies(
    topology: &mut Topology,
    it: &SetCopies,
) -> Result<TopologyReply, Refusal> {
    let change = MoveReplica {
        group: it.group,
        generation: it.generation,
        add: it.add,
        remove: it.remove,
    };
    let placement = placement_of(topology, it.group, it.generation)?;
    let count = match it.copies {
        Copies::Factor => 1,
        Copies::Count(count) | Copies::Placed(count) => usize::try_from(count).unwrap_or(0),
    };
    if !(1..=NODES_MAX).contains(&count) {
        return Err(refused(PlacementFault::Copies));
    }
    let mut changed = placement.copies != it.copies;
    if it.add.is_some() || it.remove.is_some() {
        // One change at a time; but a replica that is on its way may be taken back.
        let coming = placement.coming().map(|it| it.replica);
        let taken_back = it.add.is_none() && coming.is_some() && it.remove == coming;
        if !placement.settled && !taken_back {
            return Err(refused(PlacementFault::Changing));
        }
        exchange(topology, &change)?;
        changed = true;
    }
    topology.placement_mut(it.group)?.copies = it.copies;
    Ok(done(changed))
}

/// What is stored of a replica that was to go is kept until the change is settled: it may vote again, unless its node has lost it.
pub(super) fn undo_move(topology: &mut Topology, it: &UndoMove) -> Result<TopologyReply, Refusal> {
    let placement = placement_of(topology, it.group, it.generation)?;
    if placement.settled {
        return Err(refused(PlacementFault::Nothing));
    }
    let find = |list: &[Member], replica| {
        let found = list.iter().find(|it| it.replica == replica).copied();
        found.ok_or(refused(PlacementFault::NoSuchReplica))
    };
    let gone = find(&placement.members, it.gone)?;
    let back = find(&placement.former, it.back)?;
    if !topology.is_kept(&back) {
        return Err(refused(PlacementFault::NoSuchReplica));
    }
    let mut others = placement.members.iter().filter(|it| **it != gone);
    if others.any(|it| it.node == back.node) {
        return Err(refused(PlacementFault::HasReplicas));
    }
    let placement = topology.placement_mut(it.group)?;
    placement.members.retain(|it| *it != gone);
    placement.former.retain(|it| *it != back);
    placement.members.push(back);
    placement.former.push(gone);
    placement.changed();
    Ok(done(true))
}

/// The shard's placement, if it is the one that the change was decided by.
fn placement_of(
    topology: &Topology,
    group: GroupId,
    generation: Generation,
) -> Result<&Placement, Refusal> {
    let placement = topology.placement(group);
    let placement = placement.filter(|it| it.group != GroupId::TOPOLOGY);
    let placement = placement.ok_or(refused(PlacementFault::NoSuchGroup))?;
    if placement.generation != generation {
        return Err(refused(PlacementFault::Stale));
    }
    Ok(placement)
}

/// Adds a replica, removes one, or both, whether something else changes or not.
fn exchange(topology: &mut Topology, it: &MoveReplica) -> Result<(), Refusal> {
    let placement = placement_of(topology, it.group, it.generation)?;
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
    Ok(())
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
