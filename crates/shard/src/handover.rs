//! A consumer that moves to another node because its client has come back there: asking the node that keeps it, and being asked.
//! Not here: who keeps which consumer (`gateway`), who holds its deliveries (the shard's leader).
//!
//! The keeping node cancels the consumer with the shard's leader before it answers: a cancelled consumer holds its deliveries only
//! until somebody else brings their attempts, so the asking node's attach takes them over, and each delivery has one holder always.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::forward_service_client::ForwardServiceClient;
use warren_queue::dispatch::io::Held;
use warren_raft::{Lane, Peers};
use warren_types::{NodeId, QueueId};

use crate::link::convert::{decode_held, encode_held};

/// How long the keeping node has to answer; then the client gets a fresh consumer.
const WITHIN: Duration = Duration::from_secs(3);
/// A consumer holds no more than this many deliveries; an answer that says otherwise is not read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What a consumer that moves takes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    pub consumer_tag: String,
    /// Its deliveries that the client has, with the bytes of their bodies.
    pub held: Vec<(Held, u64)>,
}

/// Another node asks for a consumer. Dropping the reply says that it is not kept here.
#[derive(Debug)]
pub struct HandOverRequest {
    /// As this node gave it.
    pub resume_token: Bytes,
    pub queue: QueueId,
    pub reply: oneshot::Sender<HandedOver>,
}

/// Takes requests; it must not block.
pub type Keeper = Arc<dyn Fn(HandOverRequest) + Send + Sync>;

/// Who is asked for consumers of this node. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct KeeperDoor {
    keeper: Arc<RwLock<Option<Keeper>>>,
}

impl KeeperDoor {
    pub(crate) fn open(&self, keeper: Keeper) {
        *self.keeper.write() = Some(keeper);
    }

    /// Answers another node.
    pub(crate) async fn answer(
        &self,
        request: wire::HandOverConsumerRequest,
    ) -> wire::HandOverConsumerResponse {
        let (reply, answer) = oneshot::channel();
        let asked = HandOverRequest {
            resume_token: request.resume_token,
            queue: QueueId(request.queue),
            reply,
        };
        let keeper = self.keeper.read().clone();
        if let Some(keeper) = keeper {
            keeper(asked);
        }
        let Ok(Ok(handed)) = timeout(WITHIN, answer).await else {
            return wire::HandOverConsumerResponse::default();
        };
        let (held, body_bytes): (Vec<Held>, Vec<u64>) = handed.held.into_iter().unzip();
        wire::HandOverConsumerResponse {
            found: true,
            consumer_tag: handed.consumer_tag,
            held: Some(encode_held(&held)),
            body_bytes,
        }
    }
}

/// Asks the node that gave a token for its consumer. `None`: it keeps none under it, or does not answer.
pub(crate) async fn ask(
    peers: &Peers,
    node: NodeId,
    resume_token: Bytes,
    queue: QueueId,
) -> Option<HandedOver> {
    let channel = peers.channel(node, Lane::Forward)?;
    let mut client = ForwardServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let request = wire::HandOverConsumerRequest {
        resume_token,
        queue: queue.0,
    };
    let answer = match timeout(WITHIN, client.hand_over_consumer(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => {
            debug!(node_id = %node, error = %status, "consumer not handed over");
            return None;
        }
        Err(_) => {
            debug!(node_id = %node, "consumer not handed over in time");
            return None;
        }
    };
    let held = decode_held(answer.held).ok()?;
    if !answer.found || held.len() != answer.body_bytes.len() {
        return None;
    }
    Some(HandedOver {
        consumer_tag: answer.consumer_tag,
        held: held.into_iter().zip(answer.body_bytes).collect(),
    })
}
