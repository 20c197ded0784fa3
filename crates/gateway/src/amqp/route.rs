//! Where a publish goes, and whether its user may send it there, as this node's copy of the topology has it. Not here: what follows (`steps`,
//! `commit`).

use warren_amqp::{AmqpError, Publish};
use warren_topology::Published;
use warren_types::RoutingKey;

use super::caller::Caller;
use super::error;
use super::reply::is_reply_name;
use super::session::AmqpSession;
use crate::copies::further_keys;

/// Where a publish goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Routed {
    /// To the queues that `Publishes::targets` names.
    Queues,
    /// No queue takes it.
    Nowhere,
    /// To an address of direct replies.
    Direct,
}

impl AmqpSession {
    /// # Errors
    /// What it is refused with.
    pub(super) fn route(&mut self, caller: &Caller, it: &Publish) -> Result<Routed, AmqpError> {
        let (exchange, key) = (&*it.exchange, &*it.routing_key);
        let further = further_keys(&it.properties).map_err(error::copies)?;
        if let Some(rights) = self.rights.as_mut() {
            let mut keys = std::iter::once(key).chain(further.iter().map(RoutingKey::as_str));
            let may = keys.try_for_each(|key| rights.may_publish(&self.view, exchange, key));
            may.map_err(|denied| error::denied(&denied))?;
        }
        if exchange.is_empty() && is_reply_name(key) {
            return Ok(Routed::Direct);
        }
        let message = Published::new(exchange, key)
            .with_further_keys(&further)
            .with_properties(&it.properties);
        let routed = self.publishes.route(&self.view, caller.vhost, &message);
        match routed.map_err(|error| error::route(&error, &caller.vhost_name))? {
            true => Ok(Routed::Queues),
            false => Ok(Routed::Nowhere),
        }
    }
}
