//! Which queues a message goes to. One file per kind of exchange; not here: what is declared (`topology`), how it came to be (`apply`).
//!
//! Tables are kept ready for lookup: a change pays, a message does not.

mod default;
mod destinations;
mod direct;
mod fanout;
pub(crate) mod hashed;
pub(crate) mod headers;
mod hop;
mod kind;
mod published;
mod targets;
mod topic;

use thiserror::Error;
use warren_types::{ExchangeName, QueueName, VhostId};

pub(crate) use hop::Hop;
pub use published::Published;
pub use targets::{Target, Targets};

use crate::{
    binding::Binding,
    exchange::Exchange,
    maps::{HashIndex, hash_index},
};
use default::DefaultRoutes;
use kind::KindRoutes;

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
    name: ExchangeName,
    internal: bool,
    kind: KindRoutes,
    /// Where its messages wait until they are due, if it delays them (features B11).
    delays: Option<QueueName>,
    /// Where a message goes that no binding of this exchange matches (features B9).
    alternate: Option<ExchangeName>,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            default: DefaultRoutes::new(),
            exchanges: hash_index(),
        }
    }

    pub(crate) fn add(&mut self, exchange: &Exchange, alternate: Option<ExchangeName>) {
        if exchange.name.is_default() {
            return;
        }
        self.exchanges.insert_mut(
            exchange.name.clone(),
            ExchangeRoutes {
                name: exchange.name.clone(),
                internal: exchange.internal,
                kind: KindRoutes::new(exchange),
                delays: exchange.delay_queue(),
                alternate,
            },
        );
    }

    pub(crate) fn set_alternate(
        &mut self,
        exchange: &ExchangeName,
        alternate: Option<ExchangeName>,
    ) {
        let changes = self
            .exchanges
            .get(exchange)
            .is_some_and(|it| it.alternate != alternate);
        if changes && let Some(routes) = self.exchanges.get_mut(exchange) {
            routes.alternate = alternate;
        }
    }

    pub(crate) fn remove(&mut self, exchange: &ExchangeName) {
        self.exchanges.remove_mut(exchange);
    }

    /// One more binding leads from `exchange` to `hop`. The caller has seen that it is a new one.
    pub(crate) fn bind(&mut self, exchange: &ExchangeName, binding: &Binding, hop: Hop) {
        let routes = self.exchanges.get_mut(exchange);
        let routes = routes.expect("a bound exchange is declared");
        routes.kind.bind(binding, hop);
    }

    /// One binding less. The caller has seen that it was there.
    pub(crate) fn unbind(&mut self, exchange: &ExchangeName, binding: &Binding, hop: &Hop) {
        let routes = self.exchanges.get_mut(exchange);
        let routes = routes.expect("a bound exchange is declared");
        routes.kind.unbind(binding, hop);
    }

    pub(crate) fn route(
        &self,
        message: &Published<'_>,
        out: &mut Targets,
    ) -> Result<(), RouteError> {
        if message.exchange.is_empty() {
            self.default.route(message, out);
            out.finish();
            return Ok(());
        }
        let first =
            self.exchanges
                .get(message.exchange)
                .ok_or_else(|| RouteError::NoSuchExchange {
                    exchange: message.exchange.into(),
                })?;
        if first.internal && !message.from_broker {
            return Err(RouteError::InternalExchange {
                exchange: message.exchange.into(),
            });
        }
        if let Some(queue) = &first.delays
            && message.is_delayed()
            && self.default.find(queue, out)
        {
            return Ok(());
        }
        first.route(message, out);
        if out.has_pending() {
            self.follow(first, message, out);
        }
        out.finish();
        Ok(())
    }

    /// Goes on through exchanges that are bound or alternate, each once. One that is not there leads nowhere.
    fn follow(&self, first: &ExchangeRoutes, message: &Published<'_>, out: &mut Targets) {
        out.visit(&first.name);
        while let Some(next) = out.next_pending() {
            if next.is_default() {
                self.default.route(message, out);
            } else if let Some(routes) = self.exchanges.get(&next) {
                routes.route(message, out);
            }
        }
    }
}

impl ExchangeRoutes {
    fn route(&self, message: &Published<'_>, out: &mut Targets) {
        let before = out.hops();
        self.kind.route(message, out);
        if out.hops() == before
            && let Some(alternate) = &self.alternate
        {
            out.follow(alternate);
        }
    }
}
