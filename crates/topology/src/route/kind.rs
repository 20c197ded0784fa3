//! The routing table of one exchange, by its kind. Not here: the kinds (one file each).

use std::sync::Arc;

use super::{
    Published, Targets,
    direct::DirectRoutes,
    fanout::FanoutRoutes,
    hashed::{ConsistentRoutes, ModulusRoutes},
    headers::HeadersRoutes,
    hop::Hop,
    topic::TopicRoutes,
};
use crate::{
    binding::Binding,
    exchange::{Exchange, ExchangeKind},
};

/// One variant per way of routing.
#[derive(Clone, Debug)]
pub(super) enum KindRoutes {
    Direct(Arc<DirectRoutes>),
    Fanout(Arc<FanoutRoutes>),
    Topic(Arc<TopicRoutes>),
    Headers(Arc<HeadersRoutes>),
    ConsistentHash(Arc<ConsistentRoutes>),
    ModulusHash(Arc<ModulusRoutes>),
}

impl KindRoutes {
    /// A delayed exchange routes as the kind it names.
    pub(super) fn new(exchange: &Exchange) -> Self {
        match exchange.routes_as() {
            ExchangeKind::Direct | ExchangeKind::Delayed => {
                Self::Direct(Arc::new(DirectRoutes::new()))
            }
            ExchangeKind::Fanout => Self::Fanout(Arc::default()),
            ExchangeKind::Topic => Self::Topic(Arc::default()),
            ExchangeKind::Headers => Self::Headers(Arc::new(HeadersRoutes::new())),
            ExchangeKind::ConsistentHash => {
                Self::ConsistentHash(Arc::new(ConsistentRoutes::new(&exchange.arguments)))
            }
            ExchangeKind::ModulusHash => Self::ModulusHash(Arc::default()),
        }
    }

    pub(super) fn bind(&mut self, binding: &Binding, hop: Hop) {
        let key = binding.routing_key.as_str();
        match self {
            Self::Direct(routes) => Arc::make_mut(routes).bind(key, hop),
            Self::Fanout(routes) => Arc::make_mut(routes).bind(hop),
            Self::Topic(routes) => Arc::make_mut(routes).bind(key, hop),
            Self::Headers(routes) => Arc::make_mut(routes).bind(&binding.arguments, hop),
            Self::ConsistentHash(routes) => Arc::make_mut(routes).bind(key, hop),
            Self::ModulusHash(routes) => Arc::make_mut(routes).bind(hop),
        }
    }

    pub(super) fn unbind(&mut self, binding: &Binding, hop: &Hop) {
        let key = binding.routing_key.as_str();
        match self {
            Self::Direct(routes) => Arc::make_mut(routes).unbind(key, hop),
            Self::Fanout(routes) => Arc::make_mut(routes).unbind(hop),
            Self::Topic(routes) => Arc::make_mut(routes).unbind(key, hop),
            Self::Headers(routes) => Arc::make_mut(routes).unbind(&binding.arguments, hop),
            Self::ConsistentHash(routes) => Arc::make_mut(routes).unbind(key, hop),
            Self::ModulusHash(routes) => Arc::make_mut(routes).unbind(hop),
        }
    }

    pub(super) fn route(&self, message: &Published<'_>, out: &mut Targets) {
        match self {
            Self::Direct(routes) => routes.route(message, out),
            Self::Fanout(routes) => routes.route(out),
            Self::Topic(routes) => routes.route(message, out),
            Self::Headers(routes) => routes.route(message, out),
            Self::ConsistentHash(routes) => routes.route(message, out),
            Self::ModulusHash(routes) => routes.route(message, out),
        }
    }
}
