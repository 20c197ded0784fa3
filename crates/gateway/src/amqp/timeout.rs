//! Consumer timeout (features B51): what a client holds for too long returns, and its consumer is cancelled. A client that does not know
//! basic.cancel from a server loses its channel with 406, and what the channel holds returns. Not here: settling, what becomes of what returns.

use std::collections::{BTreeSet, HashMap};

use tracing::info;
use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, DeliveryTag, Time};
use warren_shard::api::Target;
use warren_types::ConsumerId;

use super::channel::{Busy, Unacked};
use super::lend::Lending;
use super::session::AmqpSession;
use super::settle::{Asker, REQUEUE_FAILED};

const ARGUMENT: &str = "x-consumer-timeout";
/// What is held is looked at so often, so that a timeout set later acts on it, too.
const LOOK_AFTER_MS_MAX: u64 = 30_000;
/// Consumers of a channel are changing their places for no longer.
const LOOK_AGAIN_MS: u64 = 50;

/// What a channel's client holds for too long.
#[derive(Debug, Default)]
struct Late {
    /// Of the first; there is one if there are items.
    timeout_ms: Option<u64>,
    items: Vec<(DeliveryTag, Unacked)>,
    /// When the next one may be late.
    next: Option<Time>,
}

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

    /// The consumer's word before its queue's, and that before the configuration's. `None`: it may take as long as it wants.
    fn timeout_ms(&self, target: Target, own: Option<u64>) -> Option<u64> {
        own.or_else(|| {
            let queue = self.view.queue_by_id(target.queue)?;
            let settings = self.view.queue_settings(queue);
            let options = self.gateway.options();
            options.consumer_timeout_ms(settings.consumer_timeout_ms)
        })
    }

    /// Deals with deliveries that are late; sees to it that the next is noticed.
    pub(super) fn look_for_late(&mut self, channel: ChannelId) {
        let Some(state) = self.channels.get(&channel) else {
            return;
        };
        // What a consumer holds is on its way to its successor: soon.
        if matches!(state.busy, Busy::Change(_)) && !state.unacked.is_empty() {
            return self.check_at(self.now.plus_ms(LOOK_AGAIN_MS));
        }
        let late = self.late(channel);
        if let Some(timeout) = late.timeout_ms {
            let may_be_told = self.conn.may_cancel_consumers()
                && late.items.iter().all(|(_, it)| self.is_of_consumer(it));
            if !may_be_told {
                let text = format_args!(
                    "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout} ms. This timeout value can be configured, see consumers doc guide to learn more"
                );
                return self.fail(channel, AmqpError::precondition_failed(text));
            }
            self.return_late_deliveries(channel, late.items);
        }
        if let Some(at) = late.next {
            self.check_at(at);
        }
    }

    /// What of a channel is late now, and when it is to be looked at again.
    fn late(&self, channel: ChannelId) -> Late {
        let mut late = Late::default();
        let Some(state) = self.channels.get(&channel) else {
            return late;
        };
        let mut timeouts: HashMap<ConsumerId, Option<u64>> = HashMap::new();
        let look_again = self.now.plus_ms(LOOK_AFTER_MS_MAX);
        let held = state.unacked.iter();
        for (tag, it) in held.filter(|(tag, _)| !state.lost.contains(tag)) {
            let timeout = *timeouts.entry(it.consumer).or_insert_with(|| {
                let consumer = self.consumers.get(&it.consumer);
                self.timeout_ms(it.target, consumer.and_then(|it| it.timeout_ms))
            });
            let at = timeout.map_or(look_again, |timeout| it.since.plus_ms(timeout));
            if at <= self.now {
                late.timeout_ms = late.timeout_ms.or(timeout);
                late.items.push((tag, *it));
            } else {
                let at = at.min(look_again);
                late.next = Some(late.next.map_or(at, |next| next.min(at)));
            }
        }
        late
    }

    /// What basic.get gave has no consumer that could be cancelled. One that is gone has lost what it held already.
    fn is_of_consumer(&self, it: &Unacked) -> bool {
        let consumer = self.consumers.get(&it.consumer);
        consumer.is_none_or(|it| it.lending != Lending::Get)
    }

    /// They return, counted as failed; their consumers are cancelled, and so get nothing in their place. The client may settle them still,
    /// which does no harm.
    fn return_late_deliveries(&mut self, channel: ChannelId, late: Vec<(DeliveryTag, Unacked)>) {
        let mut seen = BTreeSet::new();
        for (_, it) in &late {
            let heir = self.consumers.get(&it.consumer).and_then(|it| it.heir);
            let consumer = heir.unwrap_or(it.consumer);
            if seen.insert(consumer) {
                self.cancel_late(channel, consumer);
            }
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let asker = Asker::channel(state.slot);
        for (tag, it) in late {
            state.lost.insert(tag);
            let begun = self.settles.add(asker, it.target, it.held, REQUEUE_FAILED);
            state.settling += u64::from(begun);
        }
    }

    /// One that its client has cancelled itself is not told again.
    fn cancel_late(&mut self, channel: ChannelId, id: ConsumerId) {
        let Some(tag) = self.consumers.get(&id).map(|it| it.tag.clone()) else {
            return;
        };
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        if state.consumers.get(&tag) != Some(&id) {
            return;
        }
        state.consumers.remove(&tag);
        info!(peer = %self.peer(), %channel, consumer_tag = %tag, "consumer cancelled: it held a delivery for too long");
        self.leave(channel, id);
        self.conn.cancel_consumer(channel, &tag);
        self.unbalanced.insert(channel);
    }
}
