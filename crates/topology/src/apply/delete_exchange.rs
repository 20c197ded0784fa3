//! `DeleteExchange` (features C23): a missing one is a success. Not here: who may.

use super::is_reserved;
use crate::{
    command::DeleteExchange,
    reply::{ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(
    topology: &mut Topology,
    command: DeleteExchange,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let space = topology.space(command.vhost)?;
    if command.name.is_default() {
        return Err(Refusal::DefaultExchange);
    }
    if is_reserved(command.name.as_str()) {
        return Err(Refusal::NameReserved {
            object: ObjectKind::Exchange,
            name: command.name.as_str().into(),
        });
    }
    let Some(exchange) = space.exchanges.get(&command.name) else {
        return Ok(TopologyReply::ExchangeDeleted { exchange: None });
    };
    let id = exchange.id;
    if command.if_unused && topology.bindings_from(id).next().is_some() {
        return Err(Refusal::ExchangeInUse {
            vhost: space.vhost.name.clone(),
            exchange: command.name,
        });
    }
    topology.remove_exchange(id);
    Ok(TopologyReply::ExchangeDeleted { exchange: Some(id) })
}
