//! What a session remembers of its user's rights, so that a message asks the topology nothing. Not here: the table (`operation`).

use std::collections::BTreeMap;

use warren_types::{TopologyIndex, VhostId};

use super::{Asker, Denied, Operation, Principal};
use crate::{
    exchange::ExchangeKind, pattern::Pattern, permission::TopicVariables, topology::Topology,
};

/// Exchanges a session remembers; with more it begins anew.
const EXCHANGES_MAX: usize = 256;

/// Of one session: whether it may publish, remembered per exchange until the topology's rights or the exchange change.
#[derive(Debug)]
pub struct Rights {
    principal: Principal,
    vhost: VhostId,
    client_id: Box<str>,
    /// [`Topology::access_changed_at`] of what is remembered.
    as_of: TopologyIndex,
    exchanges: BTreeMap<Box<str>, Writable>,
    /// The exchange of the last message, if any key may be used there.
    last: Option<Box<str>>,
}

/// An exchange that may be published to.
#[derive(Debug)]
struct Writable {
    /// For the routing key; `None` = any.
    key: Option<Pattern>,
}

impl Rights {
    /// The vhost that they are rights in.
    #[must_use]
    pub fn vhost(&self) -> VhostId {
        self.vhost
    }

    #[must_use]
    pub fn new(principal: Principal, vhost: VhostId, client_id: &str) -> Self {
        Self {
            principal,
            vhost,
            client_id: client_id.into(),
            as_of: TopologyIndex(u64::MAX),
            exchanges: BTreeMap::new(),
            last: None,
        }
    }

    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    #[must_use]
    pub fn asker(&self) -> Asker<'_> {
        Asker {
            principal: &self.principal,
            vhost: self.vhost,
            client_id: &self.client_id,
        }
    }

    /// # Errors
    /// [`Denied`]
    pub fn may(&self, topology: &Topology, operation: Operation<'_>) -> Result<(), Denied> {
        topology.authorise(self.asker(), operation)
    }

    /// The same as [`Operation::Publish`], from memory: for the second message to an exchange it costs a comparison of its name.
    ///
    /// # Errors
    /// [`Denied`]
    pub fn may_publish(
        &mut self,
        topology: &Topology,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), Denied> {
        if self.as_of != topology.access_changed_at() {
            self.as_of = topology.access_changed_at();
            self.exchanges.clear();
            self.last = None;
        }
        if self.last.as_deref() == Some(exchange) {
            return Ok(());
        }
        if let Some(known) = self.exchanges.get(exchange) {
            match &known.key {
                None => {
                    self.last = Some(exchange.into());
                    return Ok(());
                }
                Some(pattern) if pattern.matches(routing_key) => return Ok(()),
                // The refusal is told in full.
                Some(_) => {}
            }
        }
        self.may(
            topology,
            Operation::Publish {
                exchange,
                routing_key,
            },
        )?;
        self.remember(topology, exchange);
        Ok(())
    }

    fn remember(&mut self, topology: &Topology, exchange: &str) {
        let name = self.principal.name();
        let kind = topology.exchange(self.vhost, exchange).map(|it| it.kind);
        let is_topic = kind == Some(ExchangeKind::Topic);
        let topics = topology.topic_permissions_in(name, self.vhost);
        let mut topics = topics.filter(|it| it.exchange.as_str() == exchange);
        let key = match topics.next() {
            // It may be declared as a topic exchange yet: that is no change of rights, so it is asked for each message.
            Some(_) if !is_topic => return,
            Some(it) => {
                let vhost = topology.vhost_by_id(self.vhost);
                Some(it.write.expand(TopicVariables {
                    username: name.as_str(),
                    vhost: vhost.map_or("", |it| it.name.as_str()),
                    client_id: &self.client_id,
                }))
            }
            None => None,
        };
        if self.exchanges.len() >= EXCHANGES_MAX {
            self.exchanges.clear();
        }
        self.exchanges.insert(exchange.into(), Writable { key });
    }
}
