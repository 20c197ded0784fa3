//! What the shards tell the connection, and the deliveries among it on their way to the client. Not here: who gets what.

use std::borrow::Cow;
use std::collections::VecDeque;

use warren_amqp::{ChannelId, Content, Delivery as Deliver, Outcome};
use warren_shard::Credit;
use warren_shard::api::{Delivery, PublishOutcome, RequestToken, SessionEvent};
use warren_types::{ConsumerId, Position, Properties, PropertiesBuilder, Value};

use super::channel::{Busy, Unacked};
use super::consume::{Standing, held};
use super::lend::Lending;
use super::outbox::{Flying, OUT_BYTES_MAX};
use super::publishes::{Kept, PublishKey};
use super::session::{AmqpSession, OUTPUT_BYTES_MAX};
use super::settle::{Asker, NO_ACK};
use super::shares::Share;
use crate::publish;

/// How often a message was given back as failed, and how often it was handed out before: from the second time on (features A5).
/// Of the single active consumer's activation.
const FENCING: &str = "x-fencing";
const DELIVERY_COUNT: &str = "x-delivery-count";
const ACQUIRED_COUNT: &str = "x-acquired-count";

impl AmqpSession {
    pub(super) fn events(&mut self, events: VecDeque<SessionEvent>) {
        for event in events {
            self.event_of_shard(event);
        }
    }

    fn event_of_shard(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Published(outcomes) => {
                for (token, outcome) in outcomes {
                    self.published(token, outcome);
                }
            }
            SessionEvent::Attached { consumer, result } => self.attached(consumer, &result),
            SessionEvent::Deliveries {
                consumer,
                deliveries,
            } => self.deliveries(consumer, deliveries),
            SessionEvent::Recalled { consumer, credit } => self.recalled(consumer, credit),
            SessionEvent::Cancelled { consumer } => self.consumer_gone(consumer),
            SessionEvent::Forget {
                consumer, position, ..
            } => self.forget(consumer, position),
            SessionEvent::LeaderMoved { consumer, .. } => self.leader_moved(consumer),
            SessionEvent::Settled { token, results } => self.settle_answered(token, &results),
            // Purges are asked for elsewhere.
            SessionEvent::Waiting { consumer } => self.on_share(consumer, Share::ask),
            SessionEvent::Purged { .. } => {}
        }
    }

    /// What became of a message, in one of its queues.
    pub(super) fn published(&mut self, token: RequestToken, outcome: PublishOutcome) {
        let Some((resolved, kept)) = self.publishes.resolve(token, outcome) else {
            return;
        };
        let key = PublishKey::of(resolved.tracked.id);
        let counters = &self.gateway.counters().amqp;
        let outcome = match resolved.outcome {
            publish::Outcome::Committed { .. }
            | publish::Outcome::Scheduled { .. }
            | publish::Outcome::Duplicate => {
                counters.confirmed.add(1);
                Outcome::Ack
            }
            publish::Outcome::Unrouted => {
                counters.unroutable.add(1);
                if let Some(kept) = kept {
                    self.return_late(key, &kept);
                }
                Outcome::Ack
            }
            publish::Outcome::Refused(_) => {
                counters.failed.add(1);
                Outcome::Nack
            }
        };
        self.resolved(key, outcome);
    }

    /// Every queue of a mandatory message was gone when it came there.
    fn return_late(&mut self, key: PublishKey, kept: &Kept) {
        if let Some(channel) = self.slots.get(&key.slot) {
            let returned = warren_amqp::Returned {
                exchange: &kept.exchange,
                routing_key: &kept.routing_key,
            };
            let content = Content {
                properties: &kept.properties,
                body: kept.body.segments(),
            };
            self.conn.return_message(*channel, &returned, content);
        }
    }

    /// Notes the outcome of a publish for its confirm.
    pub(super) fn resolved(&mut self, key: PublishKey, outcome: Outcome) {
        let Some(&channel) = self.slots.get(&key.slot) else {
            return; // the channel has gone
        };
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        state.unresolved = state.unresolved.saturating_sub(1);
        if outcome == Outcome::Nack
            && let Some(open) = &mut state.transaction
        {
            open.refuse();
        }
        if let Some(confirms) = &mut state.confirms
            && let Some(tag) = confirms.tag(key.number)
        {
            confirms.tracker.resolve(tag, outcome);
            if self.to_confirm.last() != Some(&channel) {
                self.to_confirm.push(channel);
            }
        }
        if state.unresolved == 0 {
            self.caught_up(channel);
        }
    }

    /// One thing less is under way: the channel may go on if it waited for that.
    pub(super) fn caught_up(&mut self, channel: ChannelId) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let done = state.unresolved == 0 && state.settling == 0;
        if done && matches!(state.busy, Busy::Behind) {
            state.busy = Busy::Free;
            self.freed(channel);
        }
    }

    /// Says the confirms that are known, in few frames. Where they find no room the socket is not read, so no more become known than
    /// are under way: a client that does not read its confirms is not read, either.
    pub(super) fn confirm(&mut self) {
        if self.to_confirm.is_empty() || self.conn.output().len() >= OUTPUT_BYTES_MAX {
            return;
        }
        let mut channels = std::mem::take(&mut self.to_confirm);
        for channel in channels.drain(..) {
            let state = self.channels.get_mut(&channel);
            if let Some(confirms) = state.and_then(|it| it.confirms.as_mut()) {
                let conn = &mut self.conn;
                confirms.tracker.flush(|it| {
                    conn.confirm(channel, it);
                });
            }
        }
        self.to_confirm = channels;
    }

    fn deliveries(&mut self, id: ConsumerId, mut deliveries: Vec<Delivery>) {
        let Some(consumer) = self.consumers.get(&id) else {
            return; // its detach returns them
        };
        let (target, channel) = (consumer.target, consumer.channel);
        match (consumer.standing, consumer.lending) {
            // They crossed its end.
            (Standing::Leaving { .. }, _) => {
                for delivery in &deliveries {
                    self.give_back(target, delivery);
                }
            }
            (_, Lending::Get) => {
                if let Some(first) = deliveries.pop() {
                    self.got(channel, first);
                }
            }
            (
                Standing::Attaching | Standing::Active,
                Lending::Counted | Lending::Window | Lending::Shared(_),
            ) => {
                let count = u64::try_from(deliveries.len()).unwrap_or(u64::MAX);
                self.on_share(id, |share| share.delivered(count));
                self.outbox.push(id, deliveries);
            }
        }
    }

    /// Encodes what waits, as far as the output has room.
    pub(super) fn deliver(&mut self) {
        while self.conn.output().len() < OUT_BYTES_MAX {
            let Some((consumer, delivery)) = self.outbox.next() else {
                return;
            };
            self.deliver_one(consumer, &delivery);
        }
    }

    fn deliver_one(&mut self, id: ConsumerId, delivery: &Delivery) {
        let Some(consumer) = self.consumers.get(&id) else {
            return; // its detach returns it
        };
        let Some(state) = self.channels.get_mut(&consumer.channel) else {
            return;
        };
        let (target, held) = (consumer.target, held(delivery));
        let unacked = Unacked {
            consumer: id,
            target,
            held,
            since: self.now,
        };
        let delivery_tag = if consumer.no_ack {
            state.unacked.next_tag()
        } else {
            state.unacked.deliver(unacked)
        };
        let deliver = Deliver {
            consumer_tag: &consumer.tag,
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: delivery.message.exchange(),
            routing_key: delivery.message.routing_key(),
        };
        let properties = with_counts(delivery);
        let content = Content {
            properties: &properties,
            body: std::slice::from_ref(&delivery.message.body),
        };
        let told = self.conn.deliver(consumer.channel, &deliver, content);
        // On a channel that closes it was not written: it returns with the rest.
        if told {
            let flying = Flying {
                consumer: id,
                target,
                held,
                credit: used(delivery),
                no_ack: consumer.no_ack,
            };
            self.outbox.encoded(self.conn.output().len(), flying);
        }
        self.on_share(id, Share::encoded);
        if let Some(consumer) = self.consumers.get(&id)
            && !consumer.no_ack
        {
            self.check_at(self.now.plus_ms(consumer.look_after_ms));
        }
    }

    /// Bytes have gone into the socket.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.conn.wrote(self.now);
        self.outbox.wrote(bytes);
        while let Some(it) = self.outbox.landed() {
            if it.no_ack {
                self.settles.add(Asker::NOBODY, it.target, it.held, NO_ACK);
            }
            self.lend_again(it.consumer, it.credit);
            if it.no_ack && self.leaving > 0 {
                self.left(it.consumer);
            }
        }
    }

    /// A delivery is not this client's any more: its message is back already where settles refill it. The client may still ack
    /// it, which does no harm.
    fn forget(&mut self, id: ConsumerId, position: Position) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        if let Some(delivery) = self.outbox.remove(id, position) {
            self.on_share(id, Share::dropped_unsent);
            self.left(id);
            return self.lend_again(id, used(&delivery));
        }
        let Some(state) = self.channels.get_mut(&consumer.channel) else {
            return;
        };
        let tag = state
            .unacked
            .iter()
            .find(|(_, it)| it.consumer == id && it.held.position == position)
            .map(|(tag, _)| tag);
        state.lost.extend(tag);
    }
}

/// What a delivery took of its consumer's credit.
pub(super) fn used(delivery: &Delivery) -> Credit {
    Credit {
        messages: 1,
        bytes: u64::try_from(delivery.message.body.len()).unwrap_or(u64::MAX),
    }
}

/// The properties as published, with the counts in the headers from the second hand-out on, and the fencing number where a queue has
/// a single active consumer.
pub(super) fn with_counts(delivery: &Delivery) -> Cow<'_, Properties> {
    let properties = &delivery.message.properties;
    let (failed, acquired) = (delivery.delivery_count, delivery.acquired_count);
    if failed == 0 && acquired == 0 && delivery.fencing == 0 {
        return Cow::Borrowed(properties);
    }
    match counted(properties, failed, acquired, delivery.fencing) {
        Some(counted) => Cow::Owned(counted),
        None => Cow::Borrowed(properties),
    }
}

fn counted(
    properties: &Properties,
    failed: u32,
    acquired: u32,
    fencing: u64,
) -> Option<Properties> {
    let mut headers = properties.headers().unwrap_or_default();
    let count = |count: u32| Value::I64(i64::from(count));
    if failed != 0 || acquired != 0 {
        headers.insert(DELIVERY_COUNT, count(failed)).ok()?;
        headers.insert(ACQUIRED_COUNT, count(acquired)).ok()?;
    }
    if let Some(fencing) = i64::try_from(fencing).ok().filter(|&it| it > 0) {
        headers.insert(FENCING, Value::I64(fencing)).ok()?;
    }
    PropertiesBuilder::from(properties)
        .headers(&headers)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_join_the_headers_and_leave_the_rest() {
        let properties = PropertiesBuilder::new()
            .content_type("text/plain")
            .persistent()
            .headers(&warren_types::Table::new().with("mine", "x"))
            .build()
            .unwrap();
        let counted = counted(&properties, 2, 3, 7).unwrap();
        let headers = counted.headers().unwrap();
        assert_eq!(headers.get_int("x-delivery-count"), Some(2));
        assert_eq!(headers.get_int("x-acquired-count"), Some(3));
        assert_eq!(headers.get_int("x-fencing"), Some(7));
        assert_eq!(headers.get_str("mine"), Some("x"));
        assert_eq!(counted.content_type(), Some("text/plain"));
        assert!(counted.is_persistent());
    }
}
