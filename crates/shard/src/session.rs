//! A client session's handle on the broker: what it publishes, consumes and settles, on whatever shard. Not here: protocols (`gateway`).

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use warren_queue::dispatch::io::{Credit, Held};
use warren_queue::entry::{PurgeStates, ReturnKind};
use warren_types::{ConsumerId, SessionId, ShardId};

use crate::api::{
    ConsumerSpec, PublishItem, QueueStats, RequestToken, SessionEvent, SettleSpec, StatsDepth,
    Target, TogetherSpec, Unavailable,
};
use crate::broker::Broker;
use crate::link::outbox::Outbox;
use crate::uplink::door::{Ask, Request};
use crate::uplink::encode::{Group, Publish};

/// One client connection's channel or stream. Dropping it returns everything its consumers hold, counted as failed attempts.
pub struct Session {
    id: SessionId,
    broker: Broker,
    inbox: Outbox<SessionEvent>,
    consumers: Mutex<BTreeMap<ConsumerId, ShardId>>,
}

impl Session {
    pub(crate) fn new(id: SessionId, broker: Broker) -> Self {
        Self {
            id,
            broker,
            inbox: Outbox::default(),
            consumers: Mutex::default(),
        }
    }

    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Waits for what there is to hear; `None` once the session is closed.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped before it completes.
    pub async fn events(&self) -> Option<VecDeque<SessionEvent>> {
        self.inbox.take().await
    }

    /// What there is to hear now.
    #[must_use]
    pub fn events_now(&self) -> VecDeque<SessionEvent> {
        self.inbox.take_now()
    }

    /// Hands messages over, in order; waits while the shard has too much unconfirmed. Each token is answered once by
    /// [`SessionEvent::Published`], at the latest 30 seconds later. What is not on its way to a leader at `deadline` is not begun.
    ///
    /// # Errors
    /// Nothing was taken.
    pub async fn publish(
        &self,
        shard: ShardId,
        items: Vec<PublishItem>,
        deadline: Option<Instant>,
    ) -> Result<(), Unavailable> {
        let publishes = items.into_iter().map(|item| Publish {
            item,
            inbox: self.inbox.clone(),
            deadline,
            group: Group::Alone,
        });
        self.broker.publish(shard, publishes.collect()).await
    }

    /// As `publish`, but all messages are stored, or none (features A20).
    ///
    /// # Errors
    /// Nothing was taken.
    pub async fn publish_together(
        &self,
        shard: ShardId,
        items: Vec<PublishItem>,
        deadline: Option<Instant>,
    ) -> Result<(), Unavailable> {
        let count = items.len();
        let publishes = (1..).zip(items).map(|(number, item)| Publish {
            item,
            inbox: self.inbox.clone(),
            deadline,
            group: Group::Together {
                following: count.saturating_sub(number),
            },
        });
        self.broker.publish(shard, publishes.collect()).await
    }

    /// Opens a consumer; answered by [`SessionEvent::Attached`], its deliveries follow.
    ///
    /// # Errors
    /// Nothing was opened.
    pub async fn attach(&self, spec: ConsumerSpec) -> Result<ConsumerId, Unavailable> {
        self.attach_holding(spec, Vec::new()).await
    }

    /// Opens a consumer whose client holds deliveries already, handed over by another node ([`Broker::take_over`]), with the bytes
    /// of their bodies. The credit is what is left beside them. The answer says, in their order, which of them it holds.
    ///
    /// # Errors
    /// Nothing was opened.
    pub async fn attach_holding(
        &self,
        spec: ConsumerSpec,
        held: Vec<(Held, u64)>,
    ) -> Result<ConsumerId, Unavailable> {
        let consumer = self.broker.next_consumer();
        let shard = spec.target.shard;
        self.consumers.lock().insert(consumer, shard);
        let asked = self
            .broker
            .ask(
                shard,
                Request::Attach {
                    consumer,
                    spec,
                    held,
                    inbox: self.inbox.clone(),
                },
            )
            .await;
        if asked.is_err() {
            self.consumers.lock().remove(&consumer);
        }
        asked.map(|()| consumer)
    }

    /// Adds credit.
    ///
    /// # Errors
    /// The shard's uplink has stopped.
    pub async fn credit(&self, consumer: ConsumerId, add: Credit) -> Result<(), Unavailable> {
        self.ask_consumer(consumer, Request::Credit { consumer, add })
            .await
    }

    /// Calls unspent credit back; answered by [`SessionEvent::Recalled`], in order with deliveries.
    ///
    /// # Errors
    /// The shard's uplink has stopped.
    pub async fn recall(&self, consumer: ConsumerId, up_to: Credit) -> Result<(), Unavailable> {
        self.ask_consumer(consumer, Request::Recall { consumer, up_to })
            .await
    }

    /// Settles or returns deliveries, whoever holds them; answered by [`SessionEvent::Settled`] after commit.
    ///
    /// # Errors
    /// Nothing was asked.
    pub async fn settle(&self, spec: SettleSpec, token: RequestToken) -> Result<(), Unavailable> {
        let shard = spec.target.shard;
        self.broker
            .ask(
                shard,
                Request::Settle {
                    spec,
                    token,
                    inbox: self.inbox.clone(),
                },
            )
            .await
    }

    /// Ends deliveries in one, whoever holds them; answered by [`SessionEvent::Settled`] after commit, with one result.
    ///
    /// # Errors
    /// Nothing was asked.
    pub async fn settle_together(
        &self,
        spec: TogetherSpec,
        token: RequestToken,
    ) -> Result<(), Unavailable> {
        let (shard, inbox) = (spec.shard, self.inbox.clone());
        let asked = Request::SettleTogether { spec, token, inbox };
        self.broker.ask(shard, asked).await
    }

    /// Ends a consumer. `None`: it is cancelled, and what it holds can still be settled; otherwise all of it returns.
    ///
    /// # Errors
    /// The shard's uplink has stopped.
    pub async fn detach(
        &self,
        consumer: ConsumerId,
        returns: Option<ReturnKind>,
    ) -> Result<(), Unavailable> {
        let asked = self
            .ask_consumer(consumer, Request::Detach { consumer, returns })
            .await;
        if returns.is_some() {
            self.consumers.lock().remove(&consumer);
        }
        asked
    }

    /// Removes a queue's messages of some states, none that is with a consumer; answered by [`SessionEvent::Purged`].
    ///
    /// # Errors
    /// Nothing was asked.
    pub async fn purge(
        &self,
        target: Target,
        token: RequestToken,
        states: PurgeStates,
    ) -> Result<(), Unavailable> {
        self.broker
            .ask(
                target.shard,
                Request::Ask(Ask::Purge {
                    queue: target.queue,
                    token,
                    states,
                    inbox: self.inbox.clone(),
                }),
            )
            .await
    }

    async fn ask_consumer(
        &self,
        consumer: ConsumerId,
        request: Request,
    ) -> Result<(), Unavailable> {
        let shard = self.consumers.lock().get(&consumer).copied();
        match shard {
            Some(shard) => self.broker.ask(shard, request).await,
            None => Ok(()), // it has ended
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inbox.close();
        let consumers = std::mem::take(&mut *self.consumers.lock());
        if !consumers.is_empty() {
            self.broker.detach_all(consumers);
        }
    }
}

impl Broker {
    /// Counts of a queue, from its leader. `None`: the leader has no such queue (yet).
    ///
    /// # Errors
    /// The leader could not be asked: the depth is not known, which is not zero.
    pub async fn queue_stats(&self, target: Target) -> Result<Option<QueueStats>, Unavailable> {
        self.queue_stats_in(target, StatsDepth::Counts).await
    }

    /// As [`Self::queue_stats`], as deep as is asked.
    ///
    /// # Errors
    /// As there.
    pub async fn queue_stats_in(
        &self,
        target: Target,
        depth: StatsDepth,
    ) -> Result<Option<QueueStats>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Ask(Ask::Stats {
            queue: target.queue,
            depth,
            reply,
        });
        self.ask(target.shard, request).await?;
        answer.await.map_err(|_| Unavailable::NoQuorum)
    }
}
