//! A connection's publishes: routed by this node's topology, grouped per shard, tracked until they are stored or refused.
//! Not here: what the client is told (`steps`, `session`), handing over (`pipeline`).

use std::collections::HashMap;
use std::sync::Arc;

use warren_amqp::Body;
use warren_shard::api::{PublishItem, PublishOutcome, RequestToken};
use warren_topology::{Published, RouteError, Target, Targets, Topology};
use warren_types::{Message, Properties, QueueId, ShardId, VhostId};

use super::pipeline::{Op, Pipeline};
use crate::admission::{ConnectionAdmission, Permit};
use crate::publish::{PublishId, Resolved, Tracked, Tracker};

/// Admitted at once for the messages of one read.
const ADMIT_AHEAD_BYTES: u64 = 64 * 1024;
/// What a message on its way costs beside its own bytes.
const OVERHEAD_BYTES: u64 = 256;
/// A publish's number on its channel stands in the low bits of its id, the channel's slot above.
const NUMBER_BITS: u32 = 44;

/// A mandatory message that may still have to be returned: its queues may be gone when it comes there.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) exchange: Box<str>,
    pub(super) routing_key: Box<str>,
    pub(super) properties: Properties,
    pub(super) body: Body,
}

/// Names a publish: the opening of its channel, and its number there from 1 on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PublishKey {
    pub(super) slot: u32,
    pub(super) number: u64,
}

impl PublishKey {
    /// Slots beyond this begin again.
    pub(super) const SLOTS: u32 = 1 << (u64::BITS - NUMBER_BITS);

    fn id(self) -> PublishId {
        let number = self.number & ((1 << NUMBER_BITS) - 1);
        PublishId((u64::from(self.slot) << NUMBER_BITS) | number)
    }

    fn tracked(self, bytes: u64) -> Tracked {
        Tracked {
            id: self.id(),
            bytes,
            sequence: 0, // AMQP has none
        }
    }

    pub(super) fn of(id: PublishId) -> Self {
        let slot = u32::try_from(id.0 >> NUMBER_BITS).unwrap_or(u32::MAX);
        Self {
            slot,
            number: id.0 & ((1 << NUMBER_BITS) - 1),
        }
    }
}

pub(super) struct Publishes {
    tracker: Tracker,
    targets: Targets,
    /// Routed and not handed over, per shard.
    groups: Vec<(ShardId, Vec<PublishItem>)>,
    admission: ConnectionAdmission,
    held: Permit,
    /// Admitted, not used yet.
    ahead: u64,
    kept: HashMap<PublishId, Kept>,
    /// Bytes and number of messages that come with an ack, until it is answered.
    with_acks: HashMap<RequestToken, (u64, usize)>,
}

impl Publishes {
    pub(super) fn new(admission: ConnectionAdmission) -> Self {
        Self {
            tracker: Tracker::default(),
            targets: Targets::new(),
            groups: Vec::new(),
            held: admission.nothing(),
            admission,
            ahead: 0,
            kept: HashMap::new(),
            with_acks: HashMap::new(),
        }
    }

    pub(super) fn admission(&self) -> &ConnectionAdmission {
        &self.admission
    }

    /// What is counted for a message while it is on its way.
    pub(super) fn charge(message_bytes: u64) -> u64 {
        message_bytes.saturating_add(OVERHEAD_BYTES)
    }

    /// Takes bytes for one message; false: the session must wait for them.
    pub(super) fn admit(&mut self, bytes: u64) -> bool {
        if self.ahead < bytes {
            let wanted = bytes.max(ADMIT_AHEAD_BYTES);
            let more = match self.admission.try_admit(wanted) {
                Some(permit) => Some((permit, wanted)),
                None => self
                    .admission
                    .try_admit(bytes)
                    .map(|permit| (permit, bytes)),
            };
            let Some((permit, taken)) = more else {
                return false;
            };
            self.admitted(permit, taken);
        }
        self.ahead -= bytes;
        true
    }

    /// Bytes that the session waited for.
    pub(super) fn admitted(&mut self, permit: Permit, bytes: u64) {
        self.held.merge(permit);
        self.ahead += bytes;
    }

    /// Gives back what was admitted and not used.
    pub(super) fn release_ahead(&mut self) {
        self.held.release(std::mem::take(&mut self.ahead));
    }

    /// A message that got its outcome without leaving.
    pub(super) fn release(&mut self, bytes: u64) {
        self.held.release(bytes);
    }

    /// Finds the queues of a message.
    ///
    /// # Errors
    /// [`RouteError`] if there is nothing to publish to.
    pub(super) fn route(
        &mut self,
        view: &Topology,
        vhost: VhostId,
        message: &Published<'_>,
    ) -> Result<bool, RouteError> {
        view.route(vhost, message, &mut self.targets)?;
        Ok(!self.targets.is_empty())
    }

    /// The queues that `route` found last.
    pub(super) fn targets(&self) -> &[Target] {
        self.targets.as_slice()
    }

    /// Sends a message to the queues that `route` found for it.
    pub(super) fn queue_up(
        &mut self,
        key: PublishKey,
        message: Message,
        bytes: u64,
        kept: Option<Kept>,
    ) {
        let tracked = key.tracked(bytes);
        if let Some(kept) = kept {
            self.kept.insert(tracked.id, kept);
        }
        if let [target] = self.targets.as_slice() {
            let token = self.tracker.one(tracked, target.queue);
            push(
                &mut self.groups,
                target.shard,
                item(token, target.queue, message),
            );
            return;
        }
        let queues: Vec<QueueId> = self.targets.iter().map(|target| target.queue).collect();
        for (token, target) in self
            .tracker
            .many(tracked, queues)
            .zip(self.targets.as_slice())
        {
            let item = item(token, target.queue, message.clone());
            push(&mut self.groups, target.shard, item);
        }
    }

    /// One message of several that are handed over apart from the others: an item for each of its queues.
    pub(super) fn track(
        &mut self,
        key: PublishKey,
        message: &Message,
        bytes: u64,
        queues: Vec<QueueId>,
        kept: Option<Kept>,
    ) -> Vec<PublishItem> {
        if let Some(kept) = kept {
            self.kept.insert(key.id(), kept);
        }
        let tokens: Vec<RequestToken> = if let [queue] = queues.as_slice() {
            vec![self.tracker.one(key.tracked(bytes), *queue)]
        } else {
            let tokens = self.tracker.many(key.tracked(bytes), queues.clone());
            tokens.collect()
        };
        let items = tokens.into_iter().zip(queues);
        let items = items.map(|(token, queue)| item(token, queue, message.clone()));
        items.collect()
    }

    /// Messages whose answer is that to an ack take so many bytes until then.
    pub(super) fn hold_with_ack(&mut self, ack: RequestToken, bytes: u64, messages: usize) {
        self.with_acks.insert(ack, (bytes, messages));
    }

    /// How many they were.
    pub(super) fn release_with_ack(&mut self, ack: RequestToken) -> usize {
        let (bytes, messages) = self.with_acks.remove(&ack).unwrap_or_default();
        self.held.release(bytes);
        messages
    }

    /// Hands over what was routed since the last call.
    pub(super) fn hand_over(&mut self, pipeline: &mut Pipeline) {
        for (shard, items) in self.groups.drain(..) {
            pipeline.push(Op::Publish { shard, items });
        }
        if self.ahead > 0 {
            self.release_ahead();
        }
    }

    /// One answer; what became of the message if it was the last.
    pub(super) fn resolve(
        &mut self,
        token: RequestToken,
        outcome: PublishOutcome,
    ) -> Option<(Resolved, Option<Kept>)> {
        let resolved = self.tracker.resolve(token, outcome)?;
        self.held.release(resolved.tracked.bytes);
        let kept = if self.kept.is_empty() {
            None
        } else {
            self.kept.remove(&resolved.tracked.id)
        };
        Some((resolved, kept))
    }
}

pub(super) fn item(token: RequestToken, queue: QueueId, message: Message) -> PublishItem {
    PublishItem {
        token,
        queue,
        message,
        producer: None,
    }
}

fn push(groups: &mut Vec<(ShardId, Vec<PublishItem>)>, shard: ShardId, item: PublishItem) {
    match groups.iter_mut().rev().find(|(known, _)| *known == shard) {
        Some((_, items)) => items.push(item),
        None => groups.push((shard, vec![item])),
    }
}

/// The topology as it was when a turn of the session began.
pub(super) type View = Arc<Topology>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;

    #[test]
    fn publish_key_survives_its_id() {
        let key = PublishKey {
            slot: PublishKey::SLOTS - 1,
            number: (1 << NUMBER_BITS) - 1,
        };
        assert_eq!(PublishKey::of(key.id()), key);
        let first = PublishKey { slot: 0, number: 1 };
        assert_eq!(PublishKey::of(first.id()), first);
    }

    #[test]
    fn admission_goes_ahead_and_gives_back_what_was_not_used() {
        let admission = Admission::new(1 << 30, 100_000).connection();
        let mut publishes = Publishes::new(admission.clone());
        assert!(publishes.admit(1_000));
        assert!(admission.try_admit(40_000).is_none());
        publishes.release_ahead();
        assert!(admission.try_admit(99_000).is_some());
        assert!(admission.try_admit(99_001).is_none());
        // Less than what is taken ahead is left: the message alone still fits.
        assert!(publishes.admit(99_000));
        assert!(!publishes.admit(1));
        publishes.release(100_000);
        assert!(publishes.admit(1));
    }
}
