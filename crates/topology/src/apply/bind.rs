//! `Bind` (features B6, C26): a repeated one is a success. Not here: what it routes (`route`).

use super::BINDINGS_MAX;
use crate::{
    binding::{Binding, Destination},
    command::Bind,
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(topology: &mut Topology, command: Bind) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let space = topology.space(command.vhost)?;
    if command.source.is_default() {
        return Err(Refusal::DefaultExchange);
    }
    let source = space.exchange(&command.source)?.id;
    let queue = space.queue(&command.queue, command.requester.as_ref())?.id;
    let binding = Binding {
        source,
        routing_key: command.routing_key,
        arguments: command.arguments,
        destination: Destination::Queue(queue),
    };
    if topology.bindings.size() >= BINDINGS_MAX && !topology.bindings.contains_key(&binding.key()) {
        return Err(Refusal::LimitReached {
            object: ObjectKind::Binding,
            limit: BINDINGS_MAX as u64,
        });
    }
    let added = topology.add_binding(command.vhost, &command.source, binding);
    Ok(TopologyReply::Bound(if added {
        Declared::Created
    } else {
        Declared::Existed
    }))
}
