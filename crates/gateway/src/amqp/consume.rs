//! basic.consume and basic.cancel: attaching, ending. Not here: credit (`lend`), deliveries (`deliver`), basic.get (`get`).
//!
//! A prefetch is lent to the queue's leader as so many messages, given back by each settle. In bytes, and without a prefetch or acks in
//! messages too, the leader is lent what the outbox has room for, and more as that drains into the socket.

use rand::Rng;
use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, ShortString, Time};
use warren_shard::api::{ConsumerSpec, Delivery, Target, Unavailable};
use warren_shard::{AttachResult, ConsumerOptions, Credit, Held, ReturnKind};
use warren_topology::Queue;
use warren_types::ConsumerId;

use super::channel::Busy;
use super::error;
use super::lend::Lending;
use super::pipeline::{AttachSent, Op};
use super::session::AmqpSession;
use super::settle::{Asker, REQUEUE};
use super::timeout;
use crate::operations::target_of;

/// How long a queue's leader has to answer.
pub(super) const ANSWER_MS_MAX: u64 = 10_000;
/// How long the last deliveries of a cancelled consumer are waited for.
const CANCEL_MS_MAX: u64 = 2_000;
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Attaching,
    Active,
    /// It gets nothing more; so many of its deliveries are not settled.
    Leaving {
        unsettled: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) channel: ChannelId,
    pub(super) tag: Box<str>,
    pub(super) target: Target,
    pub(super) no_ack: bool,
    pub(super) options: ConsumerOptions,
    /// Its own limit when it began; 0 = none.
    pub(super) prefetch: u16,
    /// A later basic.qos changes its limit (features C32).
    pub(super) live: bool,
    pub(super) lending: Lending,
    /// Bytes it was lent when it began.
    pub(super) window_bytes: u64,
    /// Written, and not lent again yet.
    pub(super) owed: Credit,
    pub(super) standing: Standing,
    /// How long it may hold a delivery, by its own word (`x-consumer-timeout`).
    pub(super) timeout_ms: Option<u64>,
    /// When its deliveries are looked at first.
    pub(super) look_after_ms: u64,
    /// Who consumes in its place, and shares what it holds.
    pub(super) heir: Option<ConsumerId>,
}

impl Consumer {
    fn is_recalling(&self) -> bool {
        matches!(&self.lending, Lending::Shared(share) if share.is_recalling())
    }
}

/// A consumer that waits for its queue's leader.
#[derive(Debug)]
pub(super) struct Attaching {
    pub(super) until: Time,
    pub(super) it: basic::Consume,
    pub(super) consumer: Option<ConsumerId>,
}

/// A consumer that ends: its unspent credit is called back, so that its last deliveries come first.
#[derive(Debug)]
pub(super) struct Cancelling {
    pub(super) until: Time,
    pub(super) it: basic::Cancel,
    pub(super) consumer: ConsumerId,
}

/// With this argument a consumer's limit follows the channel's later basic.qos (features C32).
const LIVE_PREFETCH: &str = "x-live-prefetch";

/// # Errors
/// 406 if it is no integer.
fn priority(it: &basic::Consume) -> Result<i32, AmqpError> {
    let Some(value) = it.arguments.get("x-priority") else {
        return Ok(0);
    };
    let value = value
        .as_int()
        .ok_or_else(|| AmqpError::precondition_failed("x-priority is not an integer"))?;
    let clamped = value.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
    Ok(i32::try_from(clamped).unwrap_or_default())
}

/// A consumer tag for a client that names none.
pub(super) fn generated_tag() -> String {
    format!("amq.ctag-{:032x}", rand::rng().random::<u128>())
}

impl AmqpSession {
    /// Before the queue is looked up.
    ///
    /// # Errors
    /// 530 for a tag in use or too many consumers.
    pub(super) fn check_consume(
        &self,
        channel: ChannelId,
        it: &basic::Consume,
    ) -> Result<(), AmqpError> {
        let Some(state) = self.channels.get(&channel) else {
            return Ok(());
        };
        let of_replies = state.replies.as_ref();
        if state.consumers.contains_key(it.consumer_tag.as_str())
            || of_replies.is_some_and(|known| *known.tag == *it.consumer_tag)
        {
            let text = format_args!("attempt to reuse consumer tag '{}'", it.consumer_tag);
            return Err(AmqpError::not_allowed(text));
        }
        let max = self.gateway.options().amqp.channel_consumers_max;
        if state.consumers.len() >= max {
            let text = format_args!("more than {max} consumers on channel {channel}");
            return Err(AmqpError::not_allowed(text));
        }
        Ok(())
    }

    /// The queue is there: attaches to it.
    ///
    /// # Errors
    /// 406 for an argument that is not of its type.
    pub(super) fn consume(
        &mut self,
        channel: ChannelId,
        mut it: basic::Consume,
        queue: &Queue,
    ) -> Result<(), AmqpError> {
        let priority = priority(&it)?;
        timeout::of_consumer(&it)?;
        if it.consumer_tag.is_empty() {
            it.consumer_tag = ShortString::cut(&generated_tag());
        }
        let Some(state) = self.channels.get(&channel) else {
            return Ok(());
        };
        let slot = state.slot;
        let terms = self.terms(channel, it.no_ack);
        let options = ConsumerOptions {
            no_ack: it.no_ack,
            refill: terms.refill,
            priority,
            exclusive: it.exclusive,
            uncommitted_max: terms.uncommitted_max,
            passing: false,
        };
        let credit = terms.credit;
        let spec = Box::new(ConsumerSpec {
            target: target_of(queue),
            options,
            credit,
        });
        // The frame it came in is not kept alive by what is kept of it.
        it.consumer_tag = ShortString::cut(&it.consumer_tag);
        let until = self.now.plus_ms(ANSWER_MS_MAX);
        if let Some(state) = self.channels.get_mut(&channel) {
            state.busy = Busy::Attach(Attaching {
                until,
                it,
                consumer: None,
            });
        }
        self.check_at(until);
        self.pipeline.push(Op::Attach {
            channel,
            slot,
            spec,
        });
        Ok(())
    }

    /// The leader has been asked, or could not be.
    pub(super) fn attach_sent(&mut self, sent: AttachSent) {
        let channel = sent.channel;
        let waiting = self
            .channels
            .get_mut(&channel)
            .filter(|state| state.slot == sent.slot)
            .map(|state| &mut state.busy);
        let mut timeout_ms = None;
        let (tag, live, is_get) = match (waiting, sent.result) {
            (Some(Busy::Attach(attaching)), Ok(consumer)) => {
                attaching.consumer = Some(consumer);
                let live = attaching.it.arguments.get_bool(LIVE_PREFETCH) == Some(true);
                timeout_ms = timeout::of_consumer(&attaching.it).ok().flatten();
                (Box::from(attaching.it.consumer_tag.as_str()), live, false)
            }
            (Some(Busy::Get(getting)), Ok(consumer)) => {
                getting.consumer = Some(consumer);
                (Box::default(), false, true)
            }
            (Some(Busy::Change(_)), Ok(consumer)) => {
                return self.change_attached(channel, consumer);
            }
            (Some(Busy::Attach(_) | Busy::Get(_) | Busy::Change(_)), Err(why)) => {
                return self.attach_failed(channel, why);
            }
            // The channel has gone meanwhile.
            (_, Ok(consumer)) => return self.detach(consumer, ReturnKind::Untouched),
            (_, Err(_)) => return,
        };
        let Ok(consumer) = sent.result else { return };
        let options = sent.spec.options;
        let lending = if is_get {
            Lending::Get
        } else {
            self.lending(channel, &options)
        };
        self.any_shared |= matches!(lending, Lending::Shared(_));
        let it = Consumer {
            channel,
            tag,
            target: sent.spec.target,
            no_ack: options.no_ack,
            options,
            prefetch: self.channels.get(&channel).map_or(0, |it| it.prefetch),
            live,
            lending,
            window_bytes: sent.spec.credit.bytes,
            owed: Credit::default(),
            standing: Standing::Attaching,
            timeout_ms,
            look_after_ms: self.look_after_ms(sent.spec.target, timeout_ms),
            heir: None,
        };
        self.consumers.insert(consumer, it);
        if is_get {
            self.count_for_get(channel, std::time::Duration::ZERO);
        }
    }

    fn attach_failed(&mut self, channel: ChannelId, why: Unavailable) {
        let error = error::unavailable(why).for_method(basic::Consume::ID);
        self.fail(channel, error);
    }

    pub(super) fn attached(&mut self, id: ConsumerId, result: &AttachResult) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let channel = consumer.channel;
        let text = match result {
            AttachResult::Ok { .. } => None,
            AttachResult::QueueGone => Some(AmqpError::not_found("the queue is gone")),
            AttachResult::Exclusive => Some(AmqpError::access_refused(
                "another consumer has exclusive access to the queue, or exclusive access was asked for while there are others",
            )),
        };
        let is_change = matches!(self.channels.get(&channel), Some(state) if matches!(state.busy, Busy::Change(_)));
        if is_change {
            consumer.standing = Standing::Active;
            return self.change_answered(channel, id, text.is_none());
        }
        if let Some(error) = text {
            self.consumers.remove(&id);
            // The leader knows of none: this clears the session's own books.
            self.detach(id, ReturnKind::Untouched);
            return self.fail(channel, error.for_method(basic::Consume::ID));
        }
        consumer.standing = Standing::Active;
        if consumer.lending == Lending::Get {
            return;
        }
        let tag = consumer.tag.clone();
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let Busy::Attach(attaching) = std::mem::take(&mut state.busy) else {
            return;
        };
        state.consumers.insert(tag, id);
        self.unbalanced.insert(channel);
        if !attaching.it.no_wait {
            let consumer_tag = attaching.it.consumer_tag;
            self.conn.send(channel, basic::ConsumeOk { consumer_tag });
        }
        self.freed(channel);
    }

    /// basic.cancel.
    pub(super) fn cancel(&mut self, channel: ChannelId, mut it: basic::Cancel) {
        if self.cancel_replies(channel, &it.consumer_tag) {
            return self.cancel_ok(channel, it);
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let Some(consumer) = state.consumers.remove(it.consumer_tag.as_str()) else {
            return self.cancel_ok(channel, it);
        };
        it.consumer_tag = ShortString::cut(&it.consumer_tag);
        let until = self.now.plus_ms(CANCEL_MS_MAX);
        state.busy = Busy::Cancel(Cancelling {
            until,
            it,
            consumer,
        });
        self.check_at(until);
        // What it has settled goes first, so that the credit it gives back is called back, too.
        self.settles.hand_over(&mut self.pipeline);
        self.pipeline.push(Op::Recall(consumer));
    }

    fn cancel_ok(&mut self, channel: ChannelId, it: basic::Cancel) {
        if !it.no_wait {
            let consumer_tag = it.consumer_tag;
            self.conn.send(channel, basic::CancelOk { consumer_tag });
        }
    }

    /// The unspent credit is back: nothing more comes.
    pub(super) fn recalled(&mut self, id: ConsumerId, credit: Credit) {
        self.on_share(id, |share| share.recalled(credit.messages));
        let Some(channel) = self.consumers.get(&id).map(|it| it.channel) else {
            return;
        };
        if self.is_changing(channel, id) {
            return self.change_recalled(channel, id);
        }
        let busy = self.channels.get(&channel).map(|state| &state.busy);
        match busy {
            Some(Busy::Cancel(cancelling)) if cancelling.consumer == id => {
                self.end_cancel(channel);
            }
            Some(Busy::Get(getting)) if getting.consumer == Some(id) => self.get_empty(channel),
            _ => {}
        }
    }

    /// Ends a cancel: what was not written yet goes back, what the client holds can still be settled.
    pub(super) fn end_cancel(&mut self, channel: ChannelId) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let Busy::Cancel(cancelling) = std::mem::take(&mut state.busy) else {
            return;
        };
        self.leave(channel, cancelling.consumer);
        self.cancel_ok(channel, cancelling.it);
        self.freed(channel);
    }

    /// A consumer gets nothing more; it stays until what the client holds is settled.
    pub(super) fn leave(&mut self, channel: ChannelId, id: ConsumerId) {
        let target = self.consumers.get(&id).map(|it| it.target);
        for delivery in self.outbox.take(id) {
            if let Some(target) = target {
                self.give_back(target, &delivery);
            }
        }
        self.leave_softly(channel, id);
    }

    /// Deliveries of a consumer that the client has or gets, and has not settled.
    pub(super) fn unsettled(&self, channel: ChannelId, id: ConsumerId) -> u64 {
        let state = self.channels.get(&channel);
        let held = state.map_or(0, |state| {
            let held = state.unacked.iter().filter(|(_, it)| it.consumer == id);
            let kept = state.transaction.as_ref();
            held.count() + kept.map_or(0, |it| it.settles_of(id))
        });
        // Without ack, what is encoded is settled when it is written.
        let unsettled = held + self.outbox.flying_without_ack(id) + self.outbox.waiting(id);
        u64::try_from(unsettled).unwrap_or(u64::MAX)
    }

    /// As `leave`, but what is here is still written to the client.
    pub(super) fn leave_softly(&mut self, channel: ChannelId, id: ConsumerId) {
        self.settles.hand_over(&mut self.pipeline);
        let unsettled = self.unsettled(channel, id);
        if unsettled == 0 {
            self.consumers.remove(&id);
            return self.detach(id, ReturnKind::Untouched);
        }
        self.pipeline.push(Op::Detach {
            consumer: id,
            returns: None,
        });
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.standing = Standing::Leaving { unsettled };
            self.leaving += 1;
        }
    }

    /// One delivery less of a consumer that may be leaving.
    pub(super) fn left(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let Standing::Leaving { unsettled } = &mut consumer.standing else {
            return;
        };
        *unsettled = unsettled.saturating_sub(1);
        if *unsettled == 0 {
            self.consumers.remove(&id);
            self.leaving -= 1;
            self.settles.hand_over(&mut self.pipeline);
            self.detach(id, ReturnKind::Untouched);
        }
    }

    /// The queue is gone, and the consumer with it.
    pub(super) fn consumer_gone(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get(&id).cloned() else {
            return;
        };
        let channel = consumer.channel;
        if let Standing::Leaving { .. } = consumer.standing {
            self.leaving -= 1;
        }
        self.outbox.take(id);
        self.consumers.remove(&id);
        self.detach(id, ReturnKind::Untouched);
        self.unbalanced.insert(channel);
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        match &state.busy {
            Busy::Cancel(cancelling) if cancelling.consumer == id => {
                return self.end_cancel(channel);
            }
            Busy::Get(getting) if getting.consumer == Some(id) => {
                let error = AmqpError::not_found("the queue is gone");
                return self.fail(channel, error.for_method(basic::Get::ID));
            }
            Busy::Free
            | Busy::Operation
            | Busy::Behind
            | Busy::Attach(_)
            | Busy::Cancel(_)
            | Busy::Change(_)
            | Busy::Get(_) => {}
        }
        if state.consumers.get(&consumer.tag) == Some(&id) {
            state.consumers.remove(&consumer.tag);
            self.conn.cancel_consumer(channel, &consumer.tag);
        }
        self.change_gone(channel, id);
    }

    /// Its queue has another leader: what was asked of the old one is asked again.
    pub(super) fn leader_moved(&mut self, id: ConsumerId) {
        let channel = self.consumers.get(&id).map(|it| it.channel);
        let busy = channel
            .and_then(|it| self.channels.get(&it))
            .map(|it| &it.busy);
        let recall = match busy {
            Some(Busy::Cancel(cancelling)) => cancelling.consumer == id,
            Some(Busy::Get(getting)) => getting.consumer == Some(id) && getting.recalled,
            _ => false,
        };
        let shared = self.consumers.get(&id).is_some_and(|it| it.is_recalling());
        let changing = channel.is_some_and(|it| self.is_changing(it, id));
        if recall || shared || changing {
            self.pipeline.push(Op::Recall(id));
        }
    }

    pub(super) fn detach(&mut self, consumer: ConsumerId, kind: ReturnKind) {
        self.pipeline.push(Op::Detach {
            consumer,
            returns: Some(kind),
        });
    }

    /// A delivery that no client gets goes back to its place.
    pub(super) fn give_back(&mut self, target: Target, delivery: &Delivery) {
        self.settles
            .add(Asker::NOBODY, target, held(delivery), REQUEUE);
    }
}

/// What a settle names a delivery by.
pub(super) fn held(delivery: &Delivery) -> Held {
    Held {
        position: delivery.position,
        attempt: delivery.attempt,
    }
}
