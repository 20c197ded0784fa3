//! One entry of a publish batch: checked, and made into a message as queues store it. A bad entry fails alone.
//! Not here: routing (`publish`), properties (`proto::convert::message`).

use warren_proto::convert::error::ApiError;
use warren_proto::convert::hints::HintError;
use warren_proto::convert::message::message_from_client;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_shard::api::ProducerTag;
use warren_types::{ExchangeName, ProducerId, RoutingKey, VhostId};

use super::error::{bad_argument, of_name};
use crate::copies::{CC, FURTHER_KEYS_MAX, further_keys, without_blind_copies};
use crate::message::{counted_bytes, message};
use crate::publish::{Publish, PublishId};

/// A producer's name has at most so many bytes: it is stored with every message it numbers.
const PRODUCER_ID_BYTES_MAX: usize = 255;

/// What holds for every message of a stream or call.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) vhost: VhostId,
    pub(super) producer: Option<(ProducerId, u64)>,
    pub(super) max_message_bytes: u64,
    /// The last names used: most messages of a stream have the same ones, and checking and copying them costs.
    exchange: ExchangeName,
    routing_key: RoutingKey,
}

impl Publisher {
    /// # Errors
    /// The producer's name is too long.
    pub(super) fn new(
        vhost: VhostId,
        producer: Option<v1::Producer>,
        max_message_bytes: u64,
    ) -> Result<Self, ApiError> {
        let producer = producer.filter(|it| !it.producer_id.is_empty());
        if producer
            .as_ref()
            .is_some_and(|it| it.producer_id.len() > PRODUCER_ID_BYTES_MAX)
        {
            return Err(bad_argument(
                "producer.producer_id",
                format!("has more than {PRODUCER_ID_BYTES_MAX} bytes"),
            ));
        }
        Ok(Self {
            vhost,
            producer: producer.map(|it| (ProducerId(it.producer_id.into()), it.producer_epoch)),
            max_message_bytes,
            exchange: ExchangeName::try_from("").expect("the default exchange's name"),
            routing_key: RoutingKey::try_from("").expect("an empty routing key is allowed"),
        })
    }

    /// A message of a batch with its defaults, ready to be admitted.
    ///
    /// # Errors
    /// What is wrong with this one message.
    pub(super) fn publish(
        &mut self,
        id: PublishId,
        entry: v1::PublishEntry,
        defaults: Defaults<'_>,
    ) -> Result<Publish, ApiError> {
        let exchange = self.exchange(entry.exchange.as_deref().unwrap_or(defaults.exchange))?;
        let routing_key =
            self.routing_key(entry.routing_key.as_deref().unwrap_or(defaults.routing_key))?;
        let mut client = entry.message.unwrap_or_default();
        check_further_keys(&entry.cc)?;
        if !entry.cc.is_empty() {
            client.headers.insert(CC.to_owned(), text_list(entry.cc));
        }
        // The cheap check first: a body that is too large is not converted.
        self.check_size(u64::try_from(client.body.len()).unwrap_or(u64::MAX))?;
        let (properties, body) =
            message_from_client(client).map_err(|error| ApiError::from(&error))?;
        let further_keys = further_keys(&properties)
            .map_err(|error| bad_argument("message.headers", error.to_string()))?;
        let properties = without_blind_copies(properties);
        let message =
            message(exchange, routing_key, properties, body, None).map_err(
                |error| match error {
                    HintError::BadExpiration => bad_argument("ttl", error.to_string()),
                },
            )?;
        let bytes = counted_bytes(&message);
        self.check_size(bytes)?;
        let producer =
            self.producer
                .as_ref()
                .filter(|_| entry.sequence != 0)
                .map(|(producer, epoch)| ProducerTag {
                    producer: producer.clone(),
                    epoch: *epoch,
                    sequence: entry.sequence,
                });
        Ok(Publish {
            id,
            vhost: self.vhost,
            message,
            further_keys,
            producer,
            needs_consumer: entry.need_consumer,
            bytes,
        })
    }

    fn check_size(&self, bytes: u64) -> Result<(), ApiError> {
        if bytes <= self.max_message_bytes {
            return Ok(());
        }
        let max = self.max_message_bytes;
        let text =
            format!("the message has {bytes} bytes of body and properties; the limit is {max}");
        Err(ApiError::new(Reason::MessageTooLarge, text)
            .with("bytes", bytes)
            .with("limit_bytes", max))
    }

    fn exchange(&mut self, name: &str) -> Result<ExchangeName, ApiError> {
        if self.exchange.as_str() != name {
            self.exchange =
                ExchangeName::try_from(name).map_err(|error| of_name("exchange", &error))?;
        }
        Ok(self.exchange.clone())
    }

    fn routing_key(&mut self, key: &str) -> Result<RoutingKey, ApiError> {
        if self.routing_key.as_str() != key {
            self.routing_key =
                RoutingKey::try_from(key).map_err(|error| of_name("routing_key", &error))?;
        }
        Ok(self.routing_key.clone())
    }
}

/// Where the entries of a batch go that do not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
}

fn check_further_keys(keys: &[String]) -> Result<(), ApiError> {
    if keys.len() > FURTHER_KEYS_MAX {
        return Err(bad_argument(
            "cc",
            format!("has more than {FURTHER_KEYS_MAX} keys"),
        ));
    }
    for key in keys {
        RoutingKey::try_from(key.as_str()).map_err(|error| of_name("cc", &error))?;
    }
    Ok(())
}

/// The keys as the header `CC`, which consumers see as AMQP's do.
fn text_list(texts: Vec<String>) -> v1::Value {
    let text = |text| v1::Value {
        kind: Some(v1::value::Kind::StringValue(text)),
        amqp_type: 0,
    };
    let values = texts.into_iter().map(text).collect();
    v1::Value {
        kind: Some(v1::value::Kind::ListValue(v1::ValueList { values })),
        amqp_type: 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const DEFAULTS: Defaults<'_> = Defaults {
        exchange: "logs",
        routing_key: "k",
    };

    fn publisher() -> Publisher {
        let producer = v1::Producer {
            producer_id: "p".into(),
            producer_epoch: 2,
        };
        Publisher::new(VhostId(1), Some(producer), 100).unwrap()
    }

    fn entry(body: &'static [u8]) -> v1::PublishEntry {
        let message = v1::Message {
            body: Bytes::from_static(body),
            ..v1::Message::default()
        };
        v1::PublishEntry {
            message: Some(message),
            ..v1::PublishEntry::default()
        }
    }

    fn reason(entry: v1::PublishEntry) -> Reason {
        publisher()
            .publish(PublishId(0), entry, DEFAULTS)
            .unwrap_err()
            .reason()
    }

    #[test]
    fn entry_takes_the_batch_defaults_and_its_own_names() {
        let mut publisher = publisher();
        let publish = publisher
            .publish(PublishId(1), entry(b"x"), DEFAULTS)
            .unwrap();
        assert_eq!(
            (
                publish.message.exchange.as_str(),
                publish.message.routing_key.as_str()
            ),
            ("logs", "k")
        );
        assert_eq!((publish.bytes, publish.producer), (1, None));
        let own = v1::PublishEntry {
            exchange: Some(String::new()),
            routing_key: Some("orders".into()),
            ..entry(b"x")
        };
        let publish = publisher.publish(PublishId(1), own, DEFAULTS).unwrap();
        assert_eq!(
            (
                publish.message.exchange.as_str(),
                publish.message.routing_key.as_str()
            ),
            ("", "orders")
        );
    }

    #[test]
    fn sequence_makes_it_idempotent() {
        let entry = v1::PublishEntry {
            sequence: 9,
            ..entry(b"x")
        };
        let tag = publisher()
            .publish(PublishId(1), entry, DEFAULTS)
            .unwrap()
            .producer
            .unwrap();
        assert_eq!(
            (tag.producer.0.as_ref(), tag.epoch, tag.sequence),
            (&b"p"[..], 2, 9)
        );
    }

    #[test]
    fn bad_entries_fail_with_their_reason() {
        let long = "k".repeat(256);
        assert_eq!(reason(entry(&[0; 101])), Reason::MessageTooLarge);
        assert_eq!(
            reason(v1::PublishEntry {
                exchange: Some(long.clone()),
                ..entry(b"")
            }),
            Reason::BadArgument
        );
        assert_eq!(
            reason(v1::PublishEntry {
                routing_key: Some(long.clone()),
                ..entry(b"")
            }),
            Reason::BadArgument
        );
        assert_eq!(
            reason(v1::PublishEntry {
                cc: vec![long],
                ..entry(b"")
            }),
            Reason::BadArgument
        );
    }

    #[test]
    fn properties_count_towards_the_size() {
        let mut entry = entry(&[0; 90]);
        let properties = v1::Properties {
            message_id: Some("0123456789".into()),
            ..v1::Properties::default()
        };
        entry.message.as_mut().unwrap().properties = Some(properties);
        assert_eq!(reason(entry), Reason::MessageTooLarge);
    }

    #[test]
    fn further_keys_are_kept_as_a_header_too() {
        let entry = v1::PublishEntry {
            cc: vec!["a".into(), "b".into()],
            ..entry(b"")
        };
        let publish = publisher().publish(PublishId(1), entry, DEFAULTS).unwrap();
        let keys: Vec<&str> = publish
            .further_keys
            .iter()
            .map(RoutingKey::as_str)
            .collect();
        assert_eq!(keys, vec!["a", "b"]);
        assert!(publish.message.properties.header(CC).is_some());
    }

    #[test]
    fn producer_name_that_is_too_long_is_refused() {
        let producer = v1::Producer {
            producer_id: "p".repeat(256),
            producer_epoch: 0,
        };
        assert!(Publisher::new(VhostId(1), Some(producer), 100).is_err());
    }
}
