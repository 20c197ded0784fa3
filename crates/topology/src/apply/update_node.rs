//! `UpdateNode`: where a member listens now, and what it runs. Not here: connecting to it (`raft::Peers`).

use std::sync::Arc;

use crate::{
    command::UpdateNode,
    reply::{Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(
    topology: &mut Topology,
    command: UpdateNode,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let known = topology
        .nodes
        .get(&command.node)
        .ok_or(Refusal::NoSuchNode { node: command.node })?;
    if known.incarnation != command.incarnation {
        return Err(Refusal::OtherIncarnation { node: command.node });
    }
    topology.fits(command.node, command.software.versions)?;
    if let Some(node) = Arc::make_mut(&mut topology.nodes).get_mut(&command.node) {
        node.addresses = command.addresses;
        node.zone = command.zone;
        node.software = command.software;
    }
    Ok(TopologyReply::NodeUpdated)
}
