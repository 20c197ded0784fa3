//! The accepting side of links: frames of other nodes' uplinks go to the shards' leader tasks, their answers go back.
//! Not here: the asking side (`remote`), what frames do (`leader`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};
use warren_proto::internal_v1::forward_service_server::ForwardService;
use warren_proto::internal_v1::{
    CompareReplicasRequest, CompareReplicasResponse, FindAttemptRequest, FindAttemptResponse,
    HandOverConsumerRequest, HandOverConsumerResponse, JobsRequest, JobsResponse, LinkRequest,
    LinkResponse,
};
use warren_raft::PeerIdentity;
use warren_types::{NodeId, ShardId};

use super::convert::{BadFrame, decode_up, down_bytes, encode_down};
use super::frame::{Down, Up};
use super::outbox::Outbox;
use super::post::{DownOut, FromNode, LeaderDoors};
use super::remote::LINK_MESSAGE_BYTES;
use super::reply::{DirectReply, ReplyDoor};
use crate::attempts::AttemptDoor;
use crate::audit::AuditDoors;
use crate::handover::KeeperDoor;
use crate::jobs::JobsDoor;

/// Serves `ForwardService` on the node-to-node listener.
pub struct LinkService {
    inner: Arc<Inner>,
}

struct Inner {
    leaders: LeaderDoors,
    replies: ReplyDoor,
    keeper: KeeperDoor,
    jobs: JobsDoor,
    audits: AuditDoors,
    attempts: AttemptDoor,
    streams: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

type Responses = Pin<Box<dyn Stream<Item = Result<LinkResponse, Status>> + Send>>;

impl LinkService {
    pub(crate) fn new(
        leaders: LeaderDoors,
        replies: ReplyDoor,
        (keeper, jobs): (KeeperDoor, JobsDoor),
        (audits, attempts): (AuditDoors, AttemptDoor),
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                leaders,
                replies,
                keeper,
                jobs,
                audits,
                attempts,
                streams: AtomicU64::new(0),
                tasks,
                stop,
            }),
        }
    }
}

#[tonic::async_trait]
impl ForwardService for LinkService {
    type LinkStream = Responses;

    async fn hand_over_consumer(
        &self,
        request: Request<HandOverConsumerRequest>,
    ) -> Result<Response<HandOverConsumerResponse>, Status> {
        if request.extensions().get::<PeerIdentity>().is_none() {
            return Err(unproven());
        }
        let answer = self.inner.keeper.answer(request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn jobs(&self, request: Request<JobsRequest>) -> Result<Response<JobsResponse>, Status> {
        if request.extensions().get::<PeerIdentity>().is_none() {
            return Err(unproven());
        }
        let answer = self.inner.jobs.answer(request.into_inner());
        Ok(Response::new(answer))
    }

    async fn compare_replicas(
        &self,
        request: Request<CompareReplicasRequest>,
    ) -> Result<Response<CompareReplicasResponse>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().copied();
        let peer = peer.ok_or_else(unproven)?;
        let answer = self.inner.audits.answer(peer.node, request.into_inner());
        Ok(Response::new(answer.await))
    }

    async fn find_attempt(
        &self,
        request: Request<FindAttemptRequest>,
    ) -> Result<Response<FindAttemptResponse>, Status> {
        if request.extensions().get::<PeerIdentity>().is_none() {
            return Err(unproven());
        }
        let answer = self.inner.attempts.answer(request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let Some(peer) = request.extensions().get::<PeerIdentity>().copied() else {
            return Err(unproven());
        };
        let stream = self.inner.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let out: Outbox<(ShardId, Down)> = Outbox::default();
        let inner = Arc::clone(&self.inner);
        let answers = out.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                biased; // stopping ends the stream
                () = inner.stop.cancelled() => {}
                () = inner.read(peer.node, stream, request.into_inner(), &answers) => {}
            }
            answers.close();
            for (_, door) in inner.leaders.all() {
                // A leader task that has ended needs no news.
                let _ended = door
                    .send(FromNode::Gone {
                        node: peer.node,
                        stream,
                    })
                    .await;
            }
        });
        Ok(Response::new(Box::pin(responses(out))))
    }
}

fn unproven() -> Status {
    Status::unauthenticated("the caller has not proven which node it is")
}

impl Inner {
    async fn read(
        &self,
        node: NodeId,
        stream: u64,
        mut requests: Streaming<LinkRequest>,
        out: &Outbox<(ShardId, Down)>,
    ) {
        loop {
            match requests.message().await {
                Ok(Some(request)) => {
                    if let Err(error) = self.pass(node, stream, request, out).await {
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

    async fn pass(
        &self,
        node: NodeId,
        stream: u64,
        request: LinkRequest,
        out: &Outbox<(ShardId, Down)>,
    ) -> Result<(), BadFrame> {
        for reply in request.replies {
            self.replies.take(DirectReply::decode(reply)?);
        }
        let mut runs: Vec<(ShardId, Vec<Up>)> = Vec::new();
        for frame in request.frames {
            if frame.kind.is_none() {
                // Of a later version, whose nodes ask only what this one knows: closing the stream would help nobody.
                warn!(node_id = %node, shard_id = frame.shard, "frame of a kind that this version does not know");
                continue;
            }
            let (shard, up) = decode_up(frame)?;
            if let Up::Hello(hello) = &up
                && hello.node != node
            {
                return Err(BadFrame(format!(
                    "node {node} says it is node {}",
                    hello.node
                )));
            }
            match runs.last_mut() {
                Some((of, frames)) if *of == shard => frames.push(up),
                _ => runs.push((shard, vec![up])),
            }
        }
        for (shard, frames) in runs {
            let out = DownOut::Remote {
                shard,
                stream,
                out: out.clone(),
            };
            match self.leaders.door(shard) {
                // Waiting here is the way a leader that is behind slows the nodes down.
                Some(door) => {
                    if door
                        .send(FromNode::Frames { node, out, frames })
                        .await
                        .is_err()
                    {
                        return Err(BadFrame(format!("shard {shard} has stopped here")));
                    }
                }
                None => refuse(&out, &frames),
            }
        }
        Ok(())
    }
}

/// There is no replica of the shard here.
fn refuse(out: &DownOut, frames: &[Up]) {
    for frame in frames {
        if let Up::Hello(hello) = frame {
            out.push([Down::NotLeader {
                link: hello.link,
                leader: None,
            }]);
        }
    }
}

fn responses(
    out: Outbox<(ShardId, Down)>,
) -> impl Stream<Item = Result<LinkResponse, Status>> + Send + 'static {
    stream::unfold((out, VecDeque::new()), |(out, mut left)| async move {
        if left.is_empty() {
            left = out.take().await?;
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        while bytes < LINK_MESSAGE_BYTES
            && let Some((shard, frame)) = left.pop_front()
        {
            bytes += down_bytes(&frame);
            frames.push(encode_down(shard, frame));
        }
        Some((Ok(LinkResponse { frames }), (out, left)))
    })
}
