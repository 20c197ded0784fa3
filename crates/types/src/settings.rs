//! What a queue's arguments and policies ask of it, as values that machines act on (features B.3). Not here: reading arguments (`topology`),
//! merging policies into them (`topology`), what they make a queue do (`queue`).

use crate::{ExchangeName, Priority, RoutingKey};

/// All effective settings of one queue. Times are milliseconds of shard time.
///
/// The default is what a queue declared `classic` without arguments has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueueSettings {
    /// Ready messages it may hold (`x-max-length`, features B41).
    pub max_length: Option<u64>,
    /// Body bytes of ready messages it may hold (`x-max-length-bytes`).
    pub max_length_bytes: Option<u64>,
    /// What happens beyond either (`x-overflow`, features B42).
    pub overflow: Overflow,
    /// Longest life of a message that is enqueued from now on (`x-message-ttl`, features B43). 0 = deliver at once or expire.
    pub message_ttl_ms: Option<u64>,
    /// Idle time after which the queue is deleted (`x-expires`, features B28). At least 1.
    pub expires_ms: Option<u64>,
    /// Where messages go that leave otherwise than acked (features B44).
    pub dead_letter: Option<DeadLetter>,
    /// What becomes of a dead letter that its target refuses (features B47).
    pub dead_letter_strategy: DeadLetterStrategy,
    /// A message whose delivery count exceeds it leaves or is parked (`x-delivery-limit`, features B48). `None` = off.
    pub delivery_limit: Option<u32>,
    /// How long a returned message waits (features B50).
    pub retry: Retry,
    /// Longest time a consumer may hold a message (`x-consumer-timeout`, features B51). `None` = off.
    pub consumer_timeout_ms: Option<u64>,
    /// How long an unreachable node's consumers keep what they hold (features A8). `None` = the node's default.
    pub consumer_disconnected_timeout_ms: Option<u64>,
    /// Priorities as the queue counts them (`x-max-priority`, features B52). `None` = 0 to 31, none given = 4.
    pub max_priority: Option<u8>,
    /// At most one consumer gets messages (features B33).
    pub single_active_consumer: bool,
    /// Messages of one group key stay in order (features X7). `None` = no groups.
    pub message_groups: Option<MessageGroups>,
    /// How long a deduplication key is remembered (`x-dedup-window`, features X8). `None` = off.
    pub dedup_window_ms: Option<u64>,
    /// How many deduplication keys are remembered (`x-dedup-max-keys`). `None` = the default.
    pub dedup_keys_max: Option<u64>,
    /// Parked messages kept; beyond it the oldest are dropped and counted (features B49). `None` = no limit.
    pub parked_max_length: Option<u64>,
}

impl QueueSettings {
    /// The level of a message published with `priority`, or without one. With `x-max-priority` N what is above N counts as N, none as 0,
    /// and above 31 the levels share the range evenly (features B52).
    #[must_use]
    pub fn level(&self, priority: Option<u8>) -> Priority {
        let Some(most) = self.max_priority else {
            return priority.map_or(Priority::DEFAULT, Priority::clamped);
        };
        let priority = priority.unwrap_or(0).min(most);
        let levels = Priority::MAX.level();
        if most <= levels {
            return Priority::clamped(priority);
        }
        let shared = u16::from(priority) * u16::from(levels) / u16::from(most);
        Priority::clamped(u8::try_from(shared).unwrap_or(levels))
    }
}

/// What gives way when a queue is at its limit (`x-overflow`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Overflow {
    /// The oldest message of the lowest priority present.
    #[default]
    DropHead,
    /// The new message: its publisher is told (AMQP 0-9-1 basic.nack).
    RejectPublish,
    /// As `RejectPublish`, and the new message is dead-lettered.
    RejectPublishDeadLetter,
}

/// A dead-letter target (`x-dead-letter-exchange`, `x-dead-letter-routing-key`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    pub exchange: ExchangeName,
    /// `None` = the message's own.
    pub routing_key: Option<RoutingKey>,
}

/// What becomes of a dead letter that its target refuses, or that nothing is bound for (`x-dead-letter-strategy`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DeadLetterStrategy {
    /// It is dropped and counted.
    #[default]
    AtMostOnce,
    /// It is kept and tried again.
    AtLeastOnce,
}

/// Waiting time of returned messages (`x-delayed-retry-type`, `-min`, `-max`, `x-retry-backoff`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Retry {
    pub on: RetryOn,
    /// Wait of the first return.
    pub min_ms: u64,
    /// Longest wait. `None` = no bound but the longest delay.
    pub max_ms: Option<u64>,
    pub backoff: Backoff,
}

/// Which returns wait (`x-delayed-retry-type`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RetryOn {
    #[default]
    Disabled,
    All,
    /// Those that counted as failed.
    Failed,
    /// Those that did not.
    Returned,
}

/// How the wait grows from return to return (`x-retry-backoff`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Backoff {
    /// By `min` each time.
    #[default]
    Linear,
    /// Twofold each time.
    Exponential,
}

/// What happens to a group whose head fails (`x-message-groups`, features X7a).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageGroups {
    /// The group waits for it.
    Strict,
    /// The group goes on.
    StepAside,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(max_priority: Option<u8>, priorities: &[Option<u8>]) -> Vec<u8> {
        let settings = QueueSettings {
            max_priority,
            ..QueueSettings::default()
        };
        let levels = priorities.iter().map(|&it| settings.level(it).level());
        levels.collect()
    }

    #[test]
    fn priorities_of_a_plain_queue_are_levels_and_none_is_four() {
        let given = [None, Some(0), Some(9), Some(31), Some(32), Some(255)];
        assert_eq!(levels(None, &given), [4, 0, 9, 31, 31, 31]);
    }

    #[test]
    fn priorities_above_the_most_count_as_the_most_and_none_is_lowest() {
        let given = [None, Some(0), Some(3), Some(5), Some(6), Some(255)];
        assert_eq!(levels(Some(5), &given), [0, 0, 3, 5, 5, 5]);
    }

    #[test]
    fn priorities_beyond_the_levels_share_them_in_order() {
        let given = [None, Some(8), Some(9), Some(127), Some(254), Some(255)];
        assert_eq!(levels(Some(255), &given), [0, 0, 1, 15, 30, 31]);
        let settings = QueueSettings {
            max_priority: Some(100),
            ..QueueSettings::default()
        };
        let all: Vec<_> = (0..=u8::MAX).map(|it| settings.level(Some(it))).collect();
        assert!(all.is_sorted() && all.last() == Some(&Priority::MAX));
    }
}
