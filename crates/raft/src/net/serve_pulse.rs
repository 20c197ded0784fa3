//! Answers another node's pulse: at once that this node lives, and each heartbeat when its group's core has answered.
//! Not here: the asking side (`pulse`).

use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::debug;
use warren_proto::internal_v1::heartbeat_reply::Result as Answer;
use warren_proto::internal_v1::{
    HeartbeatItem, HeartbeatReply, Matched, PulseRequest, PulseResponse,
};
use warren_types::{GroupId, ReplicaId};

use super::handshake::PeerIdentity;
use super::pulse::wall_clock_ms;
use super::service::{RaftService, find};
use crate::config::TypeConfig;
use crate::convert;
use crate::node::Inner;

/// Answers that wait for the wire.
const FRAMES_MAX: usize = 16;
/// Heartbeats that cores have not answered yet; more are refused.
const HEARTBEATS_MAX: usize = 4096;

pub(super) fn start(
    node: &Arc<Inner>,
    service: RaftService,
    identity: Option<PeerIdentity>,
    requests: Streaming<PulseRequest>,
) -> impl Stream<Item = Result<PulseResponse, Status>> + Send + 'static {
    let (answers, queued) = mpsc::channel(FRAMES_MAX);
    node.tasks
        .spawn("serve-pulse", run(service, identity, requests, answers));
    ReceiverStream::new(queued).map(Ok)
}

async fn run(
    service: RaftService,
    identity: Option<PeerIdentity>,
    mut requests: Streaming<PulseRequest>,
    answers: mpsc::Sender<PulseResponse>,
) {
    let mut heartbeats = FuturesUnordered::new();
    let mut checked = false;
    loop {
        let response = tokio::select! {
            biased; // a beat is answered at once, whatever the cores do
            frame = requests.message() => {
                let Ok(Some(frame)) = frame else { return };
                let Ok(node) = service.node() else { return };
                if !checked {
                    if let Err(status) = RaftService::check_node(&node, frame.target.as_ref()) {
                        debug!(reason = status.message(), "pulse refused");
                        return;
                    }
                    checked = true;
                }
                if let Some(identity) = identity {
                    node.parts.peers.hear(identity.node);
                }
                for item in frame.items {
                    if heartbeats.len() < HEARTBEATS_MAX {
                        heartbeats.push(heartbeat(node.clone(), item));
                    }
                }
                let alarms = node.parts.peers.alarms();
                PulseResponse {
                    sequence: frame.sequence,
                    wall_clock_ms: u64::try_from(wall_clock_ms()).unwrap_or(0),
                    replies: ready(&mut heartbeats),
                    memory_alarm: alarms.memory,
                    disk_alarm: alarms.disk,
                    draining: node.parts.peers.is_draining(),
                    usage: node.parts.peers.own_usage(),
                    wrong: node.parts.peers.own_wrong(),
                }
            }
            Some(first) = heartbeats.next() => {
                let mut replies = vec![first];
                replies.extend(ready(&mut heartbeats));
                PulseResponse { replies, ..PulseResponse::default() }
            }
        };
        if answers.send(response).await.is_err() {
            return;
        }
    }
}

/// What has been answered meanwhile.
fn ready<F>(heartbeats: &mut FuturesUnordered<F>) -> Vec<HeartbeatReply>
where
    F: Future<Output = HeartbeatReply>,
{
    let mut replies = Vec::new();
    while let Some(Some(reply)) = heartbeats.next().now_or_never() {
        replies.push(reply);
    }
    replies
}

async fn heartbeat(node: Arc<Inner>, item: HeartbeatItem) -> HeartbeatReply {
    let slot = item.slot;
    let result = answer(&node, item).await.unwrap_or_else(Answer::Refused);
    HeartbeatReply {
        slot,
        result: Some(result),
    }
}

async fn answer(node: &Inner, item: HeartbeatItem) -> Result<Answer, String> {
    let replica = find(node, GroupId(item.group), ReplicaId(item.to_replica))?;
    let raft = replica.shared.raft().ok_or("replica is being opened")?;
    let previous = item.previous;
    if let Some(commit) = &item.leader_commit {
        let commit = convert::log_id_from_proto(commit);
        replica
            .shared
            .hear_commit(convert::index_from_raft(commit.index));
    }
    let request: AppendEntriesRequest<TypeConfig> = AppendEntriesRequest {
        vote: convert::vote_from_proto(item.vote.as_ref()).map_err(|e| e.to_string())?,
        prev_log_id: previous.as_ref().map(convert::log_id_from_proto),
        entries: Vec::new(),
        leader_commit: item.leader_commit.as_ref().map(convert::log_id_from_proto),
    };
    let response = raft
        .append_entries(request)
        .await
        .map_err(|e| e.to_string())?;
    Ok(match response {
        AppendEntriesResponse::Success => Answer::Matched(Matched { upto: previous }),
        AppendEntriesResponse::PartialSuccess(upto) => Answer::Matched(Matched {
            upto: upto.as_ref().map(convert::log_id_to_proto),
        }),
        AppendEntriesResponse::Conflict => {
            Answer::Conflict(previous.ok_or("conflict without a previous entry")?)
        }
        AppendEntriesResponse::HigherVote(vote) => {
            Answer::HigherVote(convert::vote_to_proto(&vote))
        }
    })
}
