//! The streams from this node's uplinks to other nodes: one ordered stream per node for all shards, opened when first used.
//! Not here: the accepting side (`service`), who asks for which node (`uplink`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use warren_proto::internal_v1::forward_service_client::ForwardServiceClient;
use warren_proto::internal_v1::{LinkRequest, LinkResponse};
use warren_raft::{Lane, Peers};
use warren_types::{NodeId, ShardId};

use super::convert::{decode_down, encode_up, up_bytes};
use super::frame::{Down, Up};
use super::outbox::Outbox;
use super::post::{ToUplink, UplinkDoors};
use super::reply::{DirectReply, ReplyDoor};

/// Frames that wait for a stream to take them, at most; then uplinks wait.
const FRAMES_WAITING_MAX: usize = 1_024;
/// A message of a stream is closed at so many bytes.
pub(crate) const LINK_MESSAGE_BYTES: usize = 1 << 20;
/// One frame can be larger: the largest message plus what goes with it.
pub(crate) const LINK_MESSAGE_BYTES_MAX: usize = 160 << 20;

/// Beats come several times a second: a node that is silent for so long is gone, frozen or cut off.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// What a stream to another node carries.
pub(crate) enum Outgoing {
    Frame(ShardId, Up),
    /// With its part of what may wait.
    Reply(DirectReply, OwnedSemaphorePermit),
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeStreams {
    inner: Arc<Inner>,
}

struct Inner {
    peers: Peers,
    uplinks: UplinkDoors,
    replies: ReplyDoor,
    streams: Mutex<HashMap<NodeId, Outbox<Outgoing>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl NodeStreams {
    /// Whether nothing was heard from another node for a while.
    pub(crate) fn is_silent(&self, node: NodeId) -> bool {
        let heard = self.inner.peers.heard(node).last_heard;
        heard.is_some_and(|at| at.elapsed() >= SILENT_AFTER)
    }

    pub(crate) fn new(
        peers: Peers,
        uplinks: UplinkDoors,
        replies: ReplyDoor,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                peers,
                uplinks,
                replies,
                streams: Mutex::default(),
                tasks,
                stop,
            }),
        }
    }

    /// Queues frames for a node, waiting for room. False: the stream has ended; its end is told to every uplink.
    pub(crate) async fn send(&self, node: NodeId, shard: ShardId, frames: Vec<Up>) -> bool {
        let outbox = self.stream(node);
        outbox.below(FRAMES_WAITING_MAX).await;
        if outbox.is_closed() {
            return false;
        }
        let frames = frames.into_iter();
        outbox.push_all(frames.map(|frame| Outgoing::Frame(shard, frame)));
        true
    }

    /// Queues a direct reply for a node. False: too much waits, it is dropped.
    pub(crate) fn send_reply(&self, node: NodeId, reply: DirectReply) -> bool {
        let outbox = self.stream(node);
        if outbox.len() >= FRAMES_WAITING_MAX {
            return false;
        }
        let Some(room) = self.inner.replies.room_for(&reply) else {
            return false;
        };
        outbox.push(Outgoing::Reply(reply, room));
        true
    }

    fn stream(&self, node: NodeId) -> Outbox<Outgoing> {
        let mut streams = self.inner.streams.lock();
        if let Some(outbox) = streams.get(&node)
            && !outbox.is_closed()
        {
            return outbox.clone();
        }
        let outbox = Outbox::default();
        streams.insert(node, outbox.clone());
        let inner = Arc::clone(&self.inner);
        let frames = outbox.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                biased; // stopping ends the stream
                () = inner.stop.cancelled() => {}
                () = inner.drive(node, &frames) => {}
            }
            frames.close();
            for door in inner.uplinks.all() {
                door.push(ToUplink::StreamLost { node });
            }
        });
        outbox
    }
}

impl Inner {
    async fn drive(&self, node: NodeId, outbox: &Outbox<Outgoing>) {
        let Some(channel) = self.peers.channel(node, Lane::Forward) else {
            return;
        };
        let mut client = ForwardServiceClient::new(channel)
            .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX);
        let mut answers = match client.link(requests(outbox.clone())).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                debug!(node_id = %node, error = %status, "link not opened");
                self.peers.report(node, Lane::Forward, false);
                return;
            }
        };
        self.peers.report(node, Lane::Forward, true);
        loop {
            match answers.message().await {
                Ok(Some(response)) => {
                    if let Err(error) = self.pass(node, response) {
                        debug!(node_id = %node, %error, "link closed");
                        return;
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    debug!(node_id = %node, error = %status, "link broke");
                    return;
                }
            }
        }
    }

    /// Gives each shard's frames to its uplink, in order.
    fn pass(&self, node: NodeId, response: LinkResponse) -> Result<(), super::convert::BadFrame> {
        let mut run: Option<(ShardId, Vec<Down>)> = None;
        for frame in response.frames {
            if frame.kind.is_none() {
                // Of a later version: whatever it tells, closing the stream would help nobody.
                warn!(node_id = %node, shard_id = frame.shard, "frame of a kind that this version does not know");
                continue;
            }
            let (shard, down) = decode_down(frame)?;
            match &mut run {
                Some((of, frames)) if *of == shard => frames.push(down),
                _ => {
                    self.deliver(node, run.replace((shard, vec![down])));
                }
            }
        }
        self.deliver(node, run);
        Ok(())
    }

    fn deliver(&self, node: NodeId, run: Option<(ShardId, Vec<Down>)>) {
        if let Some((shard, frames)) = run
            && let Some(door) = self.uplinks.door(shard)
        {
            door.push(ToUplink::Down { node, frames });
        }
    }
}

/// Messages of a stream: all frames there are, up to the size of a message.
fn requests(outbox: Outbox<Outgoing>) -> impl Stream<Item = LinkRequest> + Send + 'static {
    stream::unfold((outbox, VecDeque::new()), |(outbox, mut left)| async move {
        if left.is_empty() {
            left = outbox.take().await?;
        }
        let mut request = LinkRequest::default();
        let mut bytes = 0;
        while bytes < LINK_MESSAGE_BYTES
            && let Some(next) = left.pop_front()
        {
            match next {
                Outgoing::Frame(shard, frame) => {
                    bytes += up_bytes(&frame);
                    request.frames.push(encode_up(shard, frame));
                }
                Outgoing::Reply(reply, _room) => {
                    bytes += reply.properties.len() + reply.body.len();
                    request.replies.push(reply.encode());
                }
            }
        }
        Some((request, (outbox, left)))
    })
}
