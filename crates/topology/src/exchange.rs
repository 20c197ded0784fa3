//! Exchanges as declared. Not here: how they route (`route`, one file per kind).

use std::fmt;

use thiserror::Error;
use warren_types::{ExchangeId, ExchangeName, Table, TopologyIndex, VhostId};

/// How an exchange routes. Kept for ever: the names are AMQP's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ExchangeKind {
    Direct,
    Fanout,
    /// Not available yet: declaring one is refused.
    Topic,
    /// Not available yet: declaring one is refused.
    Headers,
}

/// AMQP 0-9-1: 406 PRECONDITION_FAILED (features C22).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown exchange type '{name}'")]
pub struct UnknownExchangeType {
    pub name: Box<str>,
}

impl ExchangeKind {
    pub const ALL: [Self; 4] = [Self::Direct, Self::Fanout, Self::Topic, Self::Headers];

    /// The name in `exchange.declare`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

impl TryFrom<&str> for ExchangeKind {
    type Error = UnknownExchangeType;

    fn try_from(name: &str) -> Result<Self, UnknownExchangeType> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownExchangeType { name: name.into() })
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
