//! `Bind` (features B6, B7, C24, C26): a repeated one is a success. Not here: what it routes (`route`).

use super::BINDINGS_MAX;
use crate::{
    arguments,
    binding::{Binding, Destination},
    command::{Bind, BindTo},
    queue::QueueOwner,
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::{Space, Topology},
};

pub(super) fn apply(topology: &mut Topology, command: Bind) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let space = topology.space(command.vhost)?;
    if command.source.is_default() {
        return Err(Refusal::DefaultExchange);
    }
    let source = space.exchange(&command.source)?;
    let destination = destination(space, &command.to, command.requester.as_ref())?;
    arguments::check_binding(source, command.routing_key.as_str(), &command.arguments)?;
    let binding = Binding {
        source: source.id,
        routing_key: command.routing_key,
        arguments: command.arguments,
        destination,
    };
    if topology.bindings.size() >= BINDINGS_MAX && !topology.bindings.contains_key(&binding.key()) {
        return Err(Refusal::LimitReached {
            object: ObjectKind::Binding,
            limit: BINDINGS_MAX as u64,
        });
    }
    let added = topology.add_binding(binding);
    Ok(TopologyReply::Bound(if added {
        Declared::Created
    } else {
        Declared::Existed
    }))
}

/// What a binding is to lead to: the default exchange is bound to no other, nor others to it (features B7).
pub(super) fn destination(
    space: &Space,
    to: &BindTo,
    requester: Option<&QueueOwner>,
) -> Result<Destination, Refusal> {
    match to {
        BindTo::Queue(name) => Ok(Destination::Queue(space.queue(name, requester)?.id)),
        BindTo::Exchange(name) if name.is_default() => Err(Refusal::DefaultExchange),
        BindTo::Exchange(name) => Ok(Destination::Exchange(space.exchange(name)?.id)),
    }
}
