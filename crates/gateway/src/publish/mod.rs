//! The road of published messages from a session to the shards, the same for both fronts: route by this node's topology, group per
//! shard, hand over in order, track the answers. Admission comes before. Not here: decoding, and what clients are told.

mod group;
mod order;
mod outcome;
mod responders;
mod together;
mod tracker;

use std::sync::Arc;

use tokio::time::Instant;
use warren_shard::Session;
use warren_shard::api::{ProducerTag, PublishItem, PublishOutcome, RequestToken, Unavailable};
use warren_topology::{
    Denied, Operation, Published, Rights, RouteError, Target as TargetQueue, Targets, Topology,
};
use warren_types::{Alarm, Message, QueueId, RoutingKey, VhostId};

pub(crate) use order::Order;
pub(crate) use outcome::{Outcome, Place, Refused};
pub(crate) use together::Outputs;
pub(crate) use tracker::{PublishId, Resolved, Tracked, Tracker};

use crate::counters::FrontCounters;
use crate::gateway::Gateway;
use crate::message::with_spent_delay;
use crate::operations::target;
use group::{Group, HandOver, hand_over, push};
use responders::Responders;

/// A message that was decoded, checked and admitted.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) id: PublishId,
    pub(crate) vhost: VhostId,
    pub(crate) message: Message,
    /// Further routing keys (the headers CC and BCC, gRPC's `cc`).
    pub(crate) further_keys: Vec<RoutingKey>,
    pub(crate) producer: Option<ProducerTag>,
    /// It is refused if none of its queues has a consumer.
    pub(crate) needs_consumer: bool,
    /// As admitted; comes back with the outcome.
    pub(crate) bytes: u64,
}

impl Publish {
    /// Its number within its producer; 0 = none.
    fn sequence(&self) -> u64 {
        self.producer.as_ref().map_or(0, |it| it.sequence)
    }

    fn tracked(&self) -> Tracked {
        Tracked {
            id: self.id,
            bytes: self.bytes,
            sequence: self.sequence(),
        }
    }

    fn as_routed(&self) -> Published<'_> {
        let message = &self.message;
        Published::new(message.exchange.as_str(), message.routing_key.as_str())
            .with_further_keys(&self.further_keys)
            .with_properties(&message.properties)
    }
}

/// One session's publishes under way.
pub(crate) struct Publishing {
    gateway: Gateway,
    session: Arc<Session>,
    rights: Rights,
    tracker: Tracker,
    /// Where the message that is being routed goes, each queue once.
    routed: Targets,
    /// What is routed and not handed over, per shard in the order of its first message.
    groups: Vec<Group>,
    under_way: Option<HandOver>,
    /// Nothing is begun after this.
    deadline: Option<Instant>,
    /// Known already, not collected yet.
    resolved: Vec<Resolved>,
    order: Order,
    /// What was refused first since it was last asked.
    held_back: Option<HeldBack>,
}

/// A message that was refused because of what its queues would need.
#[derive(Clone, Debug)]
pub(crate) struct HeldBack {
    pub(crate) why: WhyHeldBack,
    pub(crate) vhost: VhostId,
    pub(crate) targets: Vec<TargetQueue>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WhyHeldBack {
    Low(Alarm),
    OverQuota,
}

impl Publishing {
    /// `rights`: whose messages these are.
    pub(crate) fn new(gateway: Gateway, session: Arc<Session>, rights: Rights) -> Self {
        Self {
            gateway,
            session,
            rights,
            tracker: Tracker::default(),
            routed: Targets::new(),
            groups: Vec::new(),
            under_way: None,
            deadline: None,
            resolved: Vec::new(),
            order: Order::default(),
            held_back: None,
        }
    }

    /// Its messages are not begun after the deadline: they are answered as not started.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    /// Whether the user is there still, and may use the vhost.
    pub(crate) fn check_open(&self) -> Result<(), Denied> {
        self.rights
            .may(&self.gateway.topology(), Operation::OpenVhost)
    }

    /// Messages without an outcome.
    pub(crate) fn unresolved(&self) -> usize {
        self.tracker.len()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.tracker.is_empty() && self.resolved.is_empty()
    }

    /// Whether `hand_over` has something to do. Route nothing more meanwhile: what waits here is bounded by one batch.
    pub(crate) fn has_to_hand_over(&self) -> bool {
        self.under_way.is_some() || !self.groups.is_empty()
    }

    /// Routes a batch. A negative answer (no queue, no exchange) is given from a recent copy only, else the topology's leader is
    /// asked once; outcomes that are known at once wait in `collect`.
    pub(crate) async fn route(&mut self, batch: impl IntoIterator<Item = Publish>) {
        let broker = self.gateway.broker().clone();
        let mut view = broker.topology().current();
        let mut is_certain = false;
        let mut cannot_tell = false;
        let mut received = 0;
        let mut responders = Responders::default();
        for publish in batch {
            let mut found = self.may_and_find(&view, &publish);
            if !found && !is_certain && !cannot_tell {
                if broker.topology().is_recent() {
                    // It may have grown since the batch began.
                    view = broker.topology().current();
                    is_certain = true;
                } else if let Ok(fresh) = broker.topology().fresh().await {
                    view = fresh;
                    is_certain = true;
                } else {
                    cannot_tell = true;
                }
                found = self.may_and_find(&view, &publish);
            }
            received += 1;
            if found {
                let refused = match self.hindrance(&view, &publish) {
                    None => self.without_consumer(&publish, &mut responders).await,
                    refused @ Some(_) => refused,
                };
                match refused {
                    None => self.queue_up(&view, publish),
                    Some(refused) => self.refuse(publish, refused),
                }
            } else if is_certain {
                let mut outcome = self.negative(&view, &publish);
                if outcome == Outcome::Unrouted {
                    outcome = self.stored_nowhere(&publish);
                }
                self.resolve(publish, outcome);
            } else {
                self.order.refused_anywhere([publish.sequence()]);
                self.resolve(
                    publish,
                    Outcome::Refused(Refused::Unavailable(Unavailable::NotReady)),
                );
            }
        }
        self.front().received.add(received);
    }

    /// Why a message does not go now to the queues that were found last.
    fn hindrance(&mut self, view: &Topology, publish: &Publish) -> Option<Refused> {
        if let Some(refused) = self.held_back(view, publish.vhost) {
            return Some(refused);
        }
        let sequence = Some(publish.sequence()).filter(|it| *it != 0);
        let shards = self.routed.as_slice().iter().map(|it| it.shard);
        // Others of its batch may have been refused since that was looked at.
        let may_go = self.order.may_be_routed(sequence.into_iter())
            && self.order.may_go(sequence.as_slice(), shards);
        (!may_go).then_some(Refused::OutOfOrder)
    }

    /// A message for the queues that were found last.
    fn refuse(&mut self, publish: Publish, why: Refused) {
        if why.is_for_now() {
            let shards = self.routed.iter().map(|it| it.shard);
            self.order.refused(publish.sequence(), shards);
        }
        self.resolve(publish, Outcome::Refused(why));
    }

    /// What holds a message back that goes to the queues that were found last.
    fn held_back(&mut self, view: &Topology, vhost: VhostId) -> Option<Refused> {
        let (why, refused) = if self.gateway.quotas().is_over(vhost) {
            self.front().held_back_by_quota.add(1);
            (WhyHeldBack::OverQuota, Refused::OverQuota)
        } else {
            let alarm = self.gateway.stopped_by(self.routed.as_slice(), view)?;
            self.front().held_back(alarm);
            (WhyHeldBack::Low(alarm), Refused::Low(alarm))
        };
        self.held_back.get_or_insert_with(|| HeldBack {
            why,
            vhost,
            targets: self.routed.as_slice().to_vec(),
        });
        Some(refused)
    }

    /// What held messages back since it was last asked.
    pub(crate) fn take_held_back(&mut self) -> Option<HeldBack> {
        self.held_back.take()
    }

    /// Why a message is refused that wants a consumer, of the queues that were found last.
    async fn without_consumer(
        &mut self,
        publish: &Publish,
        responders: &mut Responders,
    ) -> Option<Refused> {
        if !publish.needs_consumer {
            return None;
        }
        let targets = self.routed.iter().map(|it| target(it.queue, it.shard));
        responders.refusal(&self.gateway, targets.collect()).await
    }

    /// A message that its publisher may send, and no queue takes.
    fn stored_nowhere(&self, publish: &Publish) -> Outcome {
        match responders::direct_reply(&self.gateway, publish) {
            Some(outcome) => outcome,
            None if publish.needs_consumer => {
                Outcome::Refused(Refused::NoResponders { queue: None })
            }
            None => Outcome::Unrouted,
        }
    }

    /// Only gRPC's sessions use this type.
    fn front(&self) -> &FrontCounters {
        &self.gateway.counters().grpc
    }

    fn resolve(&mut self, publish: Publish, outcome: Outcome) {
        self.resolved.push(Resolved {
            tracked: publish.tracked(),
            outcome,
            for_now: Vec::new(), // noted already
        });
    }

    /// One answer of a shard. What refused a message for now waits for it.
    fn answered(&mut self, token: RequestToken, outcome: PublishOutcome) {
        let Some(resolved) = self.tracker.resolve(token, outcome) else {
            return;
        };
        if !resolved.for_now.is_empty() {
            let view = self.gateway.topology();
            let queues = resolved.for_now.iter();
            let shards = queues.filter_map(|it| Some(view.queue_by_id(*it)?.shard));
            self.order.refused(resolved.tracked.sequence, shards);
        }
        self.resolved.push(resolved);
    }

    /// What its messages wait for, before they are routed.
    pub(crate) fn order(&mut self) -> &mut Order {
        &mut self.order
    }

    /// Whether the user may publish it: each message's exchange and key, and the user it names.
    fn may(&mut self, view: &Topology, publish: &Publish) -> Result<(), Denied> {
        let message = &publish.message;
        let exchange = message.exchange.as_str();
        self.rights
            .may_publish(view, exchange, message.routing_key.as_str())?;
        for key in &publish.further_keys {
            self.rights.may_publish(view, exchange, key.as_str())?;
        }
        match message.properties.user_id() {
            Some(user_id) => self.rights.may(view, Operation::PublishAs { user_id }),
            None => Ok(()),
        }
    }

    fn may_and_find(&mut self, view: &Topology, publish: &Publish) -> bool {
        self.may(view, publish).is_ok() && self.find(view, publish)
    }

    /// Whether there is a queue to go to; `routed` then holds all of them.
    fn find(&mut self, view: &Topology, publish: &Publish) -> bool {
        let found = view.route(publish.vhost, &publish.as_routed(), &mut self.routed);
        found.is_ok() && !self.routed.is_empty()
    }

    fn negative(&mut self, view: &Topology, publish: &Publish) -> Outcome {
        if let Err(denied) = self.may(view, publish) {
            return Outcome::Refused(Refused::Denied(denied));
        }
        match view.route(publish.vhost, &publish.as_routed(), &mut self.routed) {
            Ok(()) => Outcome::Unrouted,
            Err(RouteError::NoSuchVhost { .. }) => Outcome::Refused(Refused::NoSuchVhost),
            Err(RouteError::NoSuchExchange { exchange }) => {
                Outcome::Refused(Refused::NoSuchExchange { exchange })
            }
            Err(RouteError::InternalExchange { exchange }) => {
                Outcome::Refused(Refused::InternalExchange { exchange })
            }
        }
    }

    /// Tracks a message and puts it into its targets' groups.
    fn queue_up(&mut self, view: &Topology, publish: Publish) {
        self.front().routed.add(1);
        let tracked = publish.tracked();
        let Publish {
            vhost,
            message,
            producer,
            ..
        } = publish;
        let message = with_spent_delay(message, view, vhost);
        if let [target] = *self.routed.as_slice() {
            let token = self.tracker.one(tracked, target.queue);
            let item = PublishItem {
                token,
                queue: target.queue,
                message,
                producer,
            };
            return push(&mut self.groups, target.shard, item);
        }
        let queues: Vec<QueueId> = self.routed.iter().map(|target| target.queue).collect();
        for (token, target) in self
            .tracker
            .many(tracked, queues)
            .zip(self.routed.as_slice())
        {
            let (message, producer) = (message.clone(), producer.clone());
            let item = PublishItem {
                token,
                queue: target.queue,
                message,
                producer,
            };
            push(&mut self.groups, target.shard, item);
        }
    }

    /// Hands what is routed over, shard after shard; waits while a shard has too much unconfirmed.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call goes on where this one was.
    pub(crate) async fn hand_over(&mut self) {
        loop {
            let under_way = match &mut self.under_way {
                Some(under_way) => under_way,
                None => {
                    if self.groups.is_empty() {
                        return;
                    }
                    let group = self.groups.remove(0);
                    let session = Arc::clone(&self.session);
                    self.under_way
                        .insert(hand_over(session, group, self.deadline))
                }
            };
            let refused = under_way.await;
            self.under_way = None;
            if let Some((tokens, why)) = refused {
                for token in tokens {
                    self.answered(token, PublishOutcome::NotStarted(why));
                }
            }
        }
    }

    /// Takes the answers of the shards in.
    pub(crate) fn published(&mut self, answers: Vec<(RequestToken, PublishOutcome)>) {
        for (token, outcome) in answers {
            self.answered(token, outcome);
        }
    }

    /// The outcomes that are known since the last call.
    pub(crate) fn collect(&mut self) -> std::vec::Drain<'_, Resolved> {
        self.count_outcomes();
        self.resolved.drain(..)
    }

    fn count_outcomes(&self) {
        let (mut confirmed, mut unroutable, mut failed) = (0, 0, 0);
        for resolved in &self.resolved {
            match &resolved.outcome {
                Outcome::Committed { .. } | Outcome::Scheduled { .. } | Outcome::Duplicate => {
                    confirmed += 1;
                }
                Outcome::Unrouted => unroutable += 1,
                Outcome::Refused(Refused::Low(_) | Refused::OverQuota) => {} // counted as held back
                Outcome::Refused(
                    Refused::NotStored { .. }
                    | Refused::Unavailable(_)
                    | Refused::Unknown
                    | Refused::CrossShard
                    | Refused::TogetherTooLarge { .. }
                    | Refused::Aborted
                    | Refused::OutOfOrder
                    | Refused::NoResponders { .. }
                    | Refused::Denied(_)
                    | Refused::NoSuchVhost
                    | Refused::NoSuchExchange { .. }
                    | Refused::InternalExchange { .. },
                ) => failed += 1,
            }
        }
        let front = self.front();
        front.confirmed.add(confirmed);
        front.unroutable.add(unroutable);
        front.failed.add(failed);
    }

    /// Forgets what has no outcome: not begun, and begun with an unknown outcome.
    pub(crate) fn give_up(&mut self) -> GivenUp {
        let mut not_started = Vec::new();
        for group in self.groups.drain(..) {
            for item in group.items {
                let outcome = PublishOutcome::NotStarted(Unavailable::NotReady);
                not_started.extend(
                    self.tracker
                        .resolve(item.token, outcome)
                        .map(|it| it.tracked.id),
                );
            }
        }
        // What is being handed over may be taken yet.
        self.under_way = None;
        GivenUp {
            not_started,
            unknown: self.tracker.give_up(),
        }
    }
}

/// What was given up on.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    pub(crate) not_started: Vec<PublishId>,
    pub(crate) unknown: Vec<PublishId>,
}
