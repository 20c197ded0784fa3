//! Consumer timeout (features B51): a client that holds a delivery for too long loses its channel with 406, as with RabbitMQ, and what the
//! channel holds returns. Not here: settling, what becomes of what returns.

use std::collections::HashMap;

use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, Time};
use warren_shard::api::Target;
use warren_types::ConsumerId;

use super::session::AmqpSession;

const ARGUMENT: &str = "x-consumer-timeout";
/// What is held is looked at so often, so that a timeout set later acts on it, too.
const LOOK_AFTER_MS_MAX: u64 = 30_000;

/// A consumer's own timeout, in milliseconds.
///
/// # Errors
/// 406 if it is no positive integer.
pub(super) fn of_consumer(it: &basic::Consume) -> Result<Option<u64>, AmqpError> {
    let Some(value) = it.arguments.get(ARGUMENT) else {
        return Ok(None);
    };
    let timeout = value.as_int().and_then(|it| u64::try_from(it).ok());
    match timeout.filter(|it| *it > 0) {
        Some(timeout) => Ok(Some(timeout)),
        None => {
            let text = format_args!("{ARGUMENT} is not a positive integer");
            Err(AmqpError::precondition_failed(text))
        }
    }
}

impl AmqpSession {
    /// The client holds a delivery of the queue from now on.
    pub(super) fn watch(&mut self, target: Target, own: Option<u64>) {
        let after = self.look_after_ms(target, own);
        self.check_at(self.now.plus_ms(after));
    }

    /// When a delivery is looked at first: when it is late, as far as is known now.
    pub(super) fn look_after_ms(&self, target: Target, own: Option<u64>) -> u64 {
        let timeout = self.timeout_ms(target, own);
        timeout.map_or(LOOK_AFTER_MS_MAX, |it| it.min(LOOK_AFTER_MS_MAX))
    }

    /// The consumer's word before its queue's. `None`: it may take as long as it wants.
    fn timeout_ms(&self, target: Target, own: Option<u64>) -> Option<u64> {
        own.or_else(|| {
            let queue = self.view.queue_by_id(target.queue)?;
            self.view.queue_settings(queue).consumer_timeout_ms
        })
    }

    /// Fails the channel if a delivery is late; else sees to it that the next is noticed.
    pub(super) fn look_for_late(&mut self, channel: ChannelId) {
        let Some(state) = self.channels.get(&channel) else {
            return;
        };
        let mut timeouts: HashMap<ConsumerId, Option<u64>> = HashMap::new();
        let look_again = self.now.plus_ms(LOOK_AFTER_MS_MAX);
        let (mut late, mut next) = (None, None);
        let held = state.unacked.iter();
        for (_, it) in held.filter(|(tag, _)| !state.lost.contains(tag)) {
            let timeout = *timeouts.entry(it.consumer).or_insert_with(|| {
                let consumer = self.consumers.get(&it.consumer);
                self.timeout_ms(it.target, consumer.and_then(|it| it.timeout_ms))
            });
            let at = timeout.map_or(look_again, |timeout| it.since.plus_ms(timeout));
            if at <= self.now {
                late = timeout;
                break;
            }
            next = next.map_or(Some(at), |next: Time| Some(next.min(at)));
        }
        if let Some(timeout) = late {
            let text = format_args!(
                "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout} ms. This timeout value can be configured, see consumers doc guide to learn more"
            );
            return self.fail(channel, AmqpError::precondition_failed(text));
        }
        if let Some(at) = next {
            self.check_at(at.min(look_again));
        }
    }
}
