//! Exchanges as declared. Not here: how they route (`route`, one file per kind).

use std::fmt;

use thiserror::Error;
use warren_types::{ExchangeId, ExchangeName, Table, TopologyIndex, VhostId};

/// How an exchange routes. Kept for ever: the names are AMQP's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ExchangeKind {
    Direct,
    Fanout,
    Topic,
    Headers,
    /// Spreads by weight; argument `hash-header` or `hash-property`, else the routing key is hashed.
    ConsistentHash,
    /// Spreads evenly by the routing key.
    ModulusHash,
    /// Routes as the kind in argument `x-delayed-type`, messages with a delay when they are due.
    Delayed,
}

/// AMQP 0-9-1: 406 PRECONDITION_FAILED (features C22).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown exchange type '{name}'")]
pub struct UnknownExchangeType {
    pub name: Box<str>,
}

impl ExchangeKind {
    pub const ALL: [Self; 7] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::ModulusHash,
        Self::Delayed,
    ];

    /// By its own name alone: what is stored is read so by every version.
    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in `exchange.declare`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Delayed => "x-delayed-message",
        }
    }
}

/// The type under which RabbitMQ's federation declares what it binds at its upstream: a fanout that leaves out what its downstream has seen
/// before, which the downstream looks after itself where it gets a plain one (features D24).
const FEDERATION_UPSTREAM: &str = "x-federation-upstream";

/// As clients name it.
impl TryFrom<&str> for ExchangeKind {
    type Error = UnknownExchangeType;

    fn try_from(name: &str) -> Result<Self, UnknownExchangeType> {
        if name == FEDERATION_UPSTREAM {
            return Ok(Self::Fanout);
        }
        Self::of_name(name).ok_or_else(|| UnknownExchangeType { name: name.into() })
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An exchange's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub id: ExchangeId,
    pub vhost: VhostId,
    pub name: ExchangeName,
    pub kind: ExchangeKind,
    /// Stored and compared; every exchange is replicated.
    pub durable: bool,
    /// Goes with its last outgoing binding.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    pub arguments: Table,
    /// The index of the command that declared it; zero = there from the start.
    pub declared_at: TopologyIndex,
}

/// Argument of a delayed exchange: the kind it routes as.
pub(crate) const DELAYED_TYPE: &str = "x-delayed-type";
/// Argument of any exchange: where messages go that none of its bindings matches.
pub(crate) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// In every vhost from its start (features B1, B2).
pub(crate) const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

impl Exchange {
    /// The kind that decides where its messages go: its own, or the one a delayed exchange names.
    #[must_use]
    pub fn routes_as(&self) -> ExchangeKind {
        routes_as(self.kind, &self.arguments).unwrap_or(self.kind)
    }

    /// As declared.
    pub(crate) fn alternate_argument(&self) -> Option<ExchangeName> {
        let name = self.arguments.get_str(ALTERNATE_EXCHANGE)?;
        ExchangeName::try_from(name).ok()
    }
}

/// `None`: a delayed exchange that names no other kind.
pub(crate) fn routes_as(kind: ExchangeKind, arguments: &Table) -> Option<ExchangeKind> {
    if kind != ExchangeKind::Delayed {
        return Some(kind);
    }
    let inner = ExchangeKind::of_name(arguments.get_str(DELAYED_TYPE)?)?;
    (inner != ExchangeKind::Delayed).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_their_names_and_an_upstream_of_a_federation_is_a_fanout() {
        for kind in ExchangeKind::ALL {
            assert_eq!(ExchangeKind::try_from(kind.name()), Ok(kind));
        }
        let upstream = ExchangeKind::try_from("x-federation-upstream");
        assert_eq!(upstream, Ok(ExchangeKind::Fanout));
        assert!(ExchangeKind::try_from("x-federation").is_err());
        // Not where it is stored: replicas of an earlier version would refuse the exchange.
        let arguments = Table::new().with(DELAYED_TYPE, "x-federation-upstream");
        assert_eq!(routes_as(ExchangeKind::Delayed, &arguments), None);
    }
}
