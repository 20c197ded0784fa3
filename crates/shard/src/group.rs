//! The group key of a message where keys are kept in order (features X7): what its properties name, else its routing key.
//! Not here: what keys mean (`queue::dispatch::groups`).

use warren_proto::convert::hints;
use warren_types::{Message, key_hash};

/// Its hash; 0 = no key. A dead letter's is what it would be if it were published as it is now.
pub(crate) fn group_hash(message: &Message) -> u64 {
    let named = if message.died {
        hints::group_key(&message.properties).map_or(0, |it| key_hash(&it))
    } else {
        message.group_hash
    };
    if named != 0 {
        return named;
    }
    key_hash(message.routing_key.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use warren_types::{
        ExchangeName, Priority, Properties, PropertiesBuilder, RoutingKey, Table, Value,
    };

    use super::*;

    fn message(properties: Properties, group_hash: u64, died: bool) -> Message {
        Message {
            exchange: ExchangeName::try_from("").unwrap(),
            routing_key: RoutingKey::try_from("orders").unwrap(),
            properties,
            body: Bytes::new(),
            priority: Priority::DEFAULT,
            ttl_ms: None,
            delay_ms: None,
            group_hash,
            fairness_hash: 0,
            dedup_hash: 0,
            user: None,
            trace: Bytes::new(),
            died,
        }
    }

    #[test]
    fn message_without_a_key_has_its_routing_key() {
        let plain = message(Properties::default(), 0, false);
        assert_eq!(group_hash(&plain), key_hash(b"orders"));
        let named = message(Properties::default(), 7, false);
        assert_eq!(group_hash(&named), 7);
        let nameless = Message {
            routing_key: RoutingKey::try_from("").unwrap(),
            ..plain
        };
        assert_eq!(group_hash(&nameless), 0);
    }

    #[test]
    fn dead_letter_has_the_key_that_it_shows_now() {
        let mut headers = Table::new();
        headers.push("x-group-key", Value::from("a")).unwrap();
        let properties = PropertiesBuilder::new().headers(&headers).build().unwrap();
        assert_eq!(group_hash(&message(properties, 7, true)), key_hash(b"a"));
        // Its queue counted it under a routing key that it has no more.
        let moved = message(Properties::default(), 7, true);
        assert_eq!(group_hash(&moved), key_hash(b"orders"));
    }
}
