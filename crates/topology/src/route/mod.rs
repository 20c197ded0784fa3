//! Which queues a message goes to. One file per kind of exchange; not here: what is declared (`topology`), how it came to be (`apply`).
//!
//! Tables are kept ready for lookup: a change pays, a message does not.

mod default;
mod destinations;
mod direct;
mod fanout;
mod targets;

use std::sync::Arc;

use thiserror::Error;
use warren_types::{ExchangeName, Table, VhostId};

pub use targets::{Target, Targets};

use crate::{
    exchange::{Exchange, ExchangeKind},
    maps::{HashIndex, hash_index},
};
use default::DefaultRoutes;
use direct::DirectRoutes;
use fanout::FanoutRoutes;

/// Why a message cannot be routed at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    #[error("no vhost {vhost}")]
    NoSuchVhost { vhost: VhostId },
    /// AMQP 0-9-1: 404.
    #[error("no exchange '{exchange}'")]
    NoSuchExchange { exchange: Box<str> },
    /// AMQP 0-9-1: 403.
    #[error("cannot publish to internal exchange '{exchange}'")]
    InternalExchange { exchange: Box<str> },
}

/// The routing tables of one vhost.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub(crate) default: DefaultRoutes,
    /// All but the default exchange.
    exchanges: HashIndex<ExchangeName, ExchangeRoutes>,
}

#[derive(Clone, Debug)]
struct ExchangeRoutes {
    internal: bool,
    kind: KindRoutes,
}

/// One variant per kind that can be declared.
#[derive(Clone, Debug)]
enum KindRoutes {
    Direct(Arc<DirectRoutes>),
    Fanout(Arc<FanoutRoutes>),
}

impl KindRoutes {
    fn new(kind: ExchangeKind) -> Option<Self> {
        match kind {
            ExchangeKind::Direct => Some(Self::Direct(Arc::new(DirectRoutes::new()))),
            ExchangeKind::Fanout => Some(Self::Fanout(Arc::default())),
            ExchangeKind::Topic | ExchangeKind::Headers => None,
        }
    }
}

/// Whether exchanges of this kind can be declared.
pub(crate) fn is_available(kind: ExchangeKind) -> bool {
    KindRoutes::new(kind).is_some()
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            default: DefaultRoutes::new(),
            exchanges: hash_index(),
        }
    }

    /// # Panics
    /// If the kind is not available: [`is_available`] is asked before.
    pub(crate) fn add(&mut self, exchange: &Exchange) {
        if exchange.name.is_default() {
            return;
        }
        let kind = KindRoutes::new(exchange.kind).expect("only available kinds are declared");
        self.exchanges.insert_mut(
            exchange.name.clone(),
            ExchangeRoutes {
                internal: exchange.internal,
                kind,
            },
        );
    }

    pub(crate) fn remove(&mut self, exchange: &ExchangeName) {
        self.exchanges.remove_mut(exchange);
    }

    /// One more binding leads from `exchange` to `target`. The caller has seen that it is a new one.
    pub(crate) fn bind(&mut self, exchange: &ExchangeName, key: &str, target: Target) {
        let routes = self.exchanges.get_mut(exchange);
        match &mut routes.expect("a bound exchange is declared").kind {
            KindRoutes::Direct(routes) => Arc::make_mut(routes).bind(key, target),
            KindRoutes::Fanout(routes) => Arc::make_mut(routes).bind(target),
        }
    }

    /// One binding less. The caller has seen that it was there.
    pub(crate) fn unbind(&mut self, exchange: &ExchangeName, key: &str, target: Target) {
        let routes = self.exchanges.get_mut(exchange);
        match &mut routes.expect("a bound exchange is declared").kind {
            KindRoutes::Direct(routes) => Arc::make_mut(routes).unbind(key, target),
            KindRoutes::Fanout(routes) => Arc::make_mut(routes).unbind(target),
        }
    }

    /// `headers` is for kinds that look at them; none of today's does.
    pub(crate) fn route(
        &self,
        exchange: &str,
        key: &str,
        _headers: Option<&Table>,
        out: &mut Targets,
    ) -> Result<(), RouteError> {
        if exchange.is_empty() {
            self.default.route(key, out);
            return Ok(());
        }
        let routes = self
            .exchanges
            .get(exchange)
            .ok_or_else(|| RouteError::NoSuchExchange {
                exchange: exchange.into(),
            })?;
        if routes.internal {
            return Err(RouteError::InternalExchange {
                exchange: exchange.into(),
            });
        }
        match &routes.kind {
            KindRoutes::Direct(routes) => routes.route(key, out),
            KindRoutes::Fanout(routes) => routes.route(out),
        }
        Ok(())
    }
}
