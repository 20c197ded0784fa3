//! `Unbind` (features B6, B7, C24, C26): a success whatever is missing. Not here: what no longer routes (`route`).

use super::bind::destination;
use crate::{
    binding::Binding,
    command::Unbind,
    reply::{Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(topology: &mut Topology, command: Unbind) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let space = topology.space(command.vhost)?;
    if command.source.is_default() {
        return Err(Refusal::DefaultExchange);
    }
    let source = space.exchange(&command.source);
    let destination = destination(space, &command.to, command.requester.as_ref());
    let (source, destination) = match (source, destination) {
        (Ok(source), Ok(destination)) => (source.id, destination),
        (_, Err(refusal @ (Refusal::ResourceLocked { .. } | Refusal::DefaultExchange))) => {
            return Err(refusal);
        }
        (Err(_), _) | (_, Err(_)) => return Ok(TopologyReply::Unbound { existed: false }),
    };
    let binding = Binding {
        source,
        routing_key: command.routing_key,
        arguments: command.arguments,
        destination,
    };
    let existed = topology.drop_binding(&binding.key());
    Ok(TopologyReply::Unbound { existed })
}
