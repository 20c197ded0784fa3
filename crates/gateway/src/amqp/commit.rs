//! What tx.commit does in one (features C44, ADR 0053, 0081): publishes to queues of one shard, and with them the settles of its deliveries.
//! All else is done one after the other, the publishes first. Not here: keeping it until then (`transaction`), that the shard does all or
//! nothing (`warren-queue`: `EnqueueTogether`, `AckWithOutputs`, `SettleTogether`).

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, DeliveryTag, Publish};
use warren_shard::SettleResult;
use warren_shard::api::{
    AnswerTime, PublishItem, RequestToken, SettleAction, SettlePart, SettleSpec, TOGETHER_MAX,
    TOGETHER_SINCE, TogetherSpec,
};
use warren_types::{Message, QueueId, ShardId};

use super::caller::Caller;
use super::channel::{Busy, Step, Unacked};
use super::operation;
use super::pipeline::Op;
use super::publishes::{Kept, Publishes, item};
use super::route::Routed;
use super::session::AmqpSession;
use super::settle::{ACK, Asker};
use super::shares::Share;
use super::stall::Why;
use super::steps::{build, keep};
use super::transaction::partial;
use crate::message::with_spent_delay;

/// What comes in one is in one entry: with more bytes, counted for each queue, the publishes are done one after the other.
const TOGETHER_BYTES_MAX: u64 = 1 << 20;

/// Publishes of a transaction to queues of one shard.
struct Together {
    shard: ShardId,
    /// Of each message.
    routed: Vec<Targets>,
    /// Admitted for all of them.
    charge: u64,
}

/// Settles of a transaction that are done with its publishes.
enum Ends {
    /// None: they follow.
    Later,
    /// The ack of one delivery.
    Ack(Unacked),
    Several(Vec<SettlePart>),
}

struct Targets {
    /// None: it is unroutable.
    queues: Vec<QueueId>,
    /// What of the admitted bytes is its.
    bytes: u64,
}

/// A message as it goes to its queues.
struct Built {
    message: Message,
    routed: Targets,
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
        let planned = if !self.serving() {
            Ok(None)
        } else if publishes.is_empty() {
            Ok(self.settles_alone(channel))
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
            match self.route(caller, it) {
                Ok(Routed::Queues) => {}
                Ok(Routed::Direct) => return Ok(None), // no queue
                _ if !is_certain => return Err(Hindrance::Stale),
                Ok(Routed::Nowhere) => {
                    let queues = Vec::new();
                    routed.push(Targets { queues, bytes: 0 });
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
            routed.push(Targets { queues, bytes });
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
            })),
        }
    }

    /// Without publishes: settles of several queues, or of several kinds, are done in one if one shard has them.
    fn settles_alone(&mut self, channel: ChannelId) -> Option<Together> {
        let open = self.transaction(channel)?;
        let kinds = open.settles.iter().map(|(_, it, how)| (it.target, how));
        let (first, mut others) = (open.settles.first()?, kinds);
        let is_one_kind = others.all(|(target, how)| (target, *how) == (first.1.target, first.2));
        // What is of one kind is one command anyway.
        (!is_one_kind).then_some(Together {
            shard: first.1.target.shard,
            routed: Vec::new(),
            charge: 0,
        })
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
        match self.ends_to_come(channel, shard) {
            Ok(Ends::Ack(unacked)) => self.ack_with(channel, unacked, messages, charge),
            Ok(Ends::Several(parts)) => self.end_with(channel, shard, parts, messages, charge),
            Ok(Ends::Later) if messages.is_empty() => {}
            Ok(Ends::Later) => self.publish_together(channel, shard, messages),
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
        routed: Vec<Targets>,
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

    /// The settles that are done with the messages: all of the transaction's, if they are in their shard.
    ///
    /// # Errors
    /// 406 if one is another's by now.
    fn ends_to_come(&mut self, channel: ChannelId, shard: ShardId) -> Result<Ends, AmqpError> {
        let Some(state) = self.channels.get_mut(&channel) else {
            return Ok(Ends::Later);
        };
        let Some(open) = state.transaction.as_deref_mut() else {
            return Ok(Ends::Later);
        };
        let is_ack = matches!(open.settles.as_slice(), [(_, _, ACK)]);
        let may = open.settles.len() <= TOGETHER_MAX
            && (is_ack || self.view.version() >= TOGETHER_SINCE)
            && open.settles.iter().all(|(_, it, _)| {
                it.target.shard == shard && self.view.queue_by_id(it.target.queue).is_some()
            });
        if open.settles.is_empty() || !may {
            return Ok(Ends::Later);
        }
        if open
            .settles
            .iter()
            .any(|(tag, ..)| state.lost.contains(tag))
        {
            return Err(partial());
        }
        let settles = std::mem::take(&mut open.settles);
        open.ending = settles.iter().map(|(_, it, _)| *it).collect();
        Ok(match settles.as_slice() {
            [(_, unacked, ACK)] => Ends::Ack(*unacked),
            several => Ends::Several(parts(several)),
        })
    }

    fn ack_with(
        &mut self,
        channel: ChannelId,
        unacked: Unacked,
        messages: Vec<Built>,
        charge: u64,
    ) {
        let Some(token) = self.hold_with_ends(channel, &messages, charge) else {
            return;
        };
        let spec = SettleSpec {
            target: unacked.target,
            items: vec![unacked.held],
            action: ACK,
            answer: AnswerTime::AtOnce,
            outputs: outputs(messages),
            said: None,
        };
        self.pipeline.push(Op::Settle { spec, token });
    }

    fn end_with(
        &mut self,
        channel: ChannelId,
        shard: ShardId,
        parts: Vec<SettlePart>,
        messages: Vec<Built>,
        charge: u64,
    ) {
        let Some(token) = self.hold_with_ends(channel, &messages, charge) else {
            return;
        };
        let spec = TogetherSpec {
            shard,
            parts,
            outputs: outputs(messages),
            said: None,
        };
        self.pipeline.push(Op::SettleTogether { spec, token });
    }

    /// The channel waits for one answer, until which the messages' bytes are held.
    fn hold_with_ends(
        &mut self,
        channel: ChannelId,
        messages: &[Built],
        charge: u64,
    ) -> Option<RequestToken> {
        let Some(state) = self.channels.get_mut(&channel) else {
            self.publishes.release(charge);
            return None;
        };
        state.settling += 1;
        let token = RequestToken(Asker::commit(state.slot).0);
        self.publishes.hold_with_ack(token, charge, messages.len());
        Some(token)
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
            let Targets { queues, bytes } = routed;
            let key = state.next_publish();
            items.extend(self.publishes.track(key, &message, bytes, queues, kept));
        }
        self.pipeline.push(Op::PublishTogether { shard, items });
    }

    /// The settles of a commit have been answered: they are done with all its messages, or nothing is.
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
        let open = self.transaction(channel);
        let ended = open.map(|it| std::mem::take(&mut it.ending));
        if is_done {
            for ended in ended.into_iter().flatten() {
                self.on_share(ended.consumer, Share::settled);
                self.left(ended.consumer);
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

/// As they come with settles, each named by its place among them.
fn outputs(messages: Vec<Built>) -> Vec<PublishItem> {
    let outputs = (0_u64..).zip(messages).flat_map(|(at, built)| {
        let Built {
            message, routed, ..
        } = built;
        let queues = routed.queues.into_iter();
        queues.map(move |queue| item(RequestToken(at), queue, message.clone()))
    });
    outputs.collect()
}

/// Deliveries of one queue that end alike are one part.
fn parts(settles: &[(DeliveryTag, Unacked, SettleAction)]) -> Vec<SettlePart> {
    let mut parts: Vec<SettlePart> = Vec::new();
    for (_, unacked, action) in settles {
        let queue = unacked.target.queue;
        let is_of = |it: &&mut SettlePart| it.queue == queue && it.action == *action;
        match parts.iter_mut().find(is_of) {
            Some(part) => part.items.push(unacked.held),
            None => parts.push(SettlePart {
                queue,
                items: vec![unacked.held],
                action: *action,
            }),
        }
    }
    parts
}

/// What is admitted for a publish.
fn charge_of(it: &Publish) -> u64 {
    let bytes = it.body.len() + it.properties.as_wire().len();
    Publishes::charge(u64::try_from(bytes).unwrap_or(u64::MAX))
}
