//! Direct replies between nodes: one message to whoever waits at an address of another node, at most once, without an answer.
//! They travel on the links' streams beside the frames of shards. Not here: who waits (`gateway`), the streams (`remote`, `service`).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warren_proto::internal_v1 as wire;
use warren_types::NodeId;

use super::convert::BadFrame;

/// Bytes of direct replies that wait for the streams of this node; more are dropped.
const WAITING_BYTES_MAX: u32 = 16 << 20;
/// What one counts as beside its own bytes.
const OVERHEAD_BYTES: usize = 256;

/// A message for an address that a channel of some node has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectReply {
    pub key: u128,
    /// As in an AMQP content header.
    pub properties: Bytes,
    pub body: Bytes,
    /// The question whether somebody waits at `key`: a reply without properties is sent to this address if so.
    pub probe: Option<(NodeId, u128)>,
}

impl DirectReply {
    fn charge(&self) -> u32 {
        let bytes = OVERHEAD_BYTES + self.properties.len() + self.body.len();
        u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(WAITING_BYTES_MAX)
    }

    pub(super) fn encode(self) -> wire::DirectReply {
        let (node, key) = self.probe.unwrap_or((NodeId(0), 0));
        wire::DirectReply {
            key: Bytes::copy_from_slice(&self.key.to_be_bytes()),
            properties: self.properties,
            body: self.body,
            probe_node: node.0,
            probe_key: Bytes::copy_from_slice(&key.to_be_bytes()),
        }
    }

    pub(super) fn decode(it: wire::DirectReply) -> Result<Self, BadFrame> {
        let number = |bytes: &Bytes| {
            let bytes: [u8; 16] = bytes
                .as_ref()
                .try_into()
                .map_err(|_| BadFrame("a reply's key has not 16 bytes".to_owned()))?;
            Ok(u128::from_be_bytes(bytes))
        };
        let probe = match it.probe_node {
            0 => None,
            node => Some((NodeId(node), number(&it.probe_key)?)),
        };
        Ok(Self {
            key: number(&it.key)?,
            properties: it.properties,
            body: it.body,
            probe,
        })
    }
}

type Sink = Box<dyn Fn(DirectReply) + Send + Sync>;

/// Who takes the replies that come to this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReplyDoor {
    sink: Arc<OnceLock<Sink>>,
    room: Arc<Semaphore>,
}

impl Default for ReplyDoor {
    fn default() -> Self {
        let permits = usize::try_from(WAITING_BYTES_MAX).expect("usize has 32 bits at least");
        Self {
            sink: Arc::default(),
            room: Arc::new(Semaphore::new(permits)),
        }
    }
}

impl ReplyDoor {
    /// Only the first counts.
    pub(crate) fn open(&self, sink: Sink) {
        let _opened_before = self.sink.set(sink);
    }

    pub(super) fn take(&self, reply: DirectReply) {
        if let Some(sink) = self.sink.get() {
            sink(reply);
        }
    }

    /// Room for a reply on its way out, held until it is encoded; `None`: it is dropped.
    pub(super) fn room_for(&self, reply: &DirectReply) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room)
            .try_acquire_many_owned(reply.charge())
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: usize) -> DirectReply {
        DirectReply {
            key: 7 << 100,
            properties: Bytes::from_static(b"\x00\x00"),
            body: Bytes::from(vec![1; body]),
            probe: Some((NodeId(3), 9)),
        }
    }

    #[test]
    fn reply_survives_the_wire() {
        assert_eq!(DirectReply::decode(reply(3).encode()), Ok(reply(3)));
        let mut bad = reply(3).encode();
        bad.key.truncate(3);
        assert!(DirectReply::decode(bad).is_err());
    }

    #[test]
    fn waiting_replies_are_bounded_in_bytes() {
        let door = ReplyDoor::default();
        let large = reply(WAITING_BYTES_MAX as usize);
        let held = door.room_for(&large).unwrap();
        assert!(door.room_for(&reply(0)).is_none());
        drop(held);
        assert!(door.room_for(&reply(0)).is_some());
    }
}
