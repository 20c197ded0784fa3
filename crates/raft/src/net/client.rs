//! openraft's network interface: one client per group and follower, all over the node's shared streams. Not here: the
//! streams (`append_link`, `pulse`), the answering side (`service`).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Response, Status};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::raft_service_client::RaftServiceClient;
use warren_types::{NodeId, ReplicaId, Term};

use super::append_stream::AppendStream;
use super::links::Links;
use super::peers::Lane;
use super::pulse::HeartbeatCall;
use super::{cluster_bytes, snapshot_out};
use crate::config::{Home, TypeConfig, VoteOf};
use crate::convert;
use crate::group::Shared;
use crate::machine::{SnapshotData, SnapshotOf};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = T> + Send + 'a>>;
type RpcResult<T> = Result<T, RPCError<TypeConfig>>;
type AppendResult = RpcResult<StreamAppendResult<TypeConfig>>;

/// Makes the clients of one replica.
pub(crate) struct NetworkFactory {
    shared: Arc<Shared>,
    links: Links,
}

impl NetworkFactory {
    pub(crate) fn new(shared: Arc<Shared>, links: Links) -> Self {
        Self { shared, links }
    }

    fn client(&self, replica: u64, home: Home, traffic: Traffic) -> Network {
        Network {
            shared: self.shared.clone(),
            links: self.links.clone(),
            to: ReplicaId(replica),
            node: NodeId(home.node),
            traffic,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Home) -> Network {
        self.client(target, *node, Traffic::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Home) -> Network {
        self.client(target, *node, Traffic::Heartbeats)
    }
}

/// What a client's `stream_append` carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Entries,
    /// One request per stream, without entries: merged with those of other groups.
    Heartbeats,
}

/// A client to one follower of one group.
pub(crate) struct Network {
    pub(super) shared: Arc<Shared>,
    pub(super) links: Links,
    pub(super) to: ReplicaId,
    pub(super) node: NodeId,
    traffic: Traffic,
}

impl Network {
    pub(super) fn target(&self) -> wire::Target {
        wire::Target {
            cluster: cluster_bytes(self.shared.options.cluster),
            group: self.shared.group.0,
            replica: self.to.0,
            node: self.node.0,
        }
    }

    /// One call on the control channel, within its time; its end is counted for the channel.
    async fn control<T, F>(
        &self,
        within: Duration,
        call: impl FnOnce(RaftServiceClient<Channel>) -> F,
    ) -> RpcResult<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = self.links.peers.channel(self.node, Lane::Control);
        let channel = channel.ok_or_else(|| unreachable("node has no address"))?;
        let result = tokio::time::timeout(within, call(RaftServiceClient::new(channel))).await;
        self.links
            .peers
            .report(self.node, Lane::Control, matches!(result, Ok(Ok(_))));
        match result {
            Ok(Ok(response)) => {
                self.links.peers.hear(self.node);
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(unreachable(status.message())),
            Err(_) => Err(unreachable("no answer in time")),
        }
    }

    fn vote_request(&self, rpc: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
        let leader_gone = rpc.leadership_transfer && self.shared.replaces_gone_leader(&rpc.vote);
        wire::VoteRequest {
            target: Some(self.target()),
            vote: Some(convert::vote_to_proto(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(convert::log_id_to_proto),
            leader_gives_way: rpc.leadership_transfer,
            leader_gone,
        }
    }

    /// Hands a heartbeat to the pulse and waits for its answer.
    async fn heartbeat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        within: Duration,
    ) -> AppendResult {
        let item = wire::HeartbeatItem {
            group: self.shared.group.0,
            to_replica: self.to.0,
            slot: 0,
            vote: Some(convert::vote_to_proto(&request.vote)),
            previous: request.prev_log_id.as_ref().map(convert::log_id_to_proto),
            leader_commit: request.leader_commit.as_ref().map(convert::log_id_to_proto),
        };
        let (reply, answer) = oneshot::channel();
        let (sent, term) = (Instant::now(), Term(request.vote.leader_id.term));
        let pulse = self
            .links
            .pulse(self.node)
            .ok_or_else(|| unreachable("unknown node"))?;
        pulse
            .try_send(HeartbeatCall { item, reply })
            .map_err(|_| unreachable("too many heartbeats wait"))?;
        let answer = tokio::time::timeout(within, answer).await;
        let reply = answer
            .map_err(|_| unreachable("no answer in time"))?
            .map_err(|_| unreachable("node is not connected"))?;
        use wire::heartbeat_reply::Result as Answer;
        match reply.result {
            Some(Answer::Matched(it)) => {
                self.shared.acknowledged.note(self.to, term, sent);
                Ok(Ok(it.upto.as_ref().map(convert::log_id_from_proto)))
            }
            Some(Answer::Conflict(id)) => Ok(Err(StreamAppendError::Conflict(
                convert::log_id_from_proto(&id),
            ))),
            Some(Answer::HigherVote(vote)) => {
                Ok(Err(StreamAppendError::HigherVote(vote_of(Some(&vote))?)))
            }
            Some(Answer::Refused(reason)) => Err(unreachable(&reason)),
            None => Err(malformed("heartbeat answer without a result")),
        }
    }
}

pub(super) fn unreachable(reason: &str) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

fn malformed(reason: &str) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(reason))
}

fn vote_of(vote: Option<&warren_proto::stored_v1::StoredVote>) -> RpcResult<VoteOf> {
    convert::vote_from_proto(vote).map_err(|error| malformed(&error.to_string()))
}

fn vote_response(response: &wire::VoteResponse) -> RpcResult<VoteResponse<TypeConfig>> {
    Ok(VoteResponse::new(
        vote_of(response.vote.as_ref())?,
        response.last.as_ref().map(convert::log_id_from_proto),
        response.granted,
    ))
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        // openraft replicates through `stream_append`; a single request is a stream of one.
        let last = rpc
            .entries
            .last()
            .map(|entry| entry.log_id())
            .or(rpc.prev_log_id);
        let requests = Box::pin(stream::iter([rpc]));
        let mut answers = self.stream_append(requests, option).await?;
        let answer = answers
            .next()
            .await
            .ok_or_else(|| malformed("no answer"))??;
        Ok(match answer {
            Ok(matched) if matched == last => AppendEntriesResponse::Success,
            Ok(matched) => AppendEntriesResponse::PartialSuccess(matched),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, AppendResult>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        match self.traffic {
            Traffic::Entries => {
                let options = self.shared.options.streams.clone();
                let answers = AppendStream::new(
                    input,
                    self.shared.clone(),
                    self.to,
                    self.node,
                    self.links.append.clone(),
                    options,
                );
                let answers: BoxStream<'s, AppendResult> = Box::pin(answers);
                Box::pin(async { Ok(answers) })
            }
            Traffic::Heartbeats => Box::pin(async move {
                let request = input
                    .next()
                    .await
                    .ok_or_else(|| malformed("no heartbeat"))?;
                let answer = self.heartbeat(request, option.hard_ttl()).await?;
                let answers: BoxStream<'s, AppendResult> = Box::pin(stream::iter([Ok(answer)]));
                Ok(answers)
            }),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let request = self.vote_request(&rpc);
        let response = self
            .control(option.soft_ttl(), |mut client| async move {
                client.vote(request).await
            })
            .await?;
        vote_response(&response)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let request = wire::PreVoteRequest {
            request: Some(self.vote_request(&rpc)),
        };
        let response = self
            .control(option.soft_ttl(), |mut client| async move {
                client.pre_vote(request).await
            })
            .await?;
        vote_response(
            &response
                .response
                .ok_or_else(|| malformed("pre-vote without answer"))?,
        )
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf,
        snapshot: SnapshotOf,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased; // a cancelled transfer is not finished
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = snapshot_out::send(self, vote, snapshot) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let request = wire::TransferLeaderRequest {
            target: Some(self.target()),
            from_leader: Some(convert::vote_to_proto(req.from_leader())),
            to_replica: *req.to_node_id(),
            last: req.last_log_id().map(convert::log_id_to_proto),
        };
        let within = option.soft_ttl();
        let response = self
            .control(within, |mut client| async move {
                client.transfer_leader(request).await
            })
            .await?;
        use wire::transfer_leader_response::Result as Answer;
        Ok(match response.result {
            Some(Answer::Accepted(_)) => Ok(()),
            Some(Answer::VoteChanged(vote)) => Err(TransferLeaderError::VoteChanged {
                expected: *req.from_leader(),
                actual: vote_of(Some(&vote))?,
            }),
            Some(Answer::LogNotFlushed(it)) => Err(TransferLeaderError::LogNotFlushed {
                expected: req.last_log_id().copied(),
                actual: it.actual.as_ref().map(convert::log_id_from_proto),
            }),
            None => return Err(malformed("transfer without answer")),
        })
    }
}
