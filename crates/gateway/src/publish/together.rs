//! The road of an atomic batch: all its messages are stored, or none; so all their queues must be in one shard (features A20).
//! Not here: that the shard keeps to it (`warren-queue`).

use std::collections::BTreeSet;
use std::sync::Arc;

use warren_shard::api::{PublishItem, RequestToken, Unavailable};
use warren_topology::Topology;
use warren_types::{QueueId, ShardId};

use super::group::{Group, Storing};
use super::responders::{Responders, is_direct_reply};
use super::{Outcome, Publish, PublishId, Publishing, Refused};
use crate::message::{counted_bytes, with_spent_delay};

/// Routed messages that come with an ack.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) items: Vec<PublishItem>,
    /// The queues of each message; none takes an optional one.
    pub(crate) targets: Vec<Vec<QueueId>>,
}

impl Publishing {
    /// Routes a batch of which all or none is to be stored. One that is refused here is refused whole: each message with its own reason,
    /// or because of the others.
    pub(crate) async fn route_together(
        &mut self,
        batch: Vec<Publish>,
        is_mandatory: impl Fn(PublishId) -> bool,
    ) {
        self.front().received.add(batch.len());
        let Some(view) = self.certain_view(&batch).await else {
            let refused = Refused::Unavailable(Unavailable::NotReady);
            let sequences = batch.iter().map(Publish::sequence);
            self.order.refused_anywhere(sequences);
            return self.resolve_all(batch, Outcome::Refused(refused));
        };
        let mut shards: BTreeSet<ShardId> = BTreeSet::new();
        let mut known: Vec<Option<Outcome>> = Vec::with_capacity(batch.len());
        let mut responders = Responders::default();
        let mut bytes: u64 = 0;
        for publish in &batch {
            known.push(match self.known_outcome(&view, publish, &mut shards) {
                None => {
                    let copies = self.routed.as_slice().len() as u64;
                    let own = counted_bytes(&publish.message).saturating_mul(copies);
                    bytes = bytes.saturating_add(own);
                    let refused = self.without_consumer(publish, &mut responders).await;
                    refused.map(Outcome::Refused)
                }
                Some(Outcome::Unrouted) if publish.needs_consumer => {
                    Some(Outcome::Refused(Refused::NoResponders { queue: None }))
                }
                outcome @ Some(_) => outcome,
            });
        }
        let is_refused = |(publish, known): (&Publish, &Option<Outcome>)| match known {
            Some(Outcome::Refused(_)) => true,
            Some(Outcome::Unrouted) => is_mandatory(publish.id),
            Some(Outcome::Committed { .. } | Outcome::Scheduled { .. } | Outcome::Duplicate)
            | None => false,
        };
        if batch.iter().zip(&known).any(is_refused) {
            let mut refused = batch.iter().zip(&known).filter(|it| is_refused(*it));
            if refused.all(|(_, known)| known.as_ref().is_some_and(Outcome::is_for_now)) {
                let sequences = batch.iter().map(Publish::sequence);
                sequences.for_each(|it| self.order.refused(it, shards.iter().copied()));
            }
            for (publish, known) in batch.into_iter().zip(known) {
                let aborted = Outcome::Refused(Refused::Aborted);
                let is_mandatory = is_mandatory(publish.id);
                let outcome = known.filter(|it| *it != Outcome::Unrouted || is_mandatory);
                self.resolve(publish, outcome.unwrap_or(aborted));
            }
            return;
        }
        if shards.len() > 1 {
            return self.resolve_all(batch, Outcome::Refused(Refused::CrossShard));
        }
        let limit = self.gateway.options().together_bytes_max();
        if bytes > limit {
            let refused = Refused::TogetherTooLarge { bytes, limit };
            return self.resolve_all(batch, Outcome::Refused(refused));
        }
        let Some(shard) = shards.pop_first() else {
            return self.resolve_all(batch, Outcome::Unrouted);
        };
        if !self.may_go_together(&batch, shard) {
            return self.resolve_all(batch, Outcome::Refused(Refused::OutOfOrder));
        }
        self.queue_up_together(&view, shard, batch.into_iter().zip(known));
    }

    /// Where messages go that come with an ack in a shard (features X4): all of them into queues of it. They are not tracked: the settle
    /// answers for them. Their tokens are their places in the batch.
    ///
    /// # Errors
    /// What is wrong with which of them; nothing is said of the others.
    pub(crate) async fn route_outputs(
        &mut self,
        batch: Vec<Publish>,
        shard: ShardId,
        is_mandatory: impl Fn(PublishId) -> bool,
    ) -> Result<Outputs, Vec<(PublishId, Outcome)>> {
        let of_all = |batch: &[Publish], why: Refused| {
            let each = batch.iter();
            let each = each.map(|it| (it.id, Outcome::Refused(why.clone())));
            each.collect::<Vec<_>>()
        };
        let Some(view) = self.certain_view(&batch).await else {
            return Err(of_all(&batch, Refused::Unavailable(Unavailable::NotReady)));
        };
        let mut shards: BTreeSet<ShardId> = BTreeSet::new();
        let mut wrong = Vec::new();
        for publish in &batch {
            match self.known_outcome(&view, publish, &mut shards) {
                Some(Outcome::Unrouted) if !is_mandatory(publish.id) => {}
                Some(outcome) => wrong.push((publish.id, outcome)),
                None => {}
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if shards.iter().any(|it| *it != shard) {
            return Err(of_all(&batch, Refused::CrossShard));
        }
        let mut outputs = Outputs::default();
        for (token, publish) in (0_u64..).zip(batch) {
            let is_routed = self.find(&view, &publish);
            let targets: Vec<QueueId> = if is_routed {
                self.routed.iter().map(|it| it.queue).collect()
            } else {
                Vec::new()
            };
            let message = with_spent_delay(publish.message, &view, publish.vhost);
            let items = targets.iter().map(|&queue| PublishItem {
                token: RequestToken(token),
                queue,
                message: message.clone(),
                producer: publish.producer.clone(),
            });
            outputs.items.extend(items);
            outputs.targets.push(targets);
        }
        Ok(outputs)
    }

    /// A copy of the topology by which a negative answer is certain, or nothing is negative. `None`: there is none now.
    async fn certain_view(&mut self, batch: &[Publish]) -> Option<Arc<Topology>> {
        let broker = self.gateway.broker().clone();
        let view = broker.topology().current();
        if batch.iter().all(|it| self.may_and_find(&view, it)) {
            return Some(view);
        }
        if broker.topology().is_recent() {
            // It may have grown since.
            return Some(broker.topology().current());
        }
        broker.topology().fresh().await.ok()
    }

    /// What is known of a message before it is handed over; notes the shards it goes to.
    fn known_outcome(
        &mut self,
        view: &Topology,
        publish: &Publish,
        shards: &mut BTreeSet<ShardId>,
    ) -> Option<Outcome> {
        if is_direct_reply(publish) {
            // It goes to whoever waits, now: it cannot come with what is stored.
            return Some(Outcome::Refused(Refused::CrossShard));
        }
        if !self.may_and_find(view, publish) {
            return Some(self.negative(view, publish));
        }
        shards.extend(self.routed.as_slice().iter().map(|it| it.shard));
        let refused = self.held_back(view, publish.vhost)?;
        Some(Outcome::Refused(refused))
    }

    /// Whether nothing that was sent before them is to come again first. If not, they are to come again as well.
    fn may_go_together(&mut self, batch: &[Publish], shard: ShardId) -> bool {
        let sequences = batch.iter().map(Publish::sequence);
        let sequences: Vec<u64> = sequences.filter(|it| *it != 0).collect();
        let may_go = self.order.may_go(&sequences, std::iter::once(shard));
        if !may_go {
            let each = sequences.into_iter();
            each.for_each(|it| self.order.refused(it, [shard]));
        }
        may_go
    }

    fn queue_up_together(
        &mut self,
        view: &Topology,
        shard: ShardId,
        batch: impl Iterator<Item = (Publish, Option<Outcome>)>,
    ) {
        let before = std::mem::take(&mut self.groups);
        for (publish, known) in batch {
            match known {
                Some(outcome) => self.resolve(publish, outcome),
                None if self.find(view, &publish) => self.queue_up(view, publish),
                None => self.resolve(publish, Outcome::Unrouted),
            }
        }
        let items = std::mem::replace(&mut self.groups, before).into_iter();
        self.groups.push(Group {
            shard,
            items: items.flat_map(|it| it.items).collect(),
            storing: Storing::Together,
        });
    }

    fn resolve_all(&mut self, batch: Vec<Publish>, outcome: Outcome) {
        for publish in batch {
            self.resolve(publish, outcome.clone());
        }
    }
}
