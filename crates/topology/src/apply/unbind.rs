//! `Unbind` (features B6, C26): a success whatever is missing. Not here: what no longer routes (`route`).

use crate::{
    binding::{Binding, Destination},
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
    let queue = space.queue(&command.queue, command.requester.as_ref());
    let (source, queue) = match (source, queue) {
        (Ok(source), Ok(queue)) => (source.id, queue.id),
        (_, Err(locked @ Refusal::ResourceLocked { .. })) => return Err(locked),
        (Err(_), _) | (_, Err(_)) => return Ok(TopologyReply::Unbound { existed: false }),
    };
    let binding = Binding {
        source,
        routing_key: command.routing_key,
        arguments: command.arguments,
        destination: Destination::Queue(queue),
    };
    let existed = topology.drop_binding(command.vhost, &binding.key());
    Ok(TopologyReply::Unbound { existed })
}
