//! Consumers that can be taken back by their clients after a broken stream: the tokens, and the way to the task that keeps each.
//! Not here: what is kept (`consume`). A token names the node that gave it: another one has the consumer handed over.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};
use warren_proto::v1;
use warren_shard::{HandOverRequest, HandedOver};
use warren_types::{NodeId, QueueId, Run};

use super::connection::Seats;
use crate::admission::ConnectionAdmission;
use crate::auth::Who;
use crate::places::Place;

const VERSION: u8 = 1;

/// Both ends of a client's stream.
pub(super) struct Link {
    pub(super) inbound: Streaming<v1::ConsumeRequest>,
    pub(super) outbound: mpsc::Sender<Result<v1::ConsumeResponse, Status>>,
    /// The connection's.
    pub(super) admission: ConnectionAdmission,
    /// Of its connection.
    pub(super) seats: Seats,
    /// Its own, once it has said for whom it is.
    pub(super) seat: Option<Arc<Place>>,
}

/// A client comes back for its consumer.
pub(super) struct Rejoin {
    pub(super) link: Link,
    pub(super) open: v1::ConsumeOpen,
    /// Who it is: seen to be allowed to read the queue.
    pub(super) who: Who,
}

/// A client has come back for its consumer.
pub(super) enum Coming {
    Here(Box<Rejoin>),
    /// To another node, which asks for what the consumer holds.
    Elsewhere(oneshot::Sender<HandedOver>),
}

/// Names a kept consumer; the secret keeps others from guessing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ResumeToken {
    node: NodeId,
    run: Run,
    number: u64,
    secret: u128,
}

impl ResumeToken {
    fn to_bytes(self) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + 3 * 8 + 16);
        out.put_u8(VERSION);
        out.put_u64(self.node.0);
        out.put_u64(self.run.0);
        out.put_u64(self.number);
        out.put_u128(self.secret);
        out.freeze()
    }

    /// The node that gave a token, if the bytes are one.
    pub(super) fn giver(token: &[u8]) -> Option<NodeId> {
        Self::read(token).map(|it| it.node)
    }

    fn read(mut token: &[u8]) -> Option<Self> {
        if token.len() != 1 + 3 * 8 + 16 || token.get_u8() != VERSION {
            return None;
        }
        Some(Self {
            node: NodeId(token.get_u64()),
            run: Run(token.get_u64()),
            number: token.get_u64(),
            secret: token.get_u128(),
        })
    }
}

struct Entry {
    token: ResumeToken,
    queue: QueueId,
    door: mpsc::Sender<Coming>,
}

/// Every consumer of this node that its client may come back to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Parked {
    entries: Arc<Mutex<HashMap<u64, Entry>>>,
    max: usize,
}

impl Parked {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            entries: Arc::default(),
            max,
        }
    }

    /// Makes a consumer one that can be taken back. `None`: there are too many; then it ends with its stream.
    pub(super) fn register(
        &self,
        node: NodeId,
        run: Run,
        number: u64,
        queue: QueueId,
    ) -> Option<Registration> {
        let token = ResumeToken {
            node,
            run,
            number,
            secret: rand::rng().random(),
        };
        let (door, rejoins) = mpsc::channel(1);
        let mut entries = self.entries.lock();
        if entries.len() >= self.max {
            return None;
        }
        entries.insert(number, Entry { token, queue, door });
        drop(entries);
        Some(Registration {
            parked: self.clone(),
            token,
            rejoins,
        })
    }

    /// The way to the task that keeps a client's consumer of this queue.
    pub(super) fn find(&self, token: &[u8], queue: QueueId) -> Option<mpsc::Sender<Coming>> {
        let token = ResumeToken::read(token)?;
        let entries = self.entries.lock();
        let entry = entries.get(&token.number)?;
        (entry.token == token && entry.queue == queue).then(|| entry.door.clone())
    }

    /// Another node asks for a consumer; one that is not here, or is being asked for already, is not handed over.
    pub(crate) fn hand_over(&self, request: HandOverRequest) {
        let HandOverRequest {
            resume_token,
            queue,
            reply,
        } = request;
        if let Some(door) = self.find(&resume_token, queue) {
            // Dropped with its reply: that says so.
            let _busy = door.try_send(Coming::Elsewhere(reply));
        }
    }
}

/// One consumer's place; it is given up when this is dropped.
pub(super) struct Registration {
    parked: Parked,
    token: ResumeToken,
    rejoins: mpsc::Receiver<Coming>,
}

impl Registration {
    pub(super) fn token(&self) -> Bytes {
        self.token.to_bytes()
    }

    /// Waits for the client.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn coming(&mut self) -> Coming {
        match self.rejoins.recv().await {
            Some(coming) => coming,
            // The sender lives in the table as long as this does.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.parked.entries.lock().remove(&self.token.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(1);

    #[test]
    fn token_finds_its_consumer_until_it_ends() {
        let parked = Parked::new(10);
        let place = parked.register(NodeId(1), Run(2), 3, QUEUE).unwrap();
        let token = place.token();
        assert!(parked.find(&token, QUEUE).is_some());
        assert!(parked.find(&token, QueueId(2)).is_none());
        drop(place);
        assert!(parked.find(&token, QUEUE).is_none());
    }

    #[test]
    fn guessed_cut_and_foreign_tokens_find_nothing() {
        let parked = Parked::new(10);
        let place = parked.register(NodeId(1), Run(2), 3, QUEUE).unwrap();
        let token = place.token();
        for at in 0..token.len() {
            let mut altered = token.to_vec();
            altered[at] ^= 1;
            assert!(parked.find(&altered, QUEUE).is_none(), "byte {at}");
            assert!(parked.find(&token[..at], QUEUE).is_none());
        }
    }

    #[test]
    fn token_names_its_giver_and_is_handed_over_once() {
        let parked = Parked::new(10);
        let place = parked.register(NodeId(7), Run(2), 3, QUEUE).unwrap();
        let token = place.token();
        assert_eq!(ResumeToken::giver(&token), Some(NodeId(7)));
        assert_eq!(ResumeToken::giver(b"made up"), None);
        let ask = |token: &Bytes| {
            let (reply, answer) = oneshot::channel();
            parked.hand_over(HandOverRequest {
                resume_token: token.clone(),
                queue: QUEUE,
                reply,
            });
            answer
        };
        let mut first = ask(&token);
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        let mut second = ask(&token);
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let mut guessed = ask(&token.slice(1..));
        assert_eq!(
            guessed.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        );
    }

    #[test]
    fn full_table_takes_no_more() {
        let parked = Parked::new(1);
        let first = parked.register(NodeId(1), Run(1), 1, QUEUE);
        assert!(first.is_some());
        assert!(parked.register(NodeId(1), Run(1), 2, QUEUE).is_none());
        drop(first);
        assert!(parked.register(NodeId(1), Run(1), 2, QUEUE).is_some());
    }
}
