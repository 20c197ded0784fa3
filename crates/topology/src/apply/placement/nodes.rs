//! `AdmitNode`, `SetLeaving`, `ForgetNode`. Not here: moving their replicas (`replicas`).

use std::sync::Arc;

use warren_types::{GroupId, Incarnation, NodeId};

use super::{NODES_MAX, done, refused};
use crate::{
    cluster::Node,
    command::{AdmitNode, ForgetNode, SetLeaving, UndoMove},
    reply::{PlacementFault, Refusal, TopologyReply},
    topology::Topology,
};

/// A node whose directory was replaced so often is removed and added under another number.
const FORMER_MAX: usize = 1_000;

pub(super) fn admit(topology: &mut Topology, it: AdmitNode) -> Result<TopologyReply, Refusal> {
    let AdmitNode { node, replaces } = it;
    let id = node.id;
    topology.fits(id, node.software.versions)?;
    if id == NodeId(0) {
        return Err(refused(PlacementFault::NodeNumber));
    }
    match topology.nodes.get(&id).map(|known| known.incarnation) {
        Some(known) if known == node.incarnation => Ok(done(false)),
        Some(known) => replace(topology, node, known, replaces),
        None if replaces.is_some() => Err(Refusal::NoSuchNode { node: id }),
        None => add(topology, node),
    }
}

fn add(topology: &mut Topology, node: Node) -> Result<TopologyReply, Refusal> {
    let id = node.id;
    if topology.nodes.len() >= NODES_MAX {
        return Err(refused(PlacementFault::TooManyNodes));
    }
    let member = topology.new_replica(id);
    let own = topology.placement_mut(GroupId::TOPOLOGY)?;
    own.learners.push(member);
    own.changed();
    let node = Node {
        leaving: false,
        former: Vec::new(),
        ..node
    };
    Arc::make_mut(&mut topology.nodes).insert(id, node);
    Ok(done(true))
}

/// Its directory is another: no replica of the old one will ever answer again, and none of its ids may come back.
fn replace(
    topology: &mut Topology,
    node: Node,
    known: Incarnation,
    replaces: Option<Incarnation>,
) -> Result<TopologyReply, Refusal> {
    let id = node.id;
    let now = topology.nodes.get(&id);
    let mut former = now.map(|it| it.former.clone()).unwrap_or_default();
    if replaces != Some(known) || former.contains(&node.incarnation) {
        return Err(Refusal::OtherIncarnation { node: id });
    }
    if former.len() >= FORMER_MAX {
        return Err(refused(PlacementFault::TooManyDirectories));
    }
    former.push(known);
    let leaving = now.is_some_and(|it| it.leaving);
    let groups: Vec<GroupId> = topology.placements.keys().copied().collect();
    let forgets = topology.version() >= UndoMove::SINCE;
    for group in groups {
        if forgets {
            // What was to go from its old directory is gone: it may be given another at once.
            let placement = topology.placement_mut(group)?;
            placement.former.retain(|it| it.node != id);
        }
        let has = topology
            .placement(group)
            .is_some_and(|it| it.on(id).is_some());
        if !has {
            continue;
        }
        let fresh = topology.new_replica(id);
        topology.placement_mut(group)?.exchange(fresh);
    }
    let node = Node {
        leaving,
        former,
        ..node
    };
    Arc::make_mut(&mut topology.nodes).insert(id, node);
    Ok(done(true))
}

pub(super) fn set_leaving(
    topology: &mut Topology,
    it: &SetLeaving,
) -> Result<TopologyReply, Refusal> {
    let stays = |node: &&Node| node.id != it.node && !node.leaving;
    let others = topology.nodes.values().filter(stays).count();
    if it.leaving && others == 0 && topology.nodes.contains_key(&it.node) {
        return Err(refused(PlacementFault::LastNode));
    }
    let node = Arc::make_mut(&mut topology.nodes).get_mut(&it.node);
    let node = node.ok_or(Refusal::NoSuchNode { node: it.node })?;
    let changed = node.leaving != it.leaving;
    node.leaving = it.leaving;
    Ok(done(changed))
}

pub(super) fn forget(topology: &mut Topology, it: &ForgetNode) -> Result<TopologyReply, Refusal> {
    let Some(node) = topology.nodes.get(&it.node) else {
        return Ok(done(false));
    };
    if !node.leaving {
        return Err(refused(PlacementFault::NotLeaving));
    }
    let keeps = topology.placements.values().any(|placement| {
        let voter = placement
            .members
            .iter()
            .any(|member| member.node == it.node);
        let former = placement.former.iter().any(|member| member.node == it.node);
        voter || (placement.group != GroupId::TOPOLOGY && former)
    });
    if keeps {
        return Err(refused(PlacementFault::HasReplicas));
    }
    let own = topology.placement_mut(GroupId::TOPOLOGY)?;
    let gone = own.learners.extract_if(.., |member| member.node == it.node);
    let gone: Vec<_> = gone.collect();
    own.former.extend(gone);
    own.changed();
    Arc::make_mut(&mut topology.nodes).remove(&it.node);
    Ok(done(true))
}
