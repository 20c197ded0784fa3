//! Random messages. Not here: rows, entries.

use proptest::{option, prelude::*};
use warren_types::*;

use super::bytes;

pub fn message() -> impl Strategy<Value = Message> {
    (
        ("[a-zé]{0,20}", "[a-z.\n]{0,40}", option::of("[a-z]{1,9}")),
        bytes(300),
        bytes(40),
        option::of("[a-z/]{1,20}"),
    )
        .prop_map(
            |((exchange, key, user), body, trace, content_type)| Message {
                exchange: ExchangeName::try_from(exchange.as_str()).unwrap(),
                routing_key: RoutingKey::try_from(key.as_str()).unwrap(),
                properties: content_type.map_or_else(Properties::default, |it| {
                    PropertiesBuilder::new().content_type(&it).build().unwrap()
                }),
                body,
                priority: Priority::DEFAULT,
                ttl_ms: None,
                delay_ms: None,
                group_hash: 0,
                fairness_hash: 0,
                dedup_hash: 0,
                user: user.map(|it| UserName::try_from(it.as_str()).unwrap()),
                trace,
                died: false,
            },
        )
}
