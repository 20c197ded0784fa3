//! Refusing, and the end of channels and connections. Not here: what a consumer's end leads to (`consume`), the socket's (`run`).

use tracing::debug;
use warren_amqp::{AmqpError, ChannelId, Level};
use warren_shard::ReturnKind;
use warren_types::ConsumerId;

use super::channel::{Channel, Step};
use super::consume::Standing;
use super::listen::delete_queues;
use super::operation::Answer;
use super::session::{AmqpSession, Closing};
use super::settle::{Asker, NO_ACK};

impl AmqpSession {
    /// Refuses: the error's code says whether it costs the channel or the connection.
    pub(super) fn fail(&mut self, channel: ChannelId, error: AmqpError) {
        let level = if channel == ChannelId::CONNECTION {
            Level::Connection
        } else {
            error.level()
        };
        debug!(peer = %self.peer(), %channel, %error, "refused");
        let closes = self.channels.get(&channel).is_some_and(|state| {
            let mut waiting = state.waiting.iter();
            waiting.any(|step| matches!(step, Step::Close))
        });
        self.conn.fail(channel, error, self.now);
        match level {
            Level::Channel => {
                self.drop_channel(channel);
                if closes {
                    self.conn.channel_close_ok(channel);
                }
            }
            Level::Connection => self.drop_all(),
        }
    }

    /// A channel has gone: what it holds returns.
    pub(super) fn drop_channel(&mut self, channel: ChannelId) {
        let Some(state) = self.channels.remove(&channel) else {
            return;
        };
        self.slots.remove(&state.slot);
        self.forget_replies(state.replies.as_ref());
        self.waiting_bytes -= state.waiting.iter().map(Step::bytes).sum::<usize>();
        self.settles.hand_over(&mut self.pipeline);
        let of_it = self
            .consumers
            .iter()
            .filter(|(_, it)| it.channel == channel);
        let mut ids: Vec<ConsumerId> = of_it.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        for id in ids {
            let gone = self.consumers.remove(&id);
            if gone.is_some_and(|it| matches!(it.standing, Standing::Leaving { .. })) {
                self.leaving -= 1;
            }
            self.outbox.take(id);
            self.settle_flying(id);
            self.detach(id, ReturnKind::Failed);
        }
    }

    /// Without ack, what is encoded counts as delivered, unless it cannot be written any more.
    fn settle_flying(&mut self, consumer: ConsumerId) {
        for it in self.outbox.take_flying_without_ack(consumer) {
            if !self.gone {
                self.settles.add(Asker::NOBODY, it.target, it.held, NO_ACK);
            }
        }
        self.settles.hand_over(&mut self.pipeline);
    }

    pub(super) fn drop_all(&mut self) {
        while let Some((&channel, _)) = self.channels.first_key_value() {
            self.drop_channel(channel);
        }
    }

    /// The client has gone.
    pub(super) fn abandon(&mut self) {
        self.gone = true;
        self.drop_all();
        self.publishes.hand_over(&mut self.pipeline);
        self.settles.hand_over(&mut self.pipeline);
    }

    pub(super) fn try_close(&mut self) {
        let done = self.closing == Closing::Asked
            && self.pipeline.is_idle()
            && self.channels.values().all(Channel::is_done);
        if !done {
            return;
        }
        self.closing = Closing::Cleaning;
        self.publishes.hand_over(&mut self.pipeline);
        self.drop_all();
        let queues = std::mem::take(&mut self.exclusive);
        let caller = self.caller.clone();
        self.operate(ChannelId::CONNECTION, async move {
            if let Some(caller) = caller {
                delete_queues(&caller, queues).await;
            }
            Answer::Cleaned
        });
    }
}
