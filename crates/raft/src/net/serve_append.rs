//! Answers one append stream of another node: each group's requests go to its core in order, answers come back as they are
//! ready, several in a frame. Not here: checks of unary calls (`service`).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::debug;
use warren_proto::internal_v1::append_reply::Result as Answer;
use warren_proto::internal_v1::{
    AppendItem, AppendReply, AppendRequest, AppendResponse, AppendStep, Matched,
};
use warren_types::{GroupId, ReplicaId};

use super::handshake::PeerIdentity;
use super::service::{RaftService, find};
use crate::config::TypeConfig;
use crate::convert::{self, DecodeError};
use crate::group::RaftOf;
use crate::node::Inner;

type Request = AppendEntriesRequest<TypeConfig>;

/// Requests of one group that its core has not taken yet. The sender keeps fewer in flight; more end the stream.
const REQUESTS_MAX: usize = 64;
/// Answers that wait for the wire; the groups' streams wait beyond it.
const ANSWERS_MAX: usize = 256;
const ANSWERS_PER_FRAME: usize = 64;

/// Starts to serve; the answers end when the requests do.
pub(super) fn start(
    node: Arc<Inner>,
    service: RaftService,
    identity: Option<PeerIdentity>,
    requests: Streaming<AppendRequest>,
) -> impl Stream<Item = Result<AppendResponse, Status>> + Send + 'static {
    let (answers, queued) = mpsc::channel(ANSWERS_MAX);
    let serving = Serving {
        service,
        identity,
        answers,
        streams: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    node.tasks.spawn("serve-append", serving.run(requests));
    Frames(queued)
}

struct Serving {
    service: RaftService,
    identity: Option<PeerIdentity>,
    answers: mpsc::Sender<AppendReply>,
    streams: BTreeMap<u64, mpsc::Sender<Request>>,
    /// One per open stream; ends with this.
    tasks: JoinSet<()>,
}

impl Serving {
    async fn run(mut self, mut requests: Streaming<AppendRequest>) {
        let mut checked = false;
        loop {
            let frame = match requests.message().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(status) => {
                    debug!(reason = status.message(), "append stream ended");
                    return;
                }
            };
            let Ok(node) = self.service.node() else {
                return;
            };
            if !checked {
                if let Err(status) = RaftService::check_node(&node, frame.target.as_ref()) {
                    debug!(reason = status.message(), "append stream refused");
                    return;
                }
                checked = true;
            }
            if let Some(identity) = self.identity {
                node.parts.peers.hear(identity.node);
            }
            for item in frame.items {
                self.take(&node, item).await;
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    async fn take(&mut self, node: &Inner, item: AppendItem) {
        let stream = item.stream;
        let taken = match item.step() {
            AppendStep::Open => self.open(node, item),
            AppendStep::Next => self.next(item),
            AppendStep::Close => {
                self.streams.remove(&stream);
                Ok(())
            }
            AppendStep::Unspecified => Err("step is missing".to_owned()),
        };
        if let Err(reason) = taken {
            self.streams.remove(&stream);
            let refused = AppendReply {
                stream,
                result: Some(Answer::Refused(reason)),
            };
            // Without the wire nobody needs the answer.
            let _ = self.answers.send(refused).await;
        }
    }

    fn open(&mut self, node: &Inner, item: AppendItem) -> Result<(), String> {
        let replica = find(node, GroupId(item.group), ReplicaId(item.to_replica))?;
        let raft = replica.shared.raft().ok_or("replica is being opened")?;
        let stream = item.stream;
        let (requests, queued) = mpsc::channel(REQUESTS_MAX);
        requests
            .try_send(request_of(item).map_err(|e| e.to_string())?)
            .map_err(|e| e.to_string())?;
        self.tasks
            .spawn(answer(raft, stream, queued, self.answers.clone()));
        self.streams.insert(stream, requests);
        Ok(())
    }

    fn next(&mut self, item: AppendItem) -> Result<(), String> {
        // A stream that has ended here gets no answer: the one that ended it is on its way.
        let Some(requests) = self.streams.get(&item.stream) else {
            return Ok(());
        };
        let request = request_of(item).map_err(|e| e.to_string())?;
        match requests.try_send(request) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err("too many requests in flight".into()),
        }
    }
}

/// Feeds one group's core with one stream and sends on its answers, in order.
async fn answer(
    raft: RaftOf,
    stream: u64,
    requests: mpsc::Receiver<Request>,
    answers: mpsc::Sender<AppendReply>,
) {
    let results = raft.stream_append(ReceiverStream::new(requests));
    tokio::pin!(results);
    while let Some(result) = results.next().await {
        let result = match result {
            Ok(result) => answer_of(&result),
            Err(fatal) => Answer::Refused(fatal.to_string()),
        };
        if answers
            .send(AppendReply {
                stream,
                result: Some(result),
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

fn answer_of(result: &StreamAppendResult<TypeConfig>) -> Answer {
    match result {
        Ok(upto) => Answer::Matched(Matched {
            upto: upto.as_ref().map(convert::log_id_to_proto),
        }),
        Err(StreamAppendError::Conflict(id)) => Answer::Conflict(convert::log_id_to_proto(id)),
        Err(StreamAppendError::HigherVote(vote)) => {
            Answer::HigherVote(convert::vote_to_proto(vote))
        }
    }
}

fn request_of(item: AppendItem) -> Result<Request, DecodeError> {
    let mut entries = Vec::with_capacity(item.entries.len());
    for entry in item.entries {
        let id = entry
            .id
            .as_ref()
            .ok_or(DecodeError::Missing("entry's id"))?;
        entries.push(convert::decode_entry(
            convert::log_id_from_proto(id),
            entry.entry,
        )?);
    }
    Ok(Request {
        vote: convert::vote_from_proto(item.vote.as_ref())?,
        prev_log_id: item.previous.as_ref().map(convert::log_id_from_proto),
        entries,
        leader_commit: item.leader_commit.as_ref().map(convert::log_id_from_proto),
    })
}

/// The answers that are ready, in one frame.
struct Frames(mpsc::Receiver<AppendReply>);

impl Stream for Frames {
    type Item = Result<AppendResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut replies = Vec::new();
        match self.0.poll_recv_many(cx, &mut replies, ANSWERS_PER_FRAME) {
            Poll::Ready(0) => Poll::Ready(None),
            Poll::Ready(_) => Poll::Ready(Some(Ok(AppendResponse { replies }))),
            Poll::Pending => Poll::Pending,
        }
    }
}
