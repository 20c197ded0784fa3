//! What tx.commit does in one (features C44, ADR 0053): publishes to queues of one shard, and with them the ack of one delivery of that
//! shard. All else is done one after the other, the publishes first. Not here: keeping it until then (`transaction`), that the shard stores
//! all or nothing (`warren-queue`: `EnqueueTogether`, `AckWithOutputs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, Publish};
use warren_shard::SettleResult;
use warren_shard::api::{AnswerTime, PublishItem, RequestToken, SettleSpec};
use warren_topology::Published;
use warren_types::{Message, QueueId, RoutingKey, ShardId};

use super::caller::Caller;
use super::channel::{Busy, Step, Unacked};
use super::error;
use super::operation;
use super::pipeline::Op;
use super::publishes::{Kept, Publishes, item};
use super::reply::is_reply_name;
use super::session::AmqpSession;
use super::settle::{ACK, Asker};
use super::shares::Share;
use super::stall::Why;
use super::steps::{build, keep};
use super::transaction::partial;
use crate::copies::further_keys;
use crate::message::with_spent_delay;

/// What comes in one is in one entry: with more bytes, counted for each queue, the publishes are done one after the other.
const TOGETHER_BYTES_MAX: u64 = 1 << 20;
/// With more, the ack follows its publishes. An entry may gather those of many channels, and must not grow without end.
const WITH_ACK_BYTES_MAX: u64 = 64 << 10;

/// Publishes of a transaction to queues of one shard.
struct Together {
    shard: ShardId,
    /// Of each message.
    routed: Vec<Routed>,
    /// Admitted for all of them.
    charge: u64,
    /// The same, for each queue.
    stored_bytes: u64,
}

struct Routed {
    /// None: it is unroutable.
    queues: Vec<QueueId>,
    /// What of the admitted bytes is its.
    bytes: u64,
}

/// A message as it goes to its queues.
struct Built {
    message: Message,
    routed: Routed,
    /// It is returned if its queues are gone when it comes there.
    kept: Option<Kept>,
}

/// Why a commit cannot go on now.
enum Hindrance {
    /// This copy of the topology may be behind: only the leader's word may say no.
    Stale,
    Refused(AmqpError),
    HeldBack {
        why: Why,
        bytes: u64,
    },
}

impl AmqpSession {
    pub(super) fn commit(&mut self, channel: ChannelId, caller: &Arc<Caller>) {
        if !self.is_caught_up(channel) {
            self.wait(channel, Step::Commit);
            return self.set_busy(channel, Busy::Behind);
        }
        let Some(open) = self.transaction(channel) else {
            return;
        };
        let publishes = std::mem::take(&mut open.publishes);
        let planned = if publishes.is_empty() || !self.serving() {
            Ok(None)
        } else {
            self.plan(channel, caller, &publishes)
        };
        let hindrance = match planned {
            Ok(Some(plan)) => return self.commit_together(channel, caller, publishes, plan),
            Ok(None) => return self.commit_apart(channel, publishes),
            Err(hindrance) => hindrance,
        };
        if let Some(open) = self.transaction(channel) {
            open.publishes = publishes;
        }
        match hindrance {
            Hindrance::Stale => {
                self.wait(channel, Step::Commit);
                self.begin(channel, operation::refresh(Arc::clone(caller)));
            }
            Hindrance::Refused(error) => {
                self.fail(channel, error.for_method(basic::Publish::ID));
            }
            Hindrance::HeldBack { why, bytes } => self.stall(channel, Step::Commit, bytes, why),
        }
    }

    /// One after the other; the settles once all is stored.
    fn commit_apart(&mut self, channel: ChannelId, publishes: Vec<Publish>) {
        self.wait(channel, Step::CommitSettles);
        for publish in publishes.into_iter().rev() {
            self.wait(channel, Step::Publish(publish));
        }
        self.freed(channel);
    }

    /// Routes the publishes, and admits their bytes, if they can be stored in one. `None`: they cannot.
    fn plan(
        &mut self,
        channel: ChannelId,
        caller: &Caller,
        publishes: &[Publish],
    ) -> Result<Option<Together>, Hindrance> {
        let is_certain = self.is_certain(channel);
        let (mut shards, mut routed) = (BTreeSet::new(), Vec::with_capacity(publishes.len()));
        let (mut charge, mut stored_bytes, mut items) = (0_u64, 0_u64, 0_usize);
        let mut alarm = None;
        for it in publishes {
            if it.exchange.is_empty() && is_reply_name(&it.routing_key) {
                return Ok(None); // no queue
            }
            match self.route_one(caller, it) {
                Ok(true) => {}
                _ if !is_certain => return Err(Hindrance::Stale),
                Ok(false) => {
                    let queues = Vec::new();
                    routed.push(Routed { queues, bytes: 0 });
                    continue;
                }
                Err(error) => return Err(Hindrance::Refused(error)),
            }
            let targets = self.publishes.targets();
            shards.extend(targets.iter().map(|it| it.shard));
            let bytes = charge_of(it);
            charge = charge.saturating_add(bytes);
            let copies = u64::try_from(targets.len()).unwrap_or(u64::MAX);
            stored_bytes = stored_bytes.saturating_add(bytes.saturating_mul(copies));
            items = items.saturating_add(targets.len());
            let queues = targets.iter().map(|it| it.queue).collect();
            routed.push(Routed { queues, bytes });
            if alarm.is_none() {
                alarm = self.gateway.stopped_by(targets, &self.view);
            }
            if alarm.is_some() {
                break; // what was routed last is what is waited for
            }
        }
        if let Some(alarm) = alarm {
            let why = Why::Alarm(alarm);
            return Err(Hindrance::HeldBack { why, bytes: charge });
        }
        // As many as an atomic batch may have over gRPC.
        let most = usize::try_from(self.gateway.options().max_batch).unwrap_or(usize::MAX);
        let (Some(shard), true) = (shards.pop_first(), shards.is_empty()) else {
            return Ok(None);
        };
        if items > most || stored_bytes > TOGETHER_BYTES_MAX {
            return Ok(None);
        }
        match self.hold_back_all(caller, publishes.len(), charge) {
            Some(why) => Err(Hindrance::HeldBack { why, bytes: charge }),
            None => Ok(Some(Together {
                shard,
                routed,
                charge,
                stored_bytes,
            })),
        }
    }

    /// # Errors
    /// What a publish of it is refused with, by this copy of the topology.
    fn route_one(&mut self, caller: &Caller, it: &Publish) -> Result<bool, AmqpError> {
        let (exchange, key) = (&*it.exchange, &*it.routing_key);
        let further = further_keys(&it.properties).map_err(error::copies)?;
        if let Some(rights) = self.rights.as_mut() {
            let mut keys = std::iter::once(key).chain(further.iter().map(RoutingKey::as_str));
            let may = keys.try_for_each(|key| rights.may_publish(&self.view, exchange, key));
            may.map_err(|denied| error::denied(&denied))?;
        }
        let message = Published::new(exchange, key)
            .with_further_keys(&further)
            .with_properties(&it.properties);
        let routed = self.publishes.route(&self.view, caller.vhost, &message);
        routed.map_err(|error| error::route(&error, &caller.vhost_name))
    }

    /// As `held_back`, for all of a transaction's messages at once.
    fn hold_back_all(&mut self, caller: &Caller, count: usize, charge: u64) -> Option<Why> {
        let vhost = caller.vhost;
        if self.gateway.quotas().is_over(vhost) {
            return Some(Why::Quota(vhost));
        }
        if !self.publishes.admit(charge) {
            return Some(Why::Bytes);
        }
        // Last: time that was taken is not given back.
        if let Some(limit) = self.publish_limit {
            let (rates, now) = (self.gateway.rates(), Instant::now());
            if self.has_time {
                // The first one's was waited for.
                rates.owe(vhost, limit, count.saturating_sub(1), now);
            } else if rates.take(vhost, limit, count, now).is_err() {
                self.publishes.release(charge);
                return Some(Why::Rate(vhost));
            }
        }
        self.has_time = false;
        None
    }

    fn commit_together(
        &mut self,
        channel: ChannelId,
        caller: &Caller,
        publishes: Vec<Publish>,
        plan: Together,
    ) {
        let Together {
            shard,
            routed,
            charge,
            stored_bytes,
        } = plan;
        let built = self.build_all(channel, caller, publishes, routed);
        let (messages, unroutable) = match built {
            Ok(built) => built,
            Err(error) => {
                self.publishes.release(charge);
                return self.fail(channel, error.for_method(basic::Publish::ID));
            }
        };
        self.gateway.counters().amqp.routed.add(messages.len());
        self.gateway
            .counters()
            .amqp
            .unroutable
            .add(unroutable.len());
        for publish in unroutable.iter().filter(|it| it.mandatory) {
            self.return_message(channel, publish);
        }
        let is_small = stored_bytes <= WITH_ACK_BYTES_MAX;
        match self.ack_to_come(channel, shard, is_small) {
            Ok(Some(unacked)) => self.ack_with(channel, unacked, messages, charge),
            Ok(None) => self.publish_together(channel, shard, messages),
            Err(error) => {
                self.publishes.release(charge);
                return self.fail(channel, error);
            }
        }
        self.wait(channel, Step::CommitSettles);
        self.freed(channel);
    }

    /// The messages that queues take, and the publishes that none takes.
    ///
    /// # Errors
    /// 406 for one that cannot be a message: nothing is done.
    fn build_all(
        &mut self,
        channel: ChannelId,
        caller: &Caller,
        publishes: Vec<Publish>,
        routed: Vec<Routed>,
    ) -> Result<(Vec<Built>, Vec<Publish>), AmqpError> {
        let (mut messages, mut unroutable) = (Vec::with_capacity(publishes.len()), Vec::new());
        let Some(state) = self.channels.get_mut(&channel) else {
            return Ok((messages, unroutable));
        };
        for (publish, routed) in publishes.into_iter().zip(routed) {
            if routed.queues.is_empty() {
                unroutable.push(publish);
                continue;
            }
            let kept = publish.mandatory.then(|| keep(&publish));
            let message = build(&mut state.names, caller, publish)?;
            let message = with_spent_delay(message, &self.view, caller.vhost);
            messages.push(Built {
                message,
                routed,
                kept,
            });
        }
        Ok((messages, unroutable))
    }

    /// The delivery that is acked with the messages: the only settle of the transaction, in their shard.
    ///
    /// # Errors
    /// 406 if it is another's by now.
    fn ack_to_come(
        &mut self,
        channel: ChannelId,
        shard: ShardId,
        is_small: bool,
    ) -> Result<Option<Unacked>, AmqpError> {
        let Some(state) = self.channels.get_mut(&channel) else {
            return Ok(None);
        };
        let Some(open) = state.transaction.as_deref_mut() else {
            return Ok(None);
        };
        let &[(tag, unacked, ACK)] = open.settles.as_slice() else {
            return Ok(None);
        };
        let is_here = unacked.target.shard == shard && is_small;
        if !is_here || self.view.queue_by_id(unacked.target.queue).is_none() {
            return Ok(None);
        }
        if state.lost.contains(&tag) {
            return Err(partial());
        }
        open.settles.clear();
        open.acking = Some(unacked);
        Ok(Some(unacked))
    }

    fn ack_with(
        &mut self,
        channel: ChannelId,
        unacked: Unacked,
        messages: Vec<Built>,
        charge: u64,
    ) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return self.publishes.release(charge);
        };
        state.settling += 1;
        let token = RequestToken(Asker::commit(state.slot).0);
        self.publishes.hold_with_ack(token, charge, messages.len());
        let outputs = (0_u64..).zip(messages).flat_map(|(at, built)| {
            let Built {
                message, routed, ..
            } = built;
            let queues = routed.queues.into_iter();
            queues.map(move |queue| item(RequestToken(at), queue, message.clone()))
        });
        let spec = SettleSpec {
            target: unacked.target,
            items: vec![unacked.held],
            action: ACK,
            answer: AnswerTime::AtOnce,
            outputs: outputs.collect(),
            said: None,
        };
        self.pipeline.push(Op::Settle { spec, token });
    }

    fn publish_together(&mut self, channel: ChannelId, shard: ShardId, messages: Vec<Built>) {
        let mut items: Vec<PublishItem> = Vec::with_capacity(messages.len());
        for Built {
            message,
            routed,
            kept,
        } in messages
        {
            let Some(state) = self.channels.get_mut(&channel) else {
                return;
            };
            let Routed { queues, bytes } = routed;
            let key = state.next_publish();
            items.extend(self.publishes.track(key, &message, bytes, queues, kept));
        }
        self.pipeline.push(Op::PublishTogether { shard, items });
    }

    /// The ack of a commit has been answered: it is done with all its messages, or nothing is.
    pub(super) fn commit_answered(
        &mut self,
        slot: u32,
        token: RequestToken,
        results: &[SettleResult],
    ) {
        let messages = self.publishes.release_with_ack(token);
        let is_done = results == [SettleResult::Done];
        let counters = &self.gateway.counters().amqp;
        if is_done {
            counters.confirmed.add(messages);
        } else {
            counters.failed.add(messages);
        }
        let Some(&channel) = self.slots.get(&slot) else {
            return; // the channel has gone
        };
        let acked = self.transaction(channel).and_then(|it| it.acking.take());
        if is_done {
            if let Some(acked) = acked {
                self.on_share(acked.consumer, Share::settled);
                self.left(acked.consumer);
            }
        } else if let Some(open) = self.transaction(channel) {
            open.refuse();
        }
        if let Some(state) = self.channels.get_mut(&channel) {
            state.settling = state.settling.saturating_sub(1);
        }
        if self.any_shared {
            self.unbalanced.insert(channel);
        }
        self.caught_up(channel);
    }
}

/// What is admitted for a publish.
fn charge_of(it: &Publish) -> u64 {
    let bytes = it.body.len() + it.properties.as_wire().len();
    Publishes::charge(u64::try_from(bytes).unwrap_or(u64::MAX))
}
