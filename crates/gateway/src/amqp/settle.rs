//! basic.ack, nack, reject and recover. Not here: what a settle does to a queue.

use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, DeliveryTag};
use warren_shard::api::{SettleAction, SettleSpec, Target};
use warren_shard::{Held, ReturnKind, SettleReason};

use super::channel::Unacked;
use super::pipeline::{Op, Pipeline};
use super::session::AmqpSession;

/// Settles of one request: what travels between nodes in one piece is bounded.
const ITEMS_MAX: usize = 4096;
/// Groups that one more settle is compared with.
const GROUPS_SEEN: usize = 8;

const ACK: SettleAction = SettleAction::Settle(SettleReason::Acked);
const REJECT: SettleAction = SettleAction::Settle(SettleReason::Rejected);
/// basic.reject counts as a failed attempt, basic.nack does not (features A5).
const REQUEUE_FAILED: SettleAction = SettleAction::Return {
    kind: ReturnKind::Failed,
    delay_ms: None,
};
pub(super) const REQUEUE: SettleAction = SettleAction::Return {
    kind: ReturnKind::Untouched,
    delay_ms: None,
};
/// A delivery without ack is settled when it is written.
pub(super) const NO_ACK: SettleAction = SettleAction::Settle(SettleReason::NoAck);

/// Settles of one turn, gathered per queue.
#[derive(Debug, Default)]
pub(super) struct Settles {
    groups: Vec<SettleSpec>,
}

impl Settles {
    pub(super) fn add(&mut self, target: Target, held: Held, action: SettleAction) {
        let known =
            self.groups.iter_mut().rev().take(GROUPS_SEEN).find(|it| {
                it.target == target && it.action == action && it.items.len() < ITEMS_MAX
            });
        match known {
            Some(group) => group.items.push(held),
            None => self.groups.push(SettleSpec {
                target,
                items: vec![held],
                action,
            }),
        }
    }

    pub(super) fn hand_over(&mut self, pipeline: &mut Pipeline) {
        for spec in self.groups.drain(..) {
            pipeline.push(Op::Settle(spec));
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
        for (tag, unacked) in settled.drain(..) {
            self.settle_one(channel, tag, unacked, action);
        }
        self.settled = settled;
        result
    }

    fn settle_one(
        &mut self,
        channel: ChannelId,
        tag: DeliveryTag,
        unacked: Unacked,
        action: SettleAction,
    ) {
        let state = self.channels.get_mut(&channel);
        if state.is_some_and(|it| !it.lost.is_empty() && it.lost.remove(&tag)) {
            // It is another's: nothing is settled, but the client has room for one more.
            self.lend_one(unacked.consumer);
        } else {
            self.settles.add(unacked.target, unacked.held, action);
        }
        if self.leaving > 0 {
            self.left(unacked.consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_types::{Position, QueueId, ShardId};

    use super::*;

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
        let mut settles = Settles::default();
        for position in 1..=10 {
            settles.add(target(1), held(position), ACK);
            settles.add(target(2), held(position), ACK);
        }
        settles.add(target(1), held(11), REQUEUE);
        let sizes: Vec<usize> = settles.groups.iter().map(|it| it.items.len()).collect();
        assert_eq!(sizes, [10, 10, 1]);
        for position in 0..ITEMS_MAX as u64 {
            settles.add(target(1), held(position), ACK);
        }
        assert!(settles.groups.iter().all(|it| it.items.len() <= ITEMS_MAX));
    }
}
