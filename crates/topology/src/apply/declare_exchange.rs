//! `DeclareExchange` (features B.1, C22). Not here: routing by it (`route`).

use super::{EXCHANGES_PER_VHOST_MAX, is_reserved};
use crate::{
    arguments::{self, Comparison},
    command::DeclareExchange,
    exchange::Exchange,
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(
    topology: &mut Topology,
    command: DeclareExchange,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let space = topology.space(command.vhost)?;
    if command.name.is_default() {
        return Err(Refusal::DefaultExchange);
    }
    if let Some(current) = space.exchanges.get(&command.name) {
        let vhost = &space.vhost.name;
        let compare = Comparison::new(ObjectKind::Exchange, command.name.as_str(), vhost);
        compare.same("type", command.kind, current.kind)?;
        compare.same("durable", command.durable, current.durable)?;
        compare.same("auto_delete", command.auto_delete, current.auto_delete)?;
        compare.same("internal", command.internal, current.internal)?;
        compare.arguments(arguments::EXCHANGE, &command.arguments, &current.arguments)?;
        return Ok(TopologyReply::ExchangeDeclared {
            exchange: current.id,
            declared: Declared::Existed,
        });
    }
    if is_reserved(command.name.as_str()) {
        return Err(Refusal::NameReserved {
            object: ObjectKind::Exchange,
            name: command.name.as_str().into(),
        });
    }
    arguments::check_exchange(command.name.as_str(), command.kind, &command.arguments)?;
    if space.exchanges.size() >= EXCHANGES_PER_VHOST_MAX {
        return Err(Refusal::LimitReached {
            object: ObjectKind::Exchange,
            limit: EXCHANGES_PER_VHOST_MAX as u64,
        });
    }
    let limit = space.vhost.limits.exchanges;
    if let Some(limit) = limit.filter(|it| space.own_exchanges() >= *it as usize) {
        return Err(Refusal::VhostLimitReached {
            vhost: space.vhost.name.clone(),
            object: ObjectKind::Exchange,
            limit: u64::from(limit),
        });
    }

    let id = topology.next.exchange;
    topology.next.exchange.0 += 1;
    topology.add_exchange(Exchange {
        id,
        vhost: command.vhost,
        name: command.name,
        kind: command.kind,
        durable: command.durable,
        auto_delete: command.auto_delete,
        internal: command.internal,
        arguments: command.arguments,
        declared_at: topology.index,
    });
    Ok(TopologyReply::ExchangeDeclared {
        exchange: id,
        declared: Declared::Created,
    })
}
