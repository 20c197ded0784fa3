//! A message as routing sees it. Not here: the message (`types`).

use std::cell::OnceCell;

use warren_types::{Properties, RoutingKey, Table};

/// Milliseconds until a message is due.
const DELAY: &str = "x-delay";

/// What a message is routed by. Its headers are decoded when the first exchange asks for them.
#[derive(Debug)]
pub struct Published<'a> {
    pub(super) exchange: &'a str,
    pub(super) key: &'a str,
    pub(super) further: &'a [RoutingKey],
    pub(super) properties: Option<&'a Properties>,
    pub(super) from_broker: bool,
    headers: OnceCell<Option<Table>>,
}

impl<'a> Published<'a> {
    /// A message with one key and no properties.
    #[must_use]
    pub fn new(exchange: &'a str, key: &'a str) -> Self {
        Self {
            exchange,
            key,
            further: &[],
            properties: None,
            from_broker: false,
            headers: OnceCell::new(),
        }
    }

    /// Further routing keys (CC and BCC): the message goes where any of its keys leads.
    #[must_use]
    pub fn with_further_keys(mut self, further: &'a [RoutingKey]) -> Self {
        self.further = further;
        self
    }

    #[must_use]
    pub fn with_properties(mut self, properties: &'a Properties) -> Self {
        self.properties = Some(properties);
        self
    }

    /// The broker itself sends it on (a dead letter): internal exchanges take it.
    #[must_use]
    pub fn from_broker(mut self) -> Self {
        self.from_broker = true;
        self
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.key).chain(self.further.iter().map(RoutingKey::as_str))
    }

    /// Whether a delayed exchange keeps it for later: header `x-delay` above 0. What the broker sends on has waited.
    pub(super) fn is_delayed(&self) -> bool {
        let delay = self.headers().and_then(|it| it.get(DELAY)?.as_int());
        !self.from_broker && delay.is_some_and(|it| it > 0)
    }

    pub(super) fn headers(&self) -> Option<&Table> {
        let decoded = self
            .headers
            .get_or_init(|| self.properties.and_then(Properties::headers));
        decoded.as_ref()
    }
}
