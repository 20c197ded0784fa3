//! Direct replies (features C45): who waits at which address of this node, and the way to addresses of others. A reply is delivered
//! at most once, and none waits for an answer. Not here: channels that wait (`amqp::reply`), the streams between nodes (`shard`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use warren_shard::DirectReply;
use warren_types::{NodeId, Properties};

use crate::gateway::Gateway;

/// What a client consumes and names to get an address of its own.
pub(crate) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// Replies that wait for one session; more are dropped.
pub(crate) const REPLIES_WAITING_MAX: usize = 1_024;
/// Bytes of them; a larger one is taken when nothing else waits.
const REPLY_BYTES_MAX: u32 = 4 << 20;
/// How long another node has to say whether somebody waits at an address.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// Where one channel waits for replies: the node, and a number nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ReplyAddress {
    pub(crate) node: NodeId,
    pub(crate) key: u128,
}

impl ReplyAddress {
    pub(crate) fn new(node: NodeId) -> Self {
        let key = rand::rng().random();
        Self { node, key }
    }

    /// As a routing key of the default exchange.
    pub(crate) fn text(self) -> String {
        format!("{DIRECT_REPLY_TO}.{:x}.{:032x}", self.node.0, self.key)
    }

    /// `None`: not an address, or not as this broker writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (node, key) = text
            .strip_prefix(DIRECT_REPLY_TO)?
            .strip_prefix('.')?
            .split_once('.')?;
        let address = Self {
            node: NodeId(u64::from_str_radix(node, 16).ok()?),
            key: u128::from_str_radix(key, 16).ok()?,
        };
        (address.text() == text).then_some(address)
    }
}

/// A reply on its way to a session.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) key: u128,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    /// Its part of what may wait.
    _room: OwnedSemaphorePermit,
}

/// Where replies for one session go in.
#[derive(Clone, Debug)]
pub(crate) struct ReplyDoor {
    sender: mpsc::Sender<Reply>,
    room: Arc<Semaphore>,
}

impl ReplyDoor {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Reply>) {
        let (sender, receiver) = mpsc::channel(REPLIES_WAITING_MAX);
        let room = usize::try_from(REPLY_BYTES_MAX).expect("usize has 32 bits at least");
        let room = Arc::new(Semaphore::new(room));
        (Self { sender, room }, receiver)
    }

    fn push(&self, reply: DirectReply) {
        let bytes = reply.properties.len() + reply.body.len();
        let charge = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .clamp(1, REPLY_BYTES_MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(charge) else {
            return; // at most once: the client does not read
        };
        let Ok(properties) = Properties::from_wire(reply.properties) else {
            return; // checked where it came in
        };
        // Full: as above.
        let _dropped = self.sender.try_send(Reply {
            key: reply.key,
            properties,
            body: reply.body,
            _room: room,
        });
    }
}

/// The addresses of this node.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    doors: Mutex<HashMap<u128, ReplyDoor>>,
}

impl Replies {
    pub(crate) fn open(&self, key: u128, door: ReplyDoor) {
        self.doors.lock().insert(key, door);
    }

    pub(crate) fn close(&self, key: u128) {
        self.doors.lock().remove(&key);
    }

    fn door(&self, key: u128) -> Option<ReplyDoor> {
        self.doors.lock().get(&key).cloned()
    }

    /// False: nobody waits there.
    fn deliver(&self, reply: DirectReply) -> bool {
        match self.door(reply.key) {
            Some(door) => {
                door.push(reply);
                true
            }
            None => false,
        }
    }
}

impl Gateway {
    /// Sends a reply. False: nobody is known to wait there; for an address of another node that is not known here.
    pub(crate) fn reply(&self, to: ReplyAddress, properties: &Properties, body: Bytes) -> bool {
        let reply = DirectReply {
            key: to.key,
            properties: properties.as_wire().clone(),
            body,
            probe: None,
        };
        if to.node == self.broker().node() {
            return self.replies().deliver(reply);
        }
        self.broker().send_reply(to.node, reply)
    }

    /// A reply from another node, or its question whether somebody waits.
    pub(crate) fn reply_came(&self, reply: DirectReply) {
        let Some((node, key)) = reply.probe else {
            self.replies().deliver(reply);
            return;
        };
        if self.replies().door(reply.key).is_some() {
            let answer = DirectReply {
                key,
                properties: Properties::default().as_wire().clone(),
                body: Bytes::new(),
                probe: None,
            };
            // Without an answer the asker takes it that nobody waits.
            let _sent = self.broker().send_reply(node, answer);
        }
    }

    /// Whether somebody waits at an address, wherever it is.
    pub(crate) async fn is_waiting(&self, at: ReplyAddress) -> bool {
        if at.node == self.broker().node() {
            return self.replies().door(at.key).is_some();
        }
        let here = ReplyAddress::new(self.broker().node());
        let (door, mut answers) = ReplyDoor::new();
        self.replies().open(here.key, door);
        let question = DirectReply {
            key: at.key,
            properties: Bytes::new(),
            body: Bytes::new(),
            probe: Some((here.node, here.key)),
        };
        let asked = self.broker().send_reply(at.node, question);
        let answered = asked && matches!(timeout(PROBE_WITHIN, answers.recv()).await, Ok(Some(_)));
        self.replies().close(here.key);
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(key: u128, body: usize) -> DirectReply {
        DirectReply {
            key,
            properties: Properties::default().as_wire().clone(),
            body: Bytes::from(vec![0; body]),
            probe: None,
        }
    }

    #[test]
    fn address_survives_its_text_and_nothing_else_is_one() {
        let address = ReplyAddress::new(NodeId(3));
        assert_eq!(ReplyAddress::parse(&address.text()), Some(address));
        assert!(address.text().len() < 255);
        for text in [
            "",
            "amq.rabbitmq.reply-to",
            "amq.rabbitmq.reply-to.",
            "amq.rabbitmq.reply-to.3",
            "amq.rabbitmq.reply-to.3.1",
            "amq.rabbitmq.reply-to.3.zz",
            &format!("{}0", address.text()),
            &address.text().to_uppercase(),
        ] {
            assert_eq!(ReplyAddress::parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_differ() {
        assert_ne!(ReplyAddress::new(NodeId(1)), ReplyAddress::new(NodeId(1)));
    }

    #[test]
    fn reply_reaches_only_who_waits_and_no_more_than_there_is_room_for() {
        let replies = Replies::default();
        assert!(!replies.deliver(reply(1, 1)));
        let (door, mut inbox) = ReplyDoor::new();
        replies.open(1, door);
        for _ in 0..REPLIES_WAITING_MAX + 10 {
            assert!(replies.deliver(reply(1, 1)));
        }
        let mut got = 0;
        while inbox.try_recv().is_ok() {
            got += 1;
        }
        assert_eq!(got, REPLIES_WAITING_MAX);
        let large = REPLY_BYTES_MAX as usize + 1;
        assert!(replies.deliver(reply(1, large)) && replies.deliver(reply(1, large)));
        assert_eq!(inbox.try_recv().unwrap().body.len(), large);
        assert!(inbox.try_recv().is_err());
        replies.close(1);
        assert!(!replies.deliver(reply(1, 1)));
    }
}
