//! basic.ack, nack, reject and recover. Not here: what a settle does to a queue.

use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, DeliveryTag};
use warren_shard::api::{AnswerTime, RequestToken, ReturnWait, SettleAction, SettleSpec, Target};
use warren_shard::{Held, ReturnKind, SettleReason, SettleResult};

use super::channel::Unacked;
use super::pipeline::{Op, Pipeline};
use super::session::AmqpSession;
use super::shares::Share;

/// Settles of one request: what travels between nodes in one piece is bounded.
const ITEMS_MAX: usize = 4096;
/// Groups that one more settle is compared with.
const GROUPS_SEEN: usize = 8;

pub(super) const ACK: SettleAction = SettleAction::Settle(SettleReason::Acked);
const REJECT: SettleAction = SettleAction::Settle(SettleReason::Rejected);
/// basic.reject counts as a failed attempt, basic.nack does not (features A5).
pub(super) const REQUEUE_FAILED: SettleAction = SettleAction::Return {
    kind: ReturnKind::Failed,
    wait: ReturnWait::ByPolicy,
};
pub(super) const REQUEUE: SettleAction = SettleAction::Return {
    kind: ReturnKind::Untouched,
    wait: ReturnWait::ByPolicy,
};
/// A delivery without ack is settled when it is written.
pub(super) const NO_ACK: SettleAction = SettleAction::Settle(SettleReason::NoAck);

/// Whom the answer to a settle is for: a channel, by its slot, or nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asker(pub(super) u64);

impl Asker {
    pub(super) const NOBODY: Self = Self(u64::MAX);

    pub(super) fn channel(slot: u32) -> Self {
        Self(slot.into())
    }

    /// The channel's commit.
    pub(super) fn commit(slot: u32) -> Self {
        Self(Self::COMMIT | u64::from(slot))
    }

    const COMMIT: u64 = 1 << 32;

    pub(super) fn slot(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }

    /// Of [`Asker::commit`].
    pub(super) fn commit_slot(self) -> Option<u32> {
        u32::try_from(self.0.checked_sub(Self::COMMIT)?).ok()
    }
}

/// Settles of one turn, gathered per asker and queue.
#[derive(Debug, Default)]
pub(super) struct Settles {
    groups: Vec<(Asker, SettleSpec)>,
}

impl Settles {
    /// Adds one; true: it begins a request, which will be answered.
    pub(super) fn add(
        &mut self,
        asker: Asker,
        target: Target,
        held: Held,
        action: SettleAction,
    ) -> bool {
        let mut known = self.groups.iter_mut().rev().take(GROUPS_SEEN);
        let known = known.find(|(of, it)| {
            *of == asker && it.target == target && it.action == action && it.items.len() < ITEMS_MAX
        });
        if let Some((_, group)) = known {
            group.items.push(held);
            return false;
        }
        let spec = SettleSpec {
            target,
            items: vec![held],
            action,
            answer: AnswerTime::Soon,
            outputs: Vec::new(),
            said: None,
        };
        self.groups.push((asker, spec));
        true
    }

    pub(super) fn hand_over(&mut self, pipeline: &mut Pipeline) {
        for (asker, spec) in self.groups.drain(..) {
            let token = RequestToken(asker.0);
            pipeline.push(Op::Settle { spec, token });
        }
    }
}

impl AmqpSession {
    pub(super) fn ack(&mut self, channel: ChannelId, it: &basic::Ack) -> Result<(), AmqpError> {
        self.settle(channel, it.delivery_tag, it.multiple, ACK)
            .map_err(|error| error.for_method(basic::Ack::ID))
    }

    pub(super) fn nack(&mut self, channel: ChannelId, it: &basic::Nack) -> Result<(), AmqpError> {
        let action = if it.requeue { REQUEUE } else { REJECT };
        self.settle(channel, it.delivery_tag, it.multiple, action)
            .map_err(|error| error.for_method(basic::Nack::ID))
    }

    pub(super) fn reject(
        &mut self,
        channel: ChannelId,
        it: &basic::Reject,
    ) -> Result<(), AmqpError> {
        let action = if it.requeue { REQUEUE_FAILED } else { REJECT };
        self.settle(channel, it.delivery_tag, false, action)
            .map_err(|error| error.for_method(basic::Reject::ID))
    }

    pub(super) fn recover(&mut self, channel: ChannelId, reply: bool) -> Result<(), AmqpError> {
        self.settle(channel, DeliveryTag(0), true, REQUEUE)?;
        if reply {
            self.conn.send(channel, basic::RecoverOk {});
        }
        Ok(())
    }

    fn settle(
        &mut self,
        channel: ChannelId,
        tag: DeliveryTag,
        multiple: bool,
        action: SettleAction,
    ) -> Result<(), AmqpError> {
        let mut settled = std::mem::take(&mut self.settled);
        let mut result = Ok(());
        if let Some(state) = self.channels.get_mut(&channel) {
            result = state.unacked.settle(tag, multiple, &mut settled);
        }
        if !settled.is_empty() && self.keep_settles(channel, &mut settled, action)? {
            self.settled = settled;
            return result;
        }
        for (tag, unacked) in settled.drain(..) {
            self.settle_one(channel, tag, unacked, action);
        }
        self.settled = settled;
        result
    }

    pub(super) fn settle_one(
        &mut self,
        channel: ChannelId,
        tag: DeliveryTag,
        unacked: Unacked,
        action: SettleAction,
    ) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        // One that is another's by now is not settled; its credit was given back when it was lost.
        if state.lost.is_empty() || !state.lost.remove(&tag) {
            let asker = Asker::channel(state.slot);
            let Unacked { target, held, .. } = unacked;
            state.settling += u64::from(self.settles.add(asker, target, held, action));
        }
        self.on_share(unacked.consumer, Share::settled);
        if self.leaving > 0 {
            self.left(unacked.consumer);
        }
    }

    /// A request to settle has been answered: AMQP has no answer to it, but what asks about queues waits for it.
    pub(super) fn settle_answered(&mut self, token: RequestToken, results: &[SettleResult]) {
        if let Some(slot) = Asker(token.0).commit_slot() {
            return self.commit_answered(slot, token, results);
        }
        let slot = Asker(token.0).slot();
        let Some(&channel) = slot.and_then(|slot| self.slots.get(&slot)) else {
            return;
        };
        if let Some(state) = self.channels.get_mut(&channel) {
            state.settling = state.settling.saturating_sub(1);
            if self.any_shared {
                self.unbalanced.insert(channel);
            }
            self.caught_up(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_types::{Position, QueueId, ShardId};

    use super::*;

    #[test]
    fn askers_are_told_apart() {
        for slot in [0, 7, u32::MAX] {
            let (channel, commit) = (Asker::channel(slot), Asker::commit(slot));
            assert_eq!((channel.slot(), channel.commit_slot()), (Some(slot), None));
            assert_eq!((commit.slot(), commit.commit_slot()), (None, Some(slot)));
        }
        let nobody = Asker::NOBODY;
        assert_eq!((nobody.slot(), nobody.commit_slot()), (None, None));
    }

    #[test]
    fn settles_of_a_turn_are_gathered_per_queue_and_action() {
        let target = |queue| Target {
            queue: QueueId(queue),
            shard: ShardId(1),
        };
        let held = |position| Held {
            position: Position(position),
            attempt: Default::default(),
        };
        let (mut settles, one) = (Settles::default(), Asker::channel(1));
        for position in 1..=10 {
            let began = settles.add(one, target(1), held(position), ACK);
            assert_eq!(began, position == 1);
            settles.add(one, target(2), held(position), ACK);
        }
        assert!(settles.add(one, target(1), held(11), REQUEUE));
        assert!(settles.add(Asker::NOBODY, target(1), held(12), ACK));
        let sizes = |settles: &Settles| -> Vec<usize> {
            settles
                .groups
                .iter()
                .map(|(_, it)| it.items.len())
                .collect()
        };
        assert_eq!(sizes(&settles), [10, 10, 1, 1]);
        for position in 0..ITEMS_MAX as u64 {
            settles.add(one, target(1), held(position), ACK);
        }
        assert!(sizes(&settles).iter().all(|items| *items <= ITEMS_MAX));
    }
}
