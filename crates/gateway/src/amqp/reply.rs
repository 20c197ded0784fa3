//! Direct replies on a channel (features C45): the consumer of `amq.rabbitmq.reply-to`, requests that name it, replies to addresses.
//! Not here: addresses and the way to other nodes (`replies`).

use std::sync::Arc;

use tokio::sync::mpsc;
use warren_amqp::method::{basic, queue};
use warren_amqp::{
    AmqpError, ChannelId, Content, Delivery as Deliver, Outcome, Publish, ShortString,
};
use warren_types::{Properties, PropertiesBuilder};

use super::caller::Caller;
use super::consume::generated_tag;
use super::operation::Answer;
use super::outbox::OUT_BYTES_MAX;
use super::session::AmqpSession;
use crate::replies::{DIRECT_REPLY_TO, Reply, ReplyAddress, ReplyDoor};

/// A channel's consumer of direct replies.
#[derive(Debug)]
pub(super) struct ReplyConsumer {
    pub(super) tag: Box<str>,
    address: ReplyAddress,
    /// The address as a routing key.
    text: Box<str>,
}

/// Where a session's replies come out; made when its first channel waits for some.
#[derive(Debug)]
pub(super) struct ReplyInbox {
    door: ReplyDoor,
    inbox: mpsc::Receiver<Reply>,
}

impl ReplyInbox {
    fn new() -> Self {
        let (door, inbox) = ReplyDoor::new();
        Self { door, inbox }
    }
}

/// Whether a name is, or would be, one of direct replies.
pub(super) fn is_reply_name(name: &str) -> bool {
    name.strip_prefix(DIRECT_REPLY_TO)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Waits for the next reply; for ever without an inbox.
///
/// # Cancel safety
/// Nothing is lost if the future is dropped before it completes.
pub(super) async fn next_reply(inbox: &mut Option<ReplyInbox>) -> Reply {
    let next = match inbox {
        Some(it) => it.inbox.recv().await,
        None => None,
    };
    match next {
        Some(reply) => reply,
        // The session holds a door itself, so that its inbox never ends.
        None => std::future::pending().await,
    }
}

/// queue.declare of such a name asks whether somebody waits there.
pub(super) async fn declare_reply_queue(caller: Arc<Caller>, it: queue::Declare) -> Answer {
    let name = &*it.queue;
    let waits = name == DIRECT_REPLY_TO
        || match ReplyAddress::parse(name) {
            Some(address) => caller.gateway.is_waiting(address).await,
            None => false,
        };
    if !waits {
        let vhost = &caller.vhost_name;
        let text = format_args!("no queue '{name}' in vhost '{vhost}'");
        return Answer::Failed(AmqpError::not_found(text).for_method(queue::Declare::ID));
    }
    let declare_ok = queue::DeclareOk {
        queue: ShortString::cut(name),
        message_count: 0,
        consumer_count: 1,
    };
    Answer::Reply((!it.no_wait).then(|| declare_ok.into()))
}

impl AmqpSession {
    /// basic.consume of `amq.rabbitmq.reply-to`.
    ///
    /// # Errors
    /// 406 with acks, and for a second one on the channel.
    pub(super) fn consume_replies(
        &mut self,
        channel: ChannelId,
        it: &basic::Consume,
    ) -> Result<(), AmqpError> {
        if !it.no_ack {
            let text = "reply consumer cannot acknowledge";
            return Err(AmqpError::precondition_failed(text));
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            return Ok(());
        };
        if state.replies.is_some() {
            let text = "reply consumer already set";
            return Err(AmqpError::precondition_failed(text));
        }
        let tag = if it.consumer_tag.is_empty() {
            generated_tag()
        } else {
            it.consumer_tag.to_string()
        };
        let address = ReplyAddress::new(self.gateway.broker().node());
        let inbox = self.replies.get_or_insert_with(ReplyInbox::new);
        self.gateway.replies().open(address.key, inbox.door.clone());
        let consumer_tag = ShortString::cut(&tag);
        state.replies = Some(ReplyConsumer {
            tag: tag.into_boxed_str(),
            address,
            text: address.text().into_boxed_str(),
        });
        if !it.no_wait {
            self.conn.send(channel, basic::ConsumeOk { consumer_tag });
        }
        Ok(())
    }

    /// False: the tag is not that of the channel's reply consumer.
    pub(super) fn cancel_replies(&mut self, channel: ChannelId, tag: &str) -> bool {
        let Some(state) = self.channels.get_mut(&channel) else {
            return false;
        };
        if state.replies.as_ref().is_none_or(|it| &*it.tag != tag) {
            return false;
        }
        if let Some(consumer) = state.replies.take() {
            self.gateway.replies().close(consumer.address.key);
        }
        true
    }

    pub(super) fn forget_replies(&self, consumer: Option<&ReplyConsumer>) {
        if let Some(consumer) = consumer {
            self.gateway.replies().close(consumer.address.key);
        }
    }

    /// Puts the channel's own address into a request that names `amq.rabbitmq.reply-to`.
    ///
    /// # Errors
    /// 406 if the channel does not wait for replies.
    pub(super) fn with_reply_address(
        &self,
        channel: ChannelId,
        mut it: Publish,
    ) -> Result<Publish, AmqpError> {
        if it.properties.is_empty() || it.properties.reply_to() != Some(DIRECT_REPLY_TO) {
            return Ok(it);
        }
        let state = self.channels.get(&channel);
        let consumer = state.and_then(|state| state.replies.as_ref());
        let consumer = consumer
            .ok_or_else(|| AmqpError::precondition_failed("fast reply consumer does not exist"))?;
        it.properties = with_reply_to(&it.properties, &consumer.text)?;
        Ok(it)
    }

    /// A publish to an address of direct replies: it goes there at once, and is confirmed whether somebody waits or not.
    pub(super) fn publish_reply(&mut self, channel: ChannelId, it: Publish) {
        let sent = match ReplyAddress::parse(&it.routing_key) {
            Some(address) => {
                let body = it.body.clone().into_bytes();
                self.gateway.reply(address, &it.properties, body)
            }
            None => false,
        };
        if !sent && it.mandatory {
            self.return_message(channel, &it);
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let key = state.next_publish();
        if let Some(confirms) = &mut state.confirms {
            confirms.tracker.publish();
        }
        self.resolved(key, Outcome::Ack);
    }

    /// A reply for one of this connection's channels.
    pub(super) fn reply(&mut self, reply: &Reply) {
        let waits = self.channels.iter_mut().find_map(|(channel, state)| {
            let consumer = state.replies.as_ref()?;
            (consumer.address.key == reply.key).then_some((*channel, state))
        });
        let Some((channel, state)) = waits else {
            return; // it has stopped waiting
        };
        let delivery_tag = state.unacked.next_tag();
        let Some(consumer) = &state.replies else {
            return;
        };
        let deliver = Deliver {
            consumer_tag: &consumer.tag,
            delivery_tag,
            redelivered: false,
            exchange: "",
            routing_key: &consumer.text,
        };
        let content = Content {
            properties: &reply.properties,
            body: std::slice::from_ref(&reply.body),
        };
        self.conn.deliver(channel, &deliver, content);
    }

    /// Replies are not taken while the client does not read: they are dropped when too many wait.
    pub(super) fn has_room_for_replies(&mut self) -> bool {
        self.conn.output().len() < OUT_BYTES_MAX
    }

    /// Takes the replies that are there.
    pub(super) fn take_replies(&mut self) {
        while self.has_room_for_replies()
            && let Some(inbox) = &mut self.replies
            && let Ok(reply) = inbox.inbox.try_recv()
        {
            self.reply(&reply);
        }
    }
}

fn with_reply_to(properties: &Properties, address: &str) -> Result<Properties, AmqpError> {
    PropertiesBuilder::from(properties)
        .reply_to(address)
        .build()
        .map_err(AmqpError::precondition_failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_direct_replies_are_known_by_their_beginning() {
        assert!(is_reply_name("amq.rabbitmq.reply-to"));
        assert!(is_reply_name("amq.rabbitmq.reply-to.1.forged"));
        assert!(!is_reply_name("amq.rabbitmq.reply-tomorrow"));
        assert!(!is_reply_name("orders"));
    }

    #[test]
    fn only_the_reply_address_of_a_request_changes() {
        let properties = PropertiesBuilder::new()
            .content_type("text/plain")
            .correlation_id("7")
            .reply_to(DIRECT_REPLY_TO)
            .build()
            .unwrap();
        let changed = with_reply_to(&properties, "amq.rabbitmq.reply-to.1.2").unwrap();
        assert_eq!(changed.reply_to(), Some("amq.rabbitmq.reply-to.1.2"));
        assert_eq!(changed.correlation_id(), Some("7"));
        assert_eq!(changed.content_type(), Some("text/plain"));
    }
}
