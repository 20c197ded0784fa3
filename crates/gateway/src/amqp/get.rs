//! basic.get: a consumer with credit for one message, which ends when it has it or the queue's leader says that there is none.
//! Not here: consumers that stay (`consume`).

use std::time::Duration;

use warren_amqp::method::basic;
use warren_amqp::{AmqpError, ChannelId, Content, Got, Time};
use warren_shard::api::{ConsumerSpec, Delivery};
use warren_shard::{ConsumerOptions, Credit, Refill, ReturnKind};
use warren_topology::Queue;
use warren_types::ConsumerId;

use super::channel::{Busy, Unacked};
use super::consume::{ANSWER_MS_MAX, held};
use super::deliver::with_counts;
use super::operation::{Getter, count_ready};
use super::outbox::Flying;
use super::pipeline::Op;
use super::session::AmqpSession;
use crate::operations::target_of;

/// A message that is ready and not here yet is being read or marked: it is asked after again so late.
const COUNT_AGAIN: Duration = Duration::from_millis(10);

/// A get under way.
#[derive(Debug)]
pub(super) struct Getting {
    pub(super) until: Time,
    pub(super) no_ack: bool,
    pub(super) consumer: Option<ConsumerId>,
    delivery: Option<Delivery>,
    /// The credit is called back: the message comes before the answer, or there is none.
    pub(super) recalled: bool,
}

impl AmqpSession {
    /// The queue is there: asks its leader for one message.
    pub(super) fn get(&mut self, channel: ChannelId, it: &basic::Get, queue: &Queue) {
        let until = self.now.plus_ms(ANSWER_MS_MAX);
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        state.busy = Busy::Get(Box::new(Getting {
            until,
            no_ack: it.no_ack,
            consumer: None,
            delivery: None,
            recalled: false,
        }));
        let slot = state.slot;
        let options = ConsumerOptions {
            no_ack: it.no_ack,
            refill: Refill::Nothing,
            priority: 0,
            exclusive: false,
            uncommitted_max: 1,
            passing: true,
        };
        let credit = Credit {
            messages: 1,
            bytes: u64::from(u32::MAX),
        };
        let spec = Box::new(ConsumerSpec {
            target: target_of(queue),
            options,
            credit,
        });
        self.check_at(until);
        self.pipeline.push(Op::Attach {
            channel,
            slot,
            spec,
        });
    }

    fn getting(&mut self, channel: ChannelId) -> Option<&mut Getting> {
        match &mut self.channels.get_mut(&channel)?.busy {
            Busy::Get(getting) => Some(getting),
            Busy::Free
            | Busy::Operation
            | Busy::Behind
            | Busy::Attach(_)
            | Busy::Cancel(_)
            | Busy::Change(_) => None,
        }
    }

    pub(super) fn count_for_get(&mut self, channel: ChannelId, after: Duration) {
        let Some(getting) = self.getting(channel) else {
            return;
        };
        let (consumer, has_message) = (getting.consumer, getting.delivery.is_some());
        let target = consumer
            .and_then(|it| self.consumers.get(&it))
            .map(|it| it.target);
        if let (Some(consumer), Some(target), Some(caller)) =
            (consumer, target, self.caller.clone())
        {
            let getter = Getter {
                consumer,
                has_message,
            };
            self.operate(channel, count_ready(caller, getter, target, after));
        }
    }

    /// The leader has said how many messages are ready.
    pub(super) fn ready_for_get(&mut self, channel: ChannelId, by: Getter, ready: Option<u64>) {
        let Some(getting) = self.getting(channel) else {
            return;
        };
        if getting.consumer != Some(by.consumer) {
            return; // the answer to an earlier get
        }
        if by.has_message {
            return self.get_ok(channel, ready.unwrap_or(0));
        }
        if getting.delivery.is_some() || getting.recalled {
            return;
        }
        if ready == Some(0) {
            getting.recalled = true;
            self.pipeline.push(Op::Recall(by.consumer));
        } else {
            self.count_for_get(channel, COUNT_AGAIN);
        }
    }

    /// The message is here; what remains is counted now that it is not ready any more.
    pub(super) fn got(&mut self, channel: ChannelId, delivery: Delivery) {
        if let Some(getting) = self.getting(channel) {
            getting.delivery = Some(delivery);
            self.count_for_get(channel, Duration::ZERO);
        }
    }

    fn get_ok(&mut self, channel: ChannelId, remaining: u64) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let Busy::Get(getting) = std::mem::take(&mut state.busy) else {
            return;
        };
        let (Some(consumer), Some(delivery)) = (getting.consumer, getting.delivery) else {
            return;
        };
        let Some(target) = self.consumers.get(&consumer).map(|it| it.target) else {
            return;
        };
        let held = held(&delivery);
        let delivery_tag = if getting.no_ack {
            state.unacked.next_tag()
        } else {
            state.unacked.deliver(Unacked {
                consumer,
                target,
                held,
                since: self.now,
            })
        };
        self.watch(target, None);
        let got = Got {
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: delivery.message.exchange(),
            routing_key: delivery.message.routing_key(),
            message_count: u32::try_from(remaining).unwrap_or(u32::MAX),
        };
        let properties = with_counts(&delivery);
        let body = std::slice::from_ref(&delivery.message.body);
        let content = Content {
            properties: &properties,
            body,
        };
        let told = self.conn.get_ok(channel, &got, content);
        if !told {
            return; // the channel closes: its end returns the message
        }
        if getting.no_ack {
            let flying = Flying {
                consumer,
                target,
                held,
                credit: Credit::default(),
                no_ack: true,
            };
            self.outbox.encoded(self.conn.output().len(), flying);
            self.leave_after_get(consumer);
        } else {
            self.leave(channel, consumer);
        }
        self.freed(channel);
    }

    /// Without ack the message is settled once it is written; its consumer stays for that, and gets nothing more.
    fn leave_after_get(&mut self, consumer: ConsumerId) {
        self.pipeline.push(Op::Detach {
            consumer,
            returns: None,
        });
        if let Some(known) = self.consumers.get_mut(&consumer) {
            known.standing = super::consume::Standing::Leaving { unsettled: 1 };
            self.leaving += 1;
        }
    }

    /// The credit came back unspent: there was nothing.
    pub(super) fn get_empty(&mut self, channel: ChannelId) {
        let Some(getting) = self.getting(channel) else {
            return;
        };
        if getting.delivery.is_some() || !getting.recalled {
            return;
        }
        let consumer = getting.consumer;
        if let Some(state) = self.channels.get_mut(&channel) {
            state.busy = Busy::Free;
        }
        if let Some(consumer) = consumer {
            self.consumers.remove(&consumer);
            self.detach(consumer, ReturnKind::Untouched);
        }
        self.conn.send(channel, basic::GetEmpty {});
        self.freed(channel);
    }

    /// Nobody has answered a get in time.
    pub(super) fn get_late(&mut self, channel: ChannelId) {
        let error = AmqpError::internal_error("the queue's leader does not answer");
        self.fail(channel, error.for_method(basic::Get::ID));
    }
}
