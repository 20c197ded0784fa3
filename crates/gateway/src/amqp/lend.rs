//! Credit of consumers: basic.qos, lending to queues' leaders, and the change from a limit that the leader keeps by itself to one that
//! the session shares out (`shares`). Not here: who gets a message, deliveries (`deliver`), how a consumer begins and ends (`consume`).

use warren_amqp::method::basic;
use warren_amqp::{ChannelId, Time};
use warren_shard::api::ConsumerSpec;
use warren_shard::{ConsumerOptions, Credit, Refill, ReturnKind};
use warren_types::ConsumerId;

use super::channel::Busy;
use super::consume::{ANSWER_MS_MAX, Consumer, Standing};
use super::outbox::OUT_BYTES_MAX;
use super::pipeline::Op;
use super::session::AmqpSession;
use super::shares::{Move, Party, Share, balance};

/// Messages lent without a prefetch.
const WINDOW_MESSAGES: u64 = 8192;
/// Bytes lent to a consumer, whatever its prefetch: what waits for a client that does not read is bounded by them. They are lent again
/// as they go into the socket.
const WINDOW_BYTES: u64 = OUT_BYTES_MAX as u64;
/// All consumers of a connection are lent little more than this: those that come when there are many get less.
const CONNECTION_BYTES: u64 = 16 << 20;
/// None is lent less; a message may be larger.
const WINDOW_BYTES_MIN: u64 = 16 << 10;
/// Such a part of what was lent must have been written before more is lent.
const WINDOW_PART: u64 = 4;
/// A queue's leader lets so many settles be uncommitted before credit waits for them, or the prefetch if that is more.
const UNCOMMITTED_MIN: u32 = 1_000;
/// A channel with so many requests to settle unanswered is lent nothing more.
const SETTLING_MAX: u64 = 256;

/// How a consumer's credit in messages comes back; bytes come back by being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lending {
    /// By settles, at the leader: it has a prefetch of its own that never changed.
    Counted,
    /// By being written.
    Window,
    /// By this session, with regard to the channel's other consumers.
    Shared(Share),
    /// One message, once.
    Get,
}

/// Consumers on their way to [`Lending::Shared`], one after the other; then the basic.qos that asked for it is answered.
#[derive(Debug)]
pub(super) struct Changing {
    pub(super) until: Time,
    qos: basic::Qos,
    left: Vec<ConsumerId>,
    /// Its credit is called back; then a successor takes its place.
    leaving: Option<ConsumerId>,
    /// Whose place is taken, and by whom.
    coming: Option<(ConsumerId, Consumer)>,
}

/// What a consumer is attached with under a channel's present limits.
pub(super) struct Terms {
    pub(super) credit: Credit,
    pub(super) refill: Refill,
    pub(super) uncommitted_max: u32,
}

impl AmqpSession {
    pub(super) fn terms(&self, channel: ChannelId, no_ack: bool) -> Terms {
        let state = self.channels.get(&channel);
        let prefetch = state.map_or(0, |it| it.prefetch);
        let is_shared = state.is_some_and(|it| it.shared_limit > 0);
        let (messages, refill) = match (no_ack, is_shared, prefetch) {
            (false, true, _) => (0, Refill::Nothing),
            (true, _, _) | (false, false, 0) => (WINDOW_MESSAGES, Refill::Nothing),
            (false, false, prefetch) => (prefetch.into(), Refill::Messages),
        };
        let bytes = window_bytes(self.consumers.len());
        Terms {
            credit: Credit { messages, bytes },
            refill,
            uncommitted_max: u32::from(prefetch).max(UNCOMMITTED_MIN),
        }
    }

    /// How the credit of a consumer attached under [`AmqpSession::terms`] comes back.
    pub(super) fn lending(&self, channel: ChannelId, options: &ConsumerOptions) -> Lending {
        let state = self.channels.get(&channel);
        let is_shared = state.is_some_and(|it| it.shared_limit > 0);
        if options.refill != Refill::Nothing {
            Lending::Counted
        } else if is_shared && !options.no_ack {
            let limit = state.map_or(0, |it| it.prefetch);
            Lending::Shared(Share::with_limit(limit.into()))
        } else {
            Lending::Window
        }
    }

    /// basic.qos: `global` sets the channel's shared limit, at once; else the limit of consumers to come, and of those there are where
    /// the client wants that (features C30 to C32).
    pub(super) fn qos(&mut self, channel: ChannelId, it: basic::Qos) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        if it.global {
            state.shared_limit = it.prefetch_count;
        } else {
            state.prefetch = it.prefetch_count;
        }
        let to_change = self.to_change(channel, &it);
        self.retune(channel, &it);
        if to_change.is_empty() {
            self.conn.send(channel, basic::QosOk {});
            return;
        }
        let until = self.now.plus_ms(ANSWER_MS_MAX);
        if let Some(state) = self.channels.get_mut(&channel) {
            state.busy = Busy::Change(Box::new(Changing {
                until,
                qos: it,
                left: to_change,
                leaving: None,
                coming: None,
            }));
        }
        self.check_at(until);
        self.change_next(channel);
    }

    /// Whether every consumer's limit follows basic.qos: so it is with this client, or in this vhost.
    fn all_follow(&self) -> bool {
        let vhost = self.caller.as_ref();
        let vhost = vhost.and_then(|it| self.view.vhost_by_id(it.vhost));
        self.is_live_client || vhost.is_some_and(|it| it.settings.live_prefetch)
    }

    /// Consumers that the change regards and whose credit the leader refills by itself.
    fn to_change(&self, channel: ChannelId, it: &basic::Qos) -> Vec<ConsumerId> {
        let all_follow = self.all_follow();
        let regarded = |consumer: &Consumer| {
            let by_itself = match consumer.lending {
                Lending::Counted | Lending::Window => !consumer.no_ack,
                Lending::Shared(_) | Lending::Get => false,
            };
            let concerned = if it.global {
                it.prefetch_count > 0
            } else {
                all_follow || consumer.live
            };
            consumer.channel == channel
                && consumer.standing == Standing::Active
                && by_itself
                && concerned
        };
        let mut ids: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| regarded(consumer))
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// New limits for those that are shared out here already.
    fn retune(&mut self, channel: ChannelId, it: &basic::Qos) {
        let all_follow = self.all_follow();
        for consumer in self.consumers.values_mut() {
            if consumer.channel == channel
                && !it.global
                && (all_follow || consumer.live)
                && let Lending::Shared(share) = &mut consumer.lending
            {
                share.limit = it.prefetch_count.into();
            }
        }
        self.unbalanced.insert(channel);
    }

    fn changing(&mut self, channel: ChannelId) -> Option<&mut Changing> {
        match &mut self.channels.get_mut(&channel)?.busy {
            Busy::Change(changing) => Some(changing),
            Busy::Free
            | Busy::Operation
            | Busy::Behind
            | Busy::Attach(_)
            | Busy::Cancel(_)
            | Busy::Get(_) => None,
        }
    }

    /// Calls the next consumer's credit back, or answers.
    fn change_next(&mut self, channel: ChannelId) {
        let Some(changing) = self.changing(channel) else {
            return;
        };
        changing.coming = None;
        changing.leaving = changing.left.pop();
        match changing.leaving {
            Some(consumer) => {
                self.settles.hand_over(&mut self.pipeline);
                self.pipeline.push(Op::Recall(consumer));
            }
            None => {
                if let Some(state) = self.channels.get_mut(&channel) {
                    state.busy = Busy::Free;
                }
                self.conn.send(channel, basic::QosOk {});
                self.unbalanced.insert(channel);
                self.freed(channel);
            }
        }
    }

    /// The credit is back and the last deliveries are here: a successor takes over. What the client holds stays with the old one.
    pub(super) fn change_recalled(&mut self, channel: ChannelId, id: ConsumerId) {
        let Some(old) = self.consumers.get(&id).cloned() else {
            return;
        };
        let Some(changing) = self.changing(channel).filter(|it| it.leaving == Some(id)) else {
            return;
        };
        changing.leaving = None;
        let prefetch = if changing.qos.global {
            old.prefetch
        } else {
            changing.qos.prefetch_count
        };
        let mut options = old.options;
        options.refill = Refill::Nothing;
        let credit = Credit {
            messages: 0,
            bytes: old.window_bytes,
        };
        let target = old.target;
        changing.coming = Some((
            id,
            Consumer {
                lending: Lending::Shared(Share::default()),
                standing: Standing::Attaching,
                options,
                prefetch,
                window_bytes: credit.bytes,
                owed: Credit::default(),
                ..old
            },
        ));
        self.leave_softly(channel, id);
        let Some(state) = self.channels.get(&channel) else {
            return;
        };
        let spec = Box::new(ConsumerSpec {
            target,
            options,
            credit,
        });
        let slot = state.slot;
        self.pipeline.push(Op::Attach {
            channel,
            slot,
            spec,
        });
    }

    /// The successor is known to its leader: it begins with what the client holds of the one before.
    pub(super) fn change_attached(&mut self, channel: ChannelId, id: ConsumerId) {
        let Some((before, mut consumer)) = self.changing(channel).and_then(|it| it.coming.take())
        else {
            return self.detach(id, ReturnKind::Untouched);
        };
        let held = self.unsettled(channel, before);
        consumer.lending = Lending::Shared(Share::inherit(consumer.prefetch.into(), held));
        self.any_shared = true;
        if let Some(old) = self.consumers.get_mut(&before) {
            old.heir = Some(id);
        }
        self.consumers.insert(id, consumer);
    }

    /// The successor may consume, or its queue has gone meanwhile.
    pub(super) fn change_answered(
        &mut self,
        channel: ChannelId,
        id: ConsumerId,
        may_consume: bool,
    ) {
        let Some(tag) = self.consumers.get(&id).map(|it| it.tag.clone()) else {
            return;
        };
        if may_consume {
            if let Some(state) = self.channels.get_mut(&channel) {
                state.consumers.insert(tag, id);
            }
        } else {
            self.consumers.remove(&id);
            self.detach(id, ReturnKind::Untouched);
            if let Some(state) = self.channels.get_mut(&channel) {
                state.consumers.remove(&tag);
            }
            self.conn.cancel_consumer(channel, &tag);
        }
        self.change_next(channel);
    }

    /// A consumer whose credit was to be called back has gone.
    pub(super) fn change_gone(&mut self, channel: ChannelId, id: ConsumerId) {
        if self.is_changing(channel, id) {
            self.change_next(channel);
        }
    }

    pub(super) fn is_changing(&mut self, channel: ChannelId, id: ConsumerId) -> bool {
        self.changing(channel)
            .is_some_and(|it| it.leaving == Some(id))
    }

    /// Books a change of a consumer's share, and shares out anew what that frees.
    pub(super) fn on_share(&mut self, id: ConsumerId, change: impl FnOnce(&mut Share)) {
        if !self.any_shared {
            return;
        }
        let heir = self.consumers.get(&id).and_then(|it| it.heir);
        if let Some(consumer) = self.consumers.get_mut(&heir.unwrap_or(id))
            && let Lending::Shared(share) = &mut consumer.lending
        {
            change(share);
            self.unbalanced.insert(consumer.channel);
        }
    }

    /// Shares out the credit of channels where something has changed.
    pub(super) fn balance(&mut self) {
        while let Some(channel) = self.unbalanced.pop_first() {
            let Some(state) = self.channels.get(&channel) else {
                continue;
            };
            if state.settling > SETTLING_MAX {
                continue; // an answer brings it back here
            }
            let mut parties: Vec<Party<'_>> = self
                .consumers
                .iter_mut()
                .filter(|(_, consumer)| consumer.channel == channel)
                .filter_map(|(id, consumer)| match &mut consumer.lending {
                    Lending::Shared(share) => Some(Party {
                        consumer: *id,
                        takes: consumer.standing == Standing::Active,
                        share,
                    }),
                    Lending::Counted | Lending::Window | Lending::Get => None,
                })
                .collect();
            let mut moves = Vec::new();
            balance(
                state.shared_limit.into(),
                &mut self.lending_turn,
                &mut parties,
                &mut moves,
            );
            for it in moves {
                self.pipeline.push(match it {
                    Move::Lend { consumer, messages } => {
                        let add = Credit { messages, bytes: 0 };
                        Op::Credit { consumer, add }
                    }
                    Move::Recall { consumer } => Op::Recall(consumer),
                });
            }
        }
    }

    /// Deliveries were written, or are not to be: lends as much again, in steps.
    pub(super) fn lend_again(&mut self, id: ConsumerId, written: Credit) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let owed = &mut consumer.owed;
        match consumer.lending {
            Lending::Counted | Lending::Shared(_) => {}
            Lending::Window => owed.messages += written.messages,
            Lending::Get => return,
        }
        owed.bytes = owed.bytes.saturating_add(written.bytes);
        let due = owed.messages >= WINDOW_MESSAGES / WINDOW_PART
            || owed.bytes >= consumer.window_bytes / WINDOW_PART;
        if due && consumer.standing == Standing::Active {
            let add = std::mem::take(owed);
            self.pipeline.push(Op::Credit { consumer: id, add });
        }
    }
}

/// Bytes lent to one more consumer of a connection that has so many.
fn window_bytes(consumers: usize) -> u64 {
    let all = u64::try_from(consumers)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    (CONNECTION_BYTES / all).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_of_one_connection_are_lent_little_more_than_what_few_are() {
        assert!((0..16).all(|it| window_bytes(it) == WINDOW_BYTES));
        let lent = |consumers| (0..consumers).map(window_bytes).sum::<u64>();
        assert!(lent(1_000) < 6 * CONNECTION_BYTES);
        assert!(lent(10_000) < 16 * CONNECTION_BYTES);
    }
}
