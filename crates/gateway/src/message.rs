//! Makes a message as queues store it out of checked names, canonical properties and a body; the same for both fronts.
//! Not here: what clients sent (`grpc`, `amqp`), what properties ask for (`proto::convert::hints`).

use bytes::Bytes;
use warren_proto::convert::hints::{self, HintError, Hints, Schedule};
use warren_topology::{ExchangeKind, Topology};
use warren_types::{
    ExchangeName, Message, Priority, Properties, PropertiesBuilder, RoutingKey, UserName, Value,
    VhostId, key_hash,
};

use crate::clock::wall_clock_ms;

/// A message as it is stored.
///
/// # Errors
/// [`HintError`] if a property asks for something impossible (AMQP 0-9-1: 406).
pub(crate) fn message(
    exchange: ExchangeName,
    routing_key: RoutingKey,
    properties: Properties,
    body: Bytes,
    user: Option<UserName>,
) -> Result<Message, HintError> {
    let mut message = Message {
        exchange,
        routing_key,
        properties,
        body,
        priority: Priority::DEFAULT,
        ttl_ms: None,
        delay_ms: None,
        group_hash: 0,
        fairness_hash: 0,
        dedup_hash: 0,
        user,
        trace: Bytes::new(),
        died: false,
    };
    if message.properties.is_empty() {
        return Ok(message);
    }
    let hints = Hints::read(&message.properties)?;
    message.priority = hints.priority;
    message.ttl_ms = hints.ttl_ms;
    message.delay_ms = match hints.schedule {
        Schedule::Now => None,
        Schedule::AfterMs(delay) => Some(delay),
        Schedule::AtMs(at) => Some(at.saturating_sub(wall_clock_ms())),
    };
    message.group_hash = hash_of(hints.group_key.as_deref());
    message.fairness_hash = hash_of(hints.fairness_key.as_deref());
    message.dedup_hash = hash_of(hints.dedup_key.as_deref());
    message.trace = hints.trace;
    Ok(message)
}

/// As it is stored by way of its exchange: one of type `x-delayed-message` takes the delay, which changes its sign in the header (features
/// B11); with any other, the vhost says whether delays mean anything (B12).
pub(crate) fn with_spent_delay(mut message: Message, view: &Topology, vhost: VhostId) -> Message {
    if message.delay_ms.is_none() {
        return message;
    }
    let exchange = view.exchange(vhost, message.exchange.as_str());
    if exchange.is_none_or(|it| it.kind != ExchangeKind::Delayed) {
        let space = view.vhost_by_id(vhost);
        if space.is_some_and(|it| it.settings.ignores_delays) {
            message.delay_ms = None;
        }
        return message;
    }
    let mut headers = message.properties.headers().unwrap_or_default();
    let Some(delay) = headers.get(hints::DELAY).and_then(Value::as_int) else {
        return message;
    };
    let spent = delay.saturating_neg();
    // Clients (pika) that read the 64-bit tag as unsigned exist.
    let spent = i32::try_from(spent).map_or(Value::I64(spent), Value::I32);
    if headers.insert(hints::DELAY, spent).is_ok() {
        let spent = PropertiesBuilder::from(&message.properties).headers(&headers);
        // As long as before, or a few bytes longer: one that no longer fits keeps its sign.
        message.properties = spent.build().unwrap_or(message.properties);
    }
    message
}

/// Bytes of a message as limits, credit and admission count them.
pub(crate) fn counted_bytes(message: &Message) -> u64 {
    let properties = if message.properties.is_empty() {
        0
    } else {
        message.properties.as_wire().len()
    };
    u64::try_from(message.body.len() + properties).unwrap_or(u64::MAX)
}

/// 0 = no key.
fn hash_of(key: Option<&[u8]>) -> u64 {
    key.map_or(0, key_hash)
}

#[cfg(test)]
mod tests {
    use warren_types::Table;

    use super::*;

    fn build(properties: Properties) -> Result<Message, HintError> {
        let exchange = ExchangeName::try_from("logs").unwrap();
        let key = RoutingKey::try_from("k").unwrap();
        message(exchange, key, properties, Bytes::from_static(b"body"), None)
    }

    #[test]
    fn message_without_properties_has_the_defaults() {
        let message = build(Properties::default()).unwrap();
        assert_eq!(message.priority, Priority::DEFAULT);
        assert_eq!(
            (message.ttl_ms, message.delay_ms, message.group_hash),
            (None, None, 0)
        );
        assert_eq!(counted_bytes(&message), 4);
    }

    #[test]
    fn message_takes_what_its_properties_ask_for() {
        let mut headers = Table::new();
        headers
            .push("x-group-key", Value::from("customer-1"))
            .unwrap();
        headers.push("x-delay", Value::I64(1_500)).unwrap();
        let properties = PropertiesBuilder::new()
            .priority(9)
            .expiration("60000")
            .headers(&headers)
            .build()
            .unwrap();
        let message = build(properties.clone()).unwrap();
        assert_eq!(message.priority.level(), 9);
        assert_eq!(
            (message.ttl_ms, message.delay_ms),
            (Some(60_000), Some(1_500))
        );
        assert_eq!(message.group_hash, key_hash(b"customer-1"));
        assert_eq!(
            counted_bytes(&message),
            4 + properties.as_wire().len() as u64
        );
    }

    #[test]
    fn expiration_that_is_no_number_is_refused() {
        let properties = PropertiesBuilder::new().expiration("soon").build().unwrap();
        assert_eq!(build(properties).unwrap_err(), HintError::BadExpiration);
    }
}
