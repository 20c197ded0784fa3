//! The answering side of Raft's traffic. Every call is checked: is it for this cluster, this node, this replica? Not here:
//! the streams' inner life (`serve_append`, `serve_pulse`, `snapshot_in`).

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::Stream;
use openraft::raft::{TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::raft_service_server;
use warren_types::{GroupId, NodeId, ReplicaId};

use super::handshake::PeerIdentity;
use super::{cluster_bytes, serve_append, serve_pulse, snapshot_in};
use crate::config::TypeConfig;
use crate::convert::{self, DecodeError};
use crate::group::{RaftOf, Replica};
use crate::node::{Inner, RaftNode};

/// How long a voter looks itself whether a leader's process is gone, when a candidate says so.
const LOOK_WITHIN: Duration = Duration::from_millis(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Serves the replicas of one node.
#[derive(Clone)]
pub struct RaftService {
    node: Weak<Inner>,
}

impl RaftService {
    pub(crate) fn new(node: &RaftNode) -> Self {
        Self {
            node: Arc::downgrade(&node.inner),
        }
    }

    pub(super) fn node(&self) -> Result<Arc<Inner>, Status> {
        let node = self.node.upgrade().filter(|node| !node.tasks.is_stopped());
        node.ok_or_else(|| Status::unavailable("node is stopping"))
    }

    /// Refuses what is meant for another cluster or node. Group and replica are checked with the item they come with.
    pub(super) fn check_node(node: &Inner, target: Option<&wire::Target>) -> Result<(), Status> {
        let target = target.ok_or_else(|| Status::invalid_argument("target is missing"))?;
        let options = &node.parts.options;
        if target.cluster != cluster_bytes(options.cluster) {
            return Err(Status::failed_precondition("meant for another cluster"));
        }
        if NodeId(target.node) != options.node {
            return Err(Status::failed_precondition("meant for another node"));
        }
        Ok(())
    }

    /// The replica a unary call is meant for.
    fn replica(&self, target: Option<&wire::Target>) -> Result<(Arc<Inner>, Arc<Replica>), Status> {
        let node = self.node()?;
        Self::check_node(&node, target)?;
        let target = target.ok_or_else(|| Status::invalid_argument("target is missing"))?;
        let replica = find(&node, GroupId(target.group), ReplicaId(target.replica))
            .map_err(Status::failed_precondition)?;
        Ok((node, replica))
    }

    fn identity<T>(request: &Request<T>) -> Option<PeerIdentity> {
        request.extensions().get().copied()
    }

    async fn vote_on(
        &self,
        request: wire::VoteRequest,
        round: Round,
    ) -> Result<wire::VoteResponse, Status> {
        let (node, replica) = self.replica(request.target.as_ref())?;
        let raft = core(&replica)?;
        let mut rpc: VoteRequest<TypeConfig> = VoteRequest::new(
            convert::vote_from_proto(request.vote.as_ref()).map_err(bad)?,
            request.last.as_ref().map(convert::log_id_from_proto),
        );
        rpc.leadership_transfer = request.leader_gives_way
            && (!request.leader_gone || sees_leader_gone(&node, &replica).await);
        let response = match round {
            Round::Vote => raft.vote(rpc).await,
            Round::PreVote => raft.pre_vote(rpc).await,
        };
        Ok(vote_to_wire(&response.map_err(failed)?))
    }
}

#[derive(Clone, Copy)]
enum Round {
    PreVote,
    Vote,
}

/// The replica of a group, if it is this one. Unknown replicas are never made by a call.
pub(super) fn find(
    node: &Inner,
    group: GroupId,
    replica: ReplicaId,
) -> Result<Arc<Replica>, String> {
    let found = node
        .replica(group)
        .ok_or_else(|| format!("no replica of group {group} here"))?;
    if found.shared.replica != replica {
        let ours = found.shared.replica;
        return Err(format!(
            "group {group} has replica {ours} here, not {replica}"
        ));
    }
    Ok(found)
}

pub(super) fn core(replica: &Replica) -> Result<RaftOf, Status> {
    replica
        .shared
        .raft()
        .ok_or_else(|| Status::unavailable("replica is being opened"))
}

/// Whether this node, too, sees the process of the replica's leader gone. It may be about to notice.
async fn sees_leader_gone(node: &Inner, replica: &Replica) -> bool {
    let deadline = Instant::now() + LOOK_WITHIN;
    loop {
        let leader = replica.shared.leadership.borrow().leader;
        let Some(leader) = leader else { return true };
        if leader.node != node.parts.options.node && node.parts.peers.heard(leader.node).refused {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) fn bad(error: DecodeError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

fn vote_to_wire(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(convert::vote_to_proto(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(convert::log_id_to_proto),
    }
}

type BoxedStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl raft_service_server::RaftService for RaftService {
    type AppendStream = BoxedStream<wire::AppendResponse>;
    type PulseStream = BoxedStream<wire::PulseResponse>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let node = self.node()?;
        let identity = Self::identity(&request);
        let answers = serve_append::start(node, self.clone(), identity, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn pulse(
        &self,
        request: Request<Streaming<wire::PulseRequest>>,
    ) -> Result<Response<Self::PulseStream>, Status> {
        let node = self.node()?;
        let identity = Self::identity(&request);
        let answers = serve_pulse::start(&node, self.clone(), identity, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        self.vote_on(request.into_inner(), Round::Vote)
            .await
            .map(Response::new)
    }

    async fn pre_vote(
        &self,
        request: Request<wire::PreVoteRequest>,
    ) -> Result<Response<wire::PreVoteResponse>, Status> {
        let request = request.into_inner().request;
        let request = request.ok_or_else(|| Status::invalid_argument("request is missing"))?;
        let response = self.vote_on(request, Round::PreVote).await?;
        Ok(Response::new(wire::PreVoteResponse {
            response: Some(response),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let (_, replica) = self.replica(request.target.as_ref())?;
        let rpc: TransferLeaderRequest<TypeConfig> = TransferLeaderRequest::new(
            convert::vote_from_proto(request.from_leader.as_ref()).map_err(bad)?,
            request.to_replica,
            request.last.as_ref().map(convert::log_id_from_proto),
        );
        let outcome = core(&replica)?
            .handle_transfer_leader(rpc)
            .await
            .map_err(failed)?;
        use wire::transfer_leader_response::{Accepted, LogNotFlushed, Result as Answer};
        let result = match outcome {
            Ok(()) => Answer::Accepted(Accepted {}),
            Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                Answer::VoteChanged(convert::vote_to_proto(&actual))
            }
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                let actual = actual.as_ref().map(convert::log_id_to_proto);
                Answer::LogNotFlushed(LogNotFlushed { actual })
            }
        };
        Ok(Response::new(wire::TransferLeaderResponse {
            result: Some(result),
        }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::InstallSnapshotRequest>>,
    ) -> Result<Response<wire::InstallSnapshotResponse>, Status> {
        let mut parts = request.into_inner();
        let head = snapshot_in::head(&mut parts).await?;
        let (node, replica) = self.replica(head.target.as_ref())?;
        let vote = snapshot_in::receive(&node.parts.links, &replica, head, parts).await?;
        let vote = Some(convert::vote_to_proto(&vote));
        Ok(Response::new(wire::InstallSnapshotResponse { vote }))
    }
}
