//! What a queue's arguments ask of it, as values (features B.3). Not here: which arguments are allowed (`arguments`), what the values
//! make a queue do (`warren-queue`).

use warren_types::{
    Backoff, DeadLetter, DeadLetterStrategy, ExchangeName, MessageGroups, Overflow, QueueSettings,
    Retry, RetryOn, RoutingKey, Table,
};

use crate::{
    arguments::{DEAD_LETTER_EXCHANGE, DEAD_LETTER_QUEUE, DEAD_LETTER_ROUTING_KEY},
    dead_letter_queues::dead_letter_queue_of,
    queue::{Queue, QueueType},
    topology::Topology,
};

/// Failed deliveries a queue declared `quorum` allows unless it says otherwise (features B48).
const QUORUM_DELIVERY_LIMIT: u32 = 20;
/// How long deduplication keys are remembered where it is switched on without a time (features X8).
const DEDUP_WINDOW_MS: u64 = 10 * 60 * 1_000;

impl Topology {
    /// What is in force for a queue now.
    #[must_use]
    pub fn queue_settings(&self, queue: &Queue) -> QueueSettings {
        match self.merged_arguments(queue) {
            Some(merged) => of_arguments(queue.name.as_str(), queue.queue_type, &merged),
            None => of_arguments(queue.name.as_str(), queue.queue_type, &queue.arguments),
        }
    }
}

/// Arguments were checked when the queue was declared; one that does not fit its shape all the same counts as absent.
fn of_arguments(name: &str, queue_type: QueueType, arguments: &Table) -> QueueSettings {
    let read = Reader(arguments);
    QueueSettings {
        max_length: read.count("x-max-length"),
        max_length_bytes: read.count("x-max-length-bytes"),
        overflow: match read.text("x-overflow") {
            Some("reject-publish") => Overflow::RejectPublish,
            Some("reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
            Some(_) | None => Overflow::DropHead,
        },
        message_ttl_ms: read.count("x-message-ttl"),
        expires_ms: read.count("x-expires"),
        dead_letter: read.dead_letter(name),
        dead_letter_strategy: match read.text("x-dead-letter-strategy") {
            Some("at-least-once") => DeadLetterStrategy::AtLeastOnce,
            Some(_) | None => DeadLetterStrategy::AtMostOnce,
        },
        delivery_limit: read.delivery_limit(queue_type),
        retry: read.retry(),
        consumer_timeout_ms: read.count("x-consumer-timeout"),
        consumer_disconnected_timeout_ms: read.count("x-consumer-disconnected-timeout"),
        max_priority: read
            .count("x-max-priority")
            .and_then(|it| u8::try_from(it).ok()),
        single_active_consumer: read.flag("x-single-active-consumer"),
        message_groups: match read.text("x-message-groups") {
            Some("strict") => Some(MessageGroups::Strict),
            Some("step-aside") => Some(MessageGroups::StepAside),
            Some(_) | None => None,
        },
        dedup_window_ms: read
            .count("x-dedup-window")
            .or_else(|| read.flag("x-dedup-window").then_some(DEDUP_WINDOW_MS))
            .filter(|window| *window > 0),
        dedup_keys_max: read.count("x-dedup-max-keys"),
        parked_max_length: read.count("x-parked-max-length"),
    }
}

struct Reader<'a>(&'a Table);

impl Reader<'_> {
    fn count(&self, argument: &str) -> Option<u64> {
        u64::try_from(self.0.get(argument)?.as_int()?).ok()
    }

    fn text(&self, argument: &str) -> Option<&str> {
        self.0.get(argument)?.as_str()
    }

    fn flag(&self, argument: &str) -> bool {
        let value = self.0.get(argument);
        value.and_then(|it| it.as_bool()).unwrap_or(false)
    }

    /// An exchange beats the queue's own dead-letter queue: both can come from policies.
    fn dead_letter(&self, queue: &str) -> Option<DeadLetter> {
        let Some(exchange) = self.text(DEAD_LETTER_EXCHANGE) else {
            let own = self.text(DEAD_LETTER_QUEUE) == Some("auto");
            let dead = dead_letter_queue_of(queue).filter(|_| own)?;
            return Some(DeadLetter {
                exchange: ExchangeName::try_from("").ok()?,
                routing_key: Some(RoutingKey::try_from(dead.as_str()).ok()?),
            });
        };
        let routing_key = self.text(DEAD_LETTER_ROUTING_KEY);
        Some(DeadLetter {
            exchange: ExchangeName::try_from(exchange).ok()?,
            routing_key: routing_key.and_then(|it| RoutingKey::try_from(it).ok()),
        })
    }

    fn delivery_limit(&self, queue_type: QueueType) -> Option<u32> {
        match self.0.get("x-delivery-limit").and_then(|it| it.as_int()) {
            Some(limit) if limit < 0 => None,
            Some(limit) => Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            None => match queue_type {
                QueueType::Classic => None,
                QueueType::Quorum => Some(QUORUM_DELIVERY_LIMIT),
            },
        }
    }

    fn retry(&self) -> Retry {
        Retry {
            on: match self.text("x-delayed-retry-type") {
                Some("all") => RetryOn::All,
                Some("failed") => RetryOn::Failed,
                Some("returned") => RetryOn::Returned,
                Some(_) | None => RetryOn::Disabled,
            },
            min_ms: self.count("x-delayed-retry-min").unwrap_or(0),
            max_ms: self.count("x-delayed-retry-max"),
            backoff: match self.text("x-retry-backoff") {
                Some("exponential") => Backoff::Exponential,
                Some(_) | None => Backoff::Linear,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_types::Value;

    use super::*;

    fn table(entries: &[(&str, Value)]) -> Table {
        let mut table = Table::new();
        for (name, value) in entries {
            table.insert(name, value.clone()).unwrap();
        }
        table
    }

    #[test]
    fn queue_without_arguments_has_the_defaults_of_its_type() {
        let classic = of_arguments("orders", QueueType::Classic, &Table::new());
        assert_eq!(classic, QueueSettings::default());
        let quorum = of_arguments("orders", QueueType::Quorum, &Table::new());
        assert_eq!(quorum.delivery_limit, Some(20));
    }

    #[test]
    fn window_of_no_time_or_false_switches_deduplication_off() {
        for value in [Value::Bool(false), Value::I64(0)] {
            let arguments = table(&[("x-dedup-window", value)]);
            let settings = of_arguments("orders", QueueType::Classic, &arguments);
            assert_eq!(settings.dedup_window_ms, None);
        }
    }

    #[test]
    fn arguments_become_settings() {
        let it = of_arguments(
            "orders",
            QueueType::Quorum,
            &table(&[
                ("x-max-length", Value::I32(5)),
                ("x-overflow", Value::from("reject-publish")),
                ("x-message-ttl", Value::I64(0)),
                ("x-delivery-limit", Value::I64(-1)),
                ("x-delayed-retry-type", Value::from("failed")),
                ("x-delayed-retry-min", Value::I64(100)),
                ("x-retry-backoff", Value::from("exponential")),
                ("x-dead-letter-exchange", Value::from("")),
                ("x-dead-letter-routing-key", Value::from("dead")),
                ("x-dedup-window", Value::Bool(true)),
                ("x-dedup-max-keys", Value::I32(7)),
            ]),
        );
        let dead = DeadLetter {
            exchange: ExchangeName::try_from("").unwrap(),
            routing_key: Some(RoutingKey::try_from("dead").unwrap()),
        };
        let expected = QueueSettings {
            max_length: Some(5),
            overflow: Overflow::RejectPublish,
            message_ttl_ms: Some(0),
            delivery_limit: None,
            retry: Retry {
                on: RetryOn::Failed,
                min_ms: 100,
                max_ms: None,
                backoff: Backoff::Exponential,
            },
            dead_letter: Some(dead),
            dedup_window_ms: Some(600_000),
            dedup_keys_max: Some(7),
            ..QueueSettings::default()
        };
        assert_eq!(it, expected);
    }
}
