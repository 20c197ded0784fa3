//! What a channel's methods and messages lead to, one step at a time. Not here: what waits for others (`operation`), settles,
//! consumers, deliveries.

use std::sync::Arc;

use warren_amqp::method::{basic, confirm, queue};
use warren_amqp::{
    AmqpError, ChannelId, ConfirmTracker, Content, Outcome, Publish, Request, Returned,
};
use warren_topology::{Denied, Principal, Topology};
use warren_types::{Message, QueueName};

use super::binding;
use super::caller::Caller;
use super::channel::{Busy, Confirms, Step};
use super::error;
use super::names::NameCache;
use super::operation::{self, Answer};
use super::permit;
use super::publishes::{Kept, Publishes};
use super::reply::{declare_reply_queue, is_reply_name};
use super::route::Routed;
use super::session::AmqpSession;
use crate::copies::without_blind_copies;
use crate::message::{counted_bytes, message, with_spent_delay};
use crate::replies::DIRECT_REPLY_TO;

impl AmqpSession {
    /// One step of a channel that waits for nothing.
    pub(super) fn step(&mut self, channel: ChannelId, step: Step) {
        let Some(caller) = self.caller.clone() else {
            return;
        };
        match step {
            Step::Publish(publish) => self.publish(channel, &caller, publish),
            Step::Commit => self.commit(channel, &caller),
            Step::CommitSettles => {
                if let Err(error) = self.commit_settles(channel) {
                    self.fail(channel, error);
                }
            }
            Step::CommitOk => self.commit_ok(channel),
            Step::Close => {
                self.publishes.hand_over(&mut self.pipeline);
                self.drop_channel(channel);
                self.conn.channel_close_ok(channel);
            }
            Step::Request(request) => {
                if self.must_wait(channel, &request) {
                    self.wait(channel, Step::Request(request));
                    self.set_busy(channel, Busy::Behind);
                    return;
                }
                if let Err(error) = self.permitted(channel, &caller, &request) {
                    if self.is_certain(channel) {
                        return self.fail(channel, error);
                    }
                    self.wait(channel, Step::Request(request));
                    return self.begin(channel, operation::refresh(caller));
                }
                if let Err(error) = self.request(channel, caller, request) {
                    self.fail(channel, error);
                }
            }
        }
    }

    fn permitted(
        &self,
        channel: ChannelId,
        caller: &Caller,
        request: &Request,
    ) -> Result<(), AmqpError> {
        let last = self.channels.get(&channel);
        let last = last.and_then(|it| it.last_queue.as_ref());
        permit::check(caller, &self.view, request, last)
    }

    pub(super) fn set_busy(&mut self, channel: ChannelId, busy: Busy) {
        if let Some(state) = self.channels.get_mut(&channel) {
            state.busy = busy;
        }
    }

    /// What looks into a queue is to see what the channel has published and settled before.
    fn must_wait(&self, channel: ChannelId, request: &Request) -> bool {
        let looks = match request {
            Request::QueueDeclare(_)
            | Request::QueueDelete(_)
            | Request::QueuePurge(_)
            | Request::Get(_) => true,
            Request::ExchangeDeclare(_)
            | Request::ExchangeDelete(_)
            | Request::ExchangeBind(_)
            | Request::ExchangeUnbind(_)
            | Request::QueueBind(_)
            | Request::QueueUnbind(_)
            | Request::Qos(_)
            | Request::Consume(_)
            | Request::Cancel(_)
            | Request::Ack(_)
            | Request::Nack(_)
            | Request::Reject(_)
            | Request::Recover { .. }
            | Request::ConfirmSelect(_)
            | Request::TxSelect
            | Request::TxCommit
            | Request::TxRollback => false,
        };
        let state = self.channels.get(&channel);
        looks && state.is_some_and(|it| it.unresolved > 0 || it.settling > 0)
    }

    fn request(
        &mut self,
        channel: ChannelId,
        caller: Arc<Caller>,
        request: Request,
    ) -> Result<(), AmqpError> {
        match request {
            Request::Ack(it) => return self.ack(channel, &it),
            Request::Nack(it) => return self.nack(channel, &it),
            Request::Reject(it) => return self.reject(channel, &it),
            Request::Recover { reply } => return self.recover(channel, reply),
            Request::Qos(it) => self.qos(channel, it),
            Request::ConfirmSelect(it) => {
                self.check_confirm_select(channel)?;
                self.confirm_select(channel, &it);
            }
            Request::Cancel(it) => self.cancel(channel, it),
            Request::Consume(it) => return self.begin_consume(channel, caller, it),
            Request::Get(it) => {
                let last = self.last_queue(channel);
                self.begin(channel, operation::find_to_get(caller, it, last));
            }
            Request::ExchangeDeclare(it) => {
                self.begin(channel, operation::declare_exchange(caller, it));
            }
            Request::ExchangeDelete(it) => {
                self.begin(channel, operation::delete_exchange(caller, it));
            }
            Request::QueueDeclare(it) if is_reply_name(&it.queue) => {
                self.begin(channel, declare_reply_queue(caller, it));
            }
            Request::QueueDeclare(it) => {
                let last = self.last_queue(channel);
                self.begin(channel, operation::declare_queue(caller, it, last));
            }
            Request::QueueDelete(it) => {
                let last = self.last_queue(channel);
                self.begin(channel, operation::delete_queue(caller, it, last));
            }
            Request::QueuePurge(it) => {
                let last = self.last_queue(channel);
                self.begin(channel, operation::purge_queue(caller, it, last));
            }
            Request::QueueBind(it) if is_reply_name(&it.queue) => return Err(reply_bound()),
            Request::QueueBind(it) => {
                let last = self.last_queue(channel);
                self.begin(channel, binding::bind_queue(caller, it, last));
            }
            Request::QueueUnbind(it) => {
                let last = self.last_queue(channel);
                self.begin(channel, binding::unbind_queue(caller, it, last));
            }
            Request::ExchangeBind(it) => {
                self.begin(channel, binding::bind_exchange(caller, it));
            }
            Request::ExchangeUnbind(it) => {
                self.begin(channel, binding::unbind_exchange(caller, it));
            }
            Request::TxSelect => return self.tx_select(channel),
            Request::TxCommit => return self.tx_commit(channel),
            Request::TxRollback => return self.tx_rollback(channel),
        }
        Ok(())
    }

    fn begin_consume(
        &mut self,
        channel: ChannelId,
        caller: Arc<Caller>,
        it: basic::Consume,
    ) -> Result<(), AmqpError> {
        let failed = |error: AmqpError| error.for_method(basic::Consume::ID);
        self.check_consume(channel, &it).map_err(failed)?;
        if *it.queue == *DIRECT_REPLY_TO {
            return self.consume_replies(channel, &it).map_err(failed);
        }
        let last = self.last_queue(channel);
        self.begin(channel, operation::find_to_consume(caller, it, last));
        Ok(())
    }

    fn last_queue(&self, channel: ChannelId) -> Option<QueueName> {
        self.channels.get(&channel)?.last_queue.clone()
    }

    pub(super) fn begin(
        &mut self,
        channel: ChannelId,
        operation: impl Future<Output = Answer> + Send + 'static,
    ) {
        self.set_busy(channel, Busy::Operation);
        self.operate(channel, operation);
    }

    /// The operation that the channel waited for has ended.
    pub(super) fn answer(&mut self, channel: ChannelId, answer: Answer) {
        match answer {
            Answer::Reply(reply) => {
                if let Some(reply) = reply {
                    self.conn.send(channel, reply);
                }
            }
            Answer::Failed(error) => self.fail(channel, error),
            Answer::Declared { queue, reply, .. } => {
                if let Some(state) = self.channels.get_mut(&channel) {
                    state.last_queue = Some(queue);
                }
                if let Some(reply) = reply {
                    self.conn.send(channel, reply);
                }
            }
            Answer::Consume(it) => {
                let (it, queue) = *it;
                if let Err(error) = self.consume(channel, it, &queue) {
                    self.fail(channel, error.for_method(basic::Consume::ID));
                }
            }
            Answer::Get(it) if it.1.is_single_active() => {
                let error = AmqpError::resource_locked(format_args!(
                    "queue '{}' serves a single active consumer: basic.get would be another",
                    it.1.name
                ));
                self.fail(channel, error.for_method(basic::Get::ID));
            }
            Answer::Get(it) => self.get(channel, &it.0, &it.1),
            // The view of this turn is older than the answer.
            Answer::Again => {
                self.view = self.gateway.topology();
                if let Some(state) = self.channels.get_mut(&channel) {
                    state.certain = true;
                }
            }
            Answer::Ready { .. }
            | Answer::Login(_)
            | Answer::Secret(_)
            | Answer::Vhost(..)
            | Answer::Cleaned => {}
        }
    }

    fn confirm_select(&mut self, channel: ChannelId, it: &confirm::Select) {
        if let Some(state) = self.channels.get_mut(&channel)
            && state.confirms.is_none()
        {
            state.confirms = Some(Confirms {
                tracker: ConfirmTracker::new(),
                before: state.published,
            });
        }
        if !it.no_wait {
            self.conn.send(channel, confirm::SelectOk {});
        }
    }

    fn publish(&mut self, channel: ChannelId, caller: &Arc<Caller>, it: Publish) {
        if !self.serving() {
            return self.refuse(channel);
        }
        let routed = self.route(caller, &it);
        let may_be_stale = !matches!(routed, Ok(Routed::Queues | Routed::Direct));
        if may_be_stale && !self.is_certain(channel) {
            // This copy may be behind: only the leader's word may say no.
            self.wait(channel, Step::Publish(it));
            return self.begin(channel, operation::refresh(Arc::clone(caller)));
        }
        let result = routed.and_then(|routed| match routed {
            Routed::Direct => self.publish_direct(channel, caller, it),
            Routed::Queues => self.publish_routed(channel, caller, it, true),
            Routed::Nowhere => self.publish_routed(channel, caller, it, false),
        });
        if let Err(error) = result {
            self.fail(channel, error.for_method(basic::Publish::ID));
        }
    }

    /// Whether this node's copy of the topology may say no: it is recent, or was made so for this publish.
    pub(super) fn is_certain(&mut self, channel: ChannelId) -> bool {
        let asked = self.channels.get_mut(&channel).map(|it| &mut it.certain);
        let asked = asked.is_some_and(std::mem::take);
        asked || self.gateway.broker().topology().is_recent()
    }

    /// A node that is cut off takes no publishes.
    fn refuse(&mut self, channel: ChannelId) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let Some(confirms) = &mut state.confirms else {
            let error = AmqpError::internal_error("the node is cut off from its cluster");
            return self.fail(channel, error.for_method(basic::Publish::ID));
        };
        confirms.tracker.publish();
        let key = state.next_publish();
        self.resolved(key, Outcome::Nack);
    }

    fn publish_routed(
        &mut self,
        channel: ChannelId,
        caller: &Caller,
        it: Publish,
        is_routed: bool,
    ) -> Result<(), AmqpError> {
        check_properties(caller, &self.view, &it)?;
        let it = self.with_reply_address(channel, it)?;
        let Some(it) = self.keep_publish(channel, it)? else {
            return Ok(());
        };
        let body_bytes = it.body.len() + it.properties.as_wire().len();
        let charge = Publishes::charge(u64::try_from(body_bytes).unwrap_or(u64::MAX));
        if let Some(why) = self.held_back(caller.vhost, is_routed, charge) {
            self.stall(channel, Step::Publish(it), charge, why);
            return Ok(());
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            return Ok(());
        };
        let key = state.next_publish();
        if let Some(confirms) = &mut state.confirms {
            confirms.tracker.publish();
        }
        if !is_routed {
            self.gateway.counters().amqp.unroutable.add(1);
            if it.mandatory {
                self.return_message(channel, &it);
            }
            self.resolved(key, Outcome::Ack);
            return Ok(());
        }
        let kept = it.mandatory.then(|| keep(&it));
        match build(&mut state.names, caller, it) {
            Ok(message) => {
                debug_assert!(counted_bytes(&message) <= charge);
                self.gateway.counters().amqp.routed.add(1);
                let message = with_spent_delay(message, &self.view, caller.vhost);
                self.publishes.queue_up(key, message, charge, kept);
                Ok(())
            }
            Err(error) => {
                self.publishes.release(charge);
                Err(error)
            }
        }
    }

    /// A message for an address of direct replies.
    fn publish_direct(
        &mut self,
        channel: ChannelId,
        caller: &Caller,
        it: Publish,
    ) -> Result<(), AmqpError> {
        check_properties(caller, &self.view, &it)?;
        let it = self.with_reply_address(channel, it)?;
        if let Some(it) = self.keep_publish(channel, it)? {
            self.publish_reply(channel, it);
        }
        Ok(())
    }

    pub(super) fn return_message(&mut self, channel: ChannelId, it: &Publish) {
        let returned = Returned {
            exchange: &it.exchange,
            routing_key: &it.routing_key,
        };
        let content = Content {
            properties: &it.properties,
            body: it.body.segments(),
        };
        self.conn.return_message(channel, &returned, content);
    }
}

/// 403: queue.bind names an address of direct replies.
fn reply_bound() -> AmqpError {
    let text = "an address of direct replies cannot be bound";
    AmqpError::access_refused(text).for_method(queue::Bind::ID)
}

/// # Errors
/// 406 for a user that is not the one logged in.
fn check_properties(caller: &Caller, view: &Topology, it: &Publish) -> Result<(), AmqpError> {
    if it.properties.is_empty() {
        return Ok(());
    }
    if let Some(user_id) = it.properties.user_id()
        && user_id != caller.user.as_str()
    {
        let user = caller.user.clone();
        let other = Denied::OtherUser {
            user,
            user_id: user_id.into(),
        };
        // The guest of this machine is nobody else, though it may everything.
        let may = match &caller.who.principal {
            Principal::Local { .. } => Err(other),
            Principal::User { .. } => {
                let asker = caller.who.asker(caller.vhost);
                view.authorise(asker, warren_topology::Operation::PublishAs { user_id })
            }
        };
        may.map_err(|denied| error::denied(&denied))?;
    }
    Ok(())
}

/// # Errors
/// 406 for names and properties that no message can have.
pub(super) fn build(
    names: &mut NameCache,
    caller: &Caller,
    it: Publish,
) -> Result<Message, AmqpError> {
    let exchange = names
        .exchange(&it.exchange)
        .map_err(AmqpError::precondition_failed)?;
    let routing_key = names
        .key(&it.routing_key)
        .map_err(AmqpError::precondition_failed)?;
    let user = Some(caller.user.clone());
    message(
        exchange,
        routing_key,
        without_blind_copies(it.properties),
        it.body.into_bytes(),
        user,
    )
    .map_err(|error| error::hint(&error))
}

pub(super) fn keep(it: &Publish) -> Kept {
    Kept {
        exchange: Box::from(it.exchange.as_str()),
        routing_key: Box::from(it.routing_key.as_str()),
        properties: it.properties.clone(),
        body: it.body.clone(),
    }
}
