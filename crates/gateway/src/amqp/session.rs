//! One client connection as a state: its channels, consumers and what is under way for them. Called by its task (`run`), it never
//! waits. Not here: the socket (`wire`), single features (`steps`, `consume`, `deliver`, `get`, `settle`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use futures::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info};
use warren_amqp::{AmqpError, ChannelId, Config, Connection, DeliveryTag, Event, Time};
use warren_shard::Session;
use warren_topology::{QueueOwner, Rights};
use warren_types::{ConsumerId, QueueId, QueueName, TopologyIndex};

use super::caller::Caller;
use super::channel::{Busy, Channel, Step, Unacked};
use super::consume::Consumer;
use super::operation::{Answer, Finished, Operation, find_vhost};
use super::outbox::Outbox;
use super::pipeline::{Pipeline, Sent};
use super::publishes::{PublishKey, Publishes, View};
use super::reply::ReplyInbox;
use super::settle::Settles;
use super::stall::{Stalled, Why};
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::places::Place;
use crate::rates::limit_of;

/// Bytes of steps that wait for their channels; then the socket is not read.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Bytes of output, beside deliveries, beyond which the socket is not read and confirms wait.
pub(super) const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// How far a close by the client has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closing {
    No,
    /// What it sent before is being done.
    Asked,
    /// Its exclusive queues are being deleted.
    Cleaning,
}

pub(super) struct AmqpSession {
    pub(super) gateway: Gateway,
    pub(super) peer: SocketAddr,
    pub(super) conn: Connection,
    pub(super) broker: Arc<Session>,
    pub(super) owner: QueueOwner,
    pub(super) who: Option<Who>,
    /// A new secret is being checked: nothing is read meanwhile.
    pub(super) checks_secret: bool,
    /// What the user may publish; once the connection is open.
    pub(super) rights: Option<Rights>,
    /// As of which change they were looked at.
    pub(super) rights_seen: Option<TopologyIndex>,
    /// Once the connection is open.
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) now: Time,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pub(super) slots: HashMap<u32, ChannelId>,
    next_slot: u32,
    pub(super) consumers: HashMap<ConsumerId, Consumer>,
    /// Consumers that are [`Standing::Leaving`].
    pub(super) leaving: usize,
    pub(super) outbox: Outbox,
    pub(super) publishes: Publishes,
    /// The topology in this turn.
    pub(super) view: View,
    /// Whether the node may take publishes, once asked in this turn.
    serving: Option<bool>,
    pub(super) settles: Settles,
    /// Reused between settles.
    pub(super) settled: Vec<(DeliveryTag, Unacked)>,
    pub(super) pipeline: Pipeline,
    pub(super) operations: FuturesUnordered<Operation>,
    pub(super) to_confirm: Vec<ChannelId>,
    /// Channels whose consumers' credit is to be shared out anew.
    pub(super) unbalanced: BTreeSet<ChannelId>,
    pub(super) lending_turn: u64,
    /// Some consumer's credit is shared out here.
    pub(super) any_shared: bool,
    /// Every basic.qos of this client changes the consumers there are (features C32).
    pub(super) is_live_client: bool,
    /// Channels that wait for nothing any more.
    freed: Vec<ChannelId>,
    /// Bytes of the channels' waiting steps.
    pub(super) waiting_bytes: usize,
    pub(super) stalled: Option<Stalled>,
    /// Publishes per second of its vhost, in this turn.
    pub(super) publish_limit: Option<u32>,
    /// The next message has its time by that limit already.
    pub(super) has_time: bool,
    pub(super) exclusive: BTreeMap<QueueName, QueueId>,
    /// Direct replies for its channels.
    pub(super) replies: Option<ReplyInbox>,
    /// Its place among the node's open connections.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Its place among those of its vhost and user.
    pub(super) seat: Option<Place>,
    pub(super) closing: Closing,
    /// When some channel may have waited long enough.
    check_at: Option<Time>,
    /// The client reads no more.
    pub(super) gone: bool,
    ended: bool,
}

impl AmqpSession {
    pub(super) fn new(gateway: Gateway, config: Arc<Config>, peer: SocketAddr) -> Self {
        let broker = Arc::new(gateway.broker().session());
        let owner = QueueOwner::Connection {
            node: gateway.broker().node(),
            run: gateway.broker().run(),
            connection: gateway.next_number(),
        };
        Self {
            peer,
            conn: Connection::new(config, Time(0)),
            owner,
            who: None,
            checks_secret: false,
            rights: None,
            rights_seen: None,
            caller: None,
            now: Time(0),
            channels: BTreeMap::new(),
            slots: HashMap::new(),
            next_slot: 0,
            consumers: HashMap::new(),
            leaving: 0,
            outbox: Outbox::default(),
            publishes: Publishes::new(gateway.admission().connection()),
            view: gateway.topology(),
            serving: None,
            settles: Settles::default(),
            settled: Vec::new(),
            pipeline: Pipeline::new(Arc::clone(&broker)),
            broker,
            operations: FuturesUnordered::new(),
            to_confirm: Vec::new(),
            unbalanced: BTreeSet::new(),
            lending_turn: 0,
            any_shared: false,
            is_live_client: false,
            freed: Vec::new(),
            waiting_bytes: 0,
            stalled: None,
            publish_limit: None,
            has_time: false,
            exclusive: BTreeMap::new(),
            replies: None,
            place: None,
            seat: None,
            closing: Closing::No,
            check_at: None,
            gone: false,
            ended: false,
            gateway,
        }
    }

    /// Does everything that what has come makes possible.
    pub(super) fn turn(&mut self, input: &mut BytesMut) {
        self.view = self.gateway.topology();
        self.serving = None;
        let vhost = self.caller.as_ref().map(|it| it.vhost);
        self.publish_limit = vhost.and_then(|it| limit_of(&self.view, it));
        self.look_at_rights();
        self.make_channel_room();
        loop {
            self.resume();
            if self.stalled.is_some() || self.checks_secret {
                break;
            }
            let Some(event) = self.conn.next_event(input, self.now) else {
                break;
            };
            self.event(event);
        }
        self.try_close();
        self.publishes.hand_over(&mut self.pipeline);
        self.settles.hand_over(&mut self.pipeline);
        self.balance();
        while let Some(sent) = self.pipeline.advance() {
            self.sent(sent);
        }
        self.confirm();
        self.deliver();
    }

    /// Whether the socket is to be read.
    pub(super) fn wants_input(&mut self) -> bool {
        let wanted = self.stalled.is_none()
            && !self.checks_secret
            && self.closing == Closing::No
            && self.waiting_bytes < WAITING_BYTES_MAX
            && self.conn.output().len() < OUTPUT_BYTES_MAX;
        self.conn.set_reading(wanted, self.now);
        wanted
    }

    pub(super) fn serving(&mut self) -> bool {
        let gateway = &self.gateway;
        *self.serving.get_or_insert_with(|| gateway.may_serve())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Bodies under way are held whole: they may not take more than what a connection may have on its way.
    pub(super) fn bound_incoming(&mut self) {
        if self.conn.incoming_bytes() > self.gateway.options().connection_bytes {
            let error = AmqpError::resource_error("too many bytes of unfinished messages");
            self.fail(ChannelId::CONNECTION, error);
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Login(login) => self.login(&login),
            Event::Open { vhost } => {
                let vhost = warren_amqp::ShortString::cut(&vhost);
                let Some(who) = self.who.clone() else {
                    return;
                };
                let found = find_vhost(self.gateway.clone(), who, vhost);
                self.operate(ChannelId::CONNECTION, found);
            }
            Event::ChannelOpened { channel } => self.open_channel(channel),
            Event::Request { channel, request } => self.take(channel, Step::Request(request)),
            Event::Publish { channel, publish } => {
                self.gateway.counters().amqp.received.add(1);
                self.take(channel, Step::Publish(publish));
            }
            Event::ChannelClose { channel, .. } => self.take(channel, Step::Close),
            Event::ChannelFailed { channel, error } => {
                debug!(peer = %self.peer, %channel, %error, "client failed its channel");
                self.drop_channel(channel);
            }
            Event::UpdateSecret { secret } => self.update_secret(&secret),
            Event::Close {
                reply_code,
                reply_text,
            } => {
                debug!(peer = %self.peer, reply_code, %reply_text, "client closes");
                self.closing = Closing::Asked;
            }
            Event::Failed { error } => {
                info!(peer = %self.peer, %error, "client failed its connection");
                self.drop_all();
            }
            Event::Ended { reason } => {
                debug!(peer = %self.peer, ?reason, "connection ends");
                self.ended = true;
                self.drop_all();
            }
        }
    }

    fn open_channel(&mut self, channel: ChannelId) {
        // A slot comes again only after a million of them, long after the last word of its first channel.
        while self.slots.contains_key(&self.next_slot) {
            self.next_slot = (self.next_slot + 1) % PublishKey::SLOTS;
        }
        let slot = self.next_slot;
        self.next_slot = (slot + 1) % PublishKey::SLOTS;
        self.slots.insert(slot, channel);
        self.channels.insert(channel, Channel::new(slot));
    }

    /// Does a step, or lets it wait behind others.
    fn take(&mut self, channel: ChannelId, step: Step) {
        if let Err(error) = self.check_not_committing(channel, &step) {
            return self.fail(channel, error);
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        if state.is_done() {
            self.step(channel, step);
        } else {
            self.waiting_bytes += step.bytes();
            state.waiting.push_back(step);
        }
    }

    /// A step goes back to the head of its channel.
    pub(super) fn wait(&mut self, channel: ChannelId, step: Step) {
        if let Some(state) = self.channels.get_mut(&channel) {
            self.waiting_bytes += step.bytes();
            state.waiting.push_front(step);
        }
    }

    /// The channel waits for nothing any more; its waiting steps are done soon.
    pub(super) fn freed(&mut self, channel: ChannelId) {
        self.freed.push(channel);
    }

    fn resume(&mut self) {
        while self.stalled.is_none()
            && let Some(channel) = self.freed.last().copied()
        {
            let next = self
                .channels
                .get_mut(&channel)
                .filter(|state| state.is_free())
                .and_then(|state| state.waiting.pop_front());
            match next {
                Some(step) => {
                    self.waiting_bytes -= step.bytes();
                    self.step(channel, step);
                }
                None => self.freed.retain(|it| *it != channel),
            }
        }
    }

    /// Bytes for the message that waits are there.
    pub(super) fn admitted(&mut self, permit: crate::admission::Permit) {
        if let Some(stalled) = self.stalled.take() {
            self.has_time |= matches!(stalled.why, Why::Rate(_));
            self.publishes.admitted(permit, stalled.bytes);
        }
        self.conn.unblock();
        let waiting = self
            .channels
            .iter()
            .filter(|(_, it)| !it.waiting.is_empty());
        self.freed.extend(waiting.map(|(channel, _)| *channel));
    }

    /// Starts something that waits; the channel waits for its answer.
    pub(super) fn operate(
        &mut self,
        channel: ChannelId,
        operation: impl Future<Output = Answer> + Send + 'static,
    ) {
        let slot = self.channels.get(&channel).map_or(0, |it| it.slot);
        self.operations.push(Box::pin(async move {
            let answer = operation.await;
            Finished {
                channel,
                slot,
                answer,
            }
        }));
    }

    /// An operation has ended.
    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished {
            channel,
            slot,
            answer,
        } = finished;
        if let Answer::Declared {
            queue,
            exclusive: Some(id),
            ..
        } = &answer
        {
            self.exclusive.insert(queue.clone(), *id);
        }
        if channel == ChannelId::CONNECTION {
            return self.connection_answer(answer);
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        if state.slot != slot {
            return;
        }
        if let Answer::Ready { by, ready } = answer {
            // What the leader sent before it counted lies in the inbox.
            let events = self.broker.events_now();
            self.events(events);
            return self.ready_for_get(channel, by, ready);
        }
        state.busy = Busy::Free;
        self.freed.push(channel);
        self.answer(channel, answer);
    }

    fn connection_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Login(result) => self.logged_in(result),
            Answer::Secret(result) => self.secret_checked(result),
            Answer::Vhost(vhost, vhost_name) => self.open(vhost, vhost_name),
            Answer::Failed(error) => self.fail(ChannelId::CONNECTION, error),
            Answer::Cleaned => {
                self.exclusive.clear();
                self.conn.close_ok();
            }
            Answer::Reply(_)
            | Answer::Declared { .. }
            | Answer::Consume(_)
            | Answer::Get(_)
            | Answer::Ready { .. }
            | Answer::Again => {}
        }
    }

    /// Something was handed over to the shards.
    pub(super) fn sent(&mut self, sent: Sent) {
        for (token, why) in sent.refused {
            self.published(token, warren_shard::api::PublishOutcome::NotStarted(why));
        }
        for token in sent.unsettled {
            self.settle_answered(token, &[]);
        }
        if let Some(attached) = sent.attached {
            self.attach_sent(attached);
        }
    }

    /// Looks after what waits too long at this time at the latest.
    pub(super) fn check_at(&mut self, at: Time) {
        self.check_at = Some(self.check_at.map_or(at, |it| it.min(at)));
    }

    /// When [`AmqpSession::tick`] is to be called.
    pub(super) fn deadline(&self) -> Option<Time> {
        let own = self.check_at;
        let theirs = self.conn.deadline();
        own.into_iter().chain(theirs).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        if let Some(event) = self.conn.tick(self.now) {
            self.event(event);
        }
        if self.check_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.check_at = None;
        self.tell_blocked();
        let channels: Vec<ChannelId> = self.channels.keys().copied().collect();
        for channel in channels {
            self.look_for_late(channel);
            self.check(channel);
        }
    }

    fn check(&mut self, channel: ChannelId) {
        let Some(state) = self.channels.get(&channel) else {
            return;
        };
        match state.busy.until() {
            None => return,
            Some(until) if until > self.now => return self.check_at(until),
            Some(_) => {}
        }
        match &state.busy {
            Busy::Free | Busy::Operation | Busy::Behind => {}
            Busy::Attach(_) => {
                let error = AmqpError::internal_error("the queue's leader does not answer")
                    .for_method(warren_amqp::method::basic::Consume::ID);
                self.fail(channel, error);
            }
            Busy::Cancel(_) => self.end_cancel(channel),
            Busy::Get(_) => self.get_late(channel),
            Busy::Change(_) => {
                let error = AmqpError::internal_error("the queue's leader does not answer")
                    .for_method(warren_amqp::method::basic::Qos::ID);
                self.fail(channel, error);
            }
        }
    }
}
