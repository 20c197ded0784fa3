//! Bindings: a set, so the same one twice is one. Not here: what they make an exchange route (`route`).

use bytes::{Bytes, BytesMut};
use warren_types::{ExchangeId, QueueId, RoutingKey, Table};

/// Where a binding leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Destination {
    Queue(QueueId),
    Exchange(ExchangeId),
}

/// What makes a binding itself: source, routing key, arguments, destination (features B6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BindingKey {
    pub source: ExchangeId,
    pub routing_key: RoutingKey,
    /// The arguments' bytes in the order of their names: the order in which a client lists them does not matter.
    arguments: Bytes,
    pub destination: Destination,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub source: ExchangeId,
    pub routing_key: RoutingKey,
    pub arguments: Table,
    pub destination: Destination,
}

impl Binding {
    #[must_use]
    pub fn key(&self) -> BindingKey {
        BindingKey {
            source: self.source,
            routing_key: self.routing_key.clone(),
            arguments: canonical(&self.arguments),
            destination: self.destination,
        }
    }
}

impl BindingKey {
    /// Below every binding of this exchange.
    pub(crate) fn first_of(source: ExchangeId) -> Self {
        Self {
            source,
            routing_key: RoutingKey::try_from("").expect("an empty routing key is allowed"),
            arguments: Bytes::new(),
            destination: Destination::Queue(QueueId(0)),
        }
    }
}

/// The bytes of a table in the order of its names.
pub(crate) fn canonical(table: &Table) -> Bytes {
    if table.is_empty() {
        return Bytes::new();
    }
    let mut fields: Vec<_> = table.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    let mut out = BytesMut::new();
    for (name, value) in fields {
        let mut one = Table::new();
        one.insert(name, value.clone())
            .expect("the name comes from a table");
        one.encode(&mut out);
    }
    out.freeze()
}
