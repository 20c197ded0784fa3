//! Hands the leadership of any group to any of its voters, whichever node is asked. Not here: which should lead where
//! (`warren-topology`, `plan`), how Raft does it (`warren-raft`).

use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;
use warren_proto::internal_v1::node_service_client::NodeServiceClient;
use warren_proto::internal_v1::{
    HandOverLeaderRequest, HandOverLeaderResponse, HandOverOutcome as Outcome,
    SpreadLeadersRequest, SpreadLeadersResponse,
};
use warren_raft::{Lane, TransferError};
use warren_topology::plan::{LeaderMove, spread};
use warren_types::{GroupId, NodeId, Term};

use super::{Broker, TRANSFER_WITHIN};

/// A node that is asked to hand over answers within this time: longer than the transfer itself may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// More transfers than these are not shown ahead.
const MOVES_SHOWN_MAX: usize = 1_000;

/// Why a leadership was not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HandOverError {
    #[error("there is no group {0}")]
    NoSuchGroup(GroupId),
    #[error("no leader is known; nothing was done")]
    NoLeader,
    #[error("the node has no replica of the group that votes; nothing was done")]
    NoVoter,
    #[error("the replica was not caught up in time; nothing was done")]
    NotCaughtUp,
    #[error("the leader's node is not ready or is stopping; nothing was done")]
    NotReady,
    #[error("the old leader has stopped leading, and no new one was seen in time")]
    Unknown,
}

impl Broker {
    /// Makes a replica on `to` the leader, or the one that is best caught up. Answers who leads then; if it leads already, nothing
    /// is done.
    ///
    /// # Errors
    /// After [`HandOverError::Unknown`] another leads, or an election is under way; after any other nothing was done.
    pub async fn transfer_leader(
        &self,
        group: GroupId,
        to: Option<NodeId>,
    ) -> Result<(NodeId, Term), HandOverError> {
        if self.inner.topology.current().placement(group).is_none() {
            return Err(HandOverError::NoSuchGroup(group));
        }
        let (leader, term) = self.leadership_of(group).ok_or(HandOverError::NoLeader)?;
        if to == Some(leader) {
            return Ok((leader, term));
        }
        if leader == self.inner.me.node {
            self.hand_over_here(group, to).await
        } else {
            self.hand_over_at(leader, group, to).await
        }
    }

    /// The transfers that would spread leaders evenly, as this node sees the cluster.
    #[must_use]
    pub fn leader_moves(&self) -> Vec<LeaderMove> {
        let topology = self.inner.topology.current();
        spread(topology.placements(), &self.observe(), MOVES_SHOWN_MAX)
    }

    /// Has leaders spread evenly now, one per second; [`Self::leader_moves`] tells what is left.
    ///
    /// # Errors
    /// [`HandOverError::NoLeader`], [`HandOverError::NotReady`]: the topology's leader was not reached.
    pub async fn spread_leaders(&self) -> Result<(), HandOverError> {
        let leader = self.leadership_of(GroupId::TOPOLOGY);
        let (leader, _) = leader.ok_or(HandOverError::NoLeader)?;
        if leader == self.inner.me.node {
            self.inner.spread_now.ask();
            return Ok(());
        }
        let mut client = self.client(leader)?;
        let request = SpreadLeadersRequest {
            cluster_id: self.inner.topology.cluster_bytes(),
        };
        match timeout(ANSWER_WITHIN, client.spread_leaders(request)).await {
            Ok(Ok(response)) if response.get_ref().taken => Ok(()),
            Ok(Ok(_)) => Err(HandOverError::NoLeader),
            Ok(Err(_)) | Err(_) => Err(HandOverError::NotReady),
        }
    }

    /// Another node asks for [`Self::transfer_leader`] where this one leads.
    pub async fn serve_hand_over(&self, request: HandOverLeaderRequest) -> HandOverLeaderResponse {
        let to = (request.to_node != 0).then_some(NodeId(request.to_node));
        match self.hand_over_here(GroupId(request.group), to).await {
            Ok((node, term)) => HandOverLeaderResponse {
                outcome: Outcome::Done.into(),
                leader_node: node.0,
                term: term.0,
            },
            Err(error) => HandOverLeaderResponse {
                outcome: outcome(error).into(),
                ..HandOverLeaderResponse::default()
            },
        }
    }

    /// Another node asks for [`Self::spread_leaders`].
    #[must_use]
    pub fn serve_spread(&self) -> SpreadLeadersResponse {
        let leader = self.leadership_of(GroupId::TOPOLOGY);
        let taken = leader.is_some_and(|(leader, _)| leader == self.inner.me.node);
        if taken {
            self.inner.spread_now.ask();
        }
        SpreadLeadersResponse { taken }
    }

    async fn hand_over_here(
        &self,
        group: GroupId,
        to: Option<NodeId>,
    ) -> Result<(NodeId, Term), HandOverError> {
        let handle = self.inner.groups.read().get(&group).cloned();
        let handle = handle.ok_or(HandOverError::NoLeader)?;
        let to = match to {
            None => None,
            Some(node) => {
                let voters = handle.status().voters;
                let voter = voters.iter().find(|voter| voter.node == node);
                Some(voter.ok_or(HandOverError::NoVoter)?.replica)
            }
        };
        let handed = timeout(TRANSFER_WITHIN, handle.transfer_leader(to)).await;
        handed.map_err(|_| HandOverError::Unknown)?.map_err(why)?;
        let now = *handle.leadership().borrow();
        let leader = now.leader.ok_or(HandOverError::Unknown)?;
        Ok((leader.node, now.term))
    }

    async fn hand_over_at(
        &self,
        leader: NodeId,
        group: GroupId,
        to: Option<NodeId>,
    ) -> Result<(NodeId, Term), HandOverError> {
        let mut client = self.client(leader)?;
        let request = HandOverLeaderRequest {
            cluster_id: self.inner.topology.cluster_bytes(),
            group: group.0,
            to_node: to.map_or(0, |node| node.0),
        };
        let answered = timeout(ANSWER_WITHIN, client.hand_over_leader(request)).await;
        let Ok(Ok(response)) = answered else {
            return Err(HandOverError::Unknown);
        };
        let response = response.into_inner();
        match response.outcome() {
            Outcome::Done => Ok((NodeId(response.leader_node), Term(response.term))),
            Outcome::NotLeader => Err(HandOverError::NoLeader),
            Outcome::NoVoter => Err(HandOverError::NoVoter),
            Outcome::NotCaughtUp => Err(HandOverError::NotCaughtUp),
            Outcome::NotReady => Err(HandOverError::NotReady),
            Outcome::Unknown | Outcome::Unspecified => Err(HandOverError::Unknown),
        }
    }

    pub(super) fn client(
        &self,
        node: NodeId,
    ) -> Result<NodeServiceClient<tonic::transport::Channel>, HandOverError> {
        let channel = self.inner.peers.channel(node, Lane::Control);
        channel
            .map(NodeServiceClient::new)
            .ok_or(HandOverError::NotReady)
    }
}

fn why(error: TransferError) -> HandOverError {
    match error {
        TransferError::NotLeader => HandOverError::NoLeader,
        TransferError::NoSuchVoter(_) => HandOverError::NoVoter,
        TransferError::NotCaughtUp => HandOverError::NotCaughtUp,
        TransferError::NotSeen => HandOverError::Unknown,
        TransferError::Stopped => HandOverError::NotReady,
    }
}

fn outcome(error: HandOverError) -> Outcome {
    match error {
        HandOverError::NoSuchGroup(_) | HandOverError::NoLeader => Outcome::NotLeader,
        HandOverError::NoVoter => Outcome::NoVoter,
        HandOverError::NotCaughtUp => Outcome::NotCaughtUp,
        HandOverError::NotReady => Outcome::NotReady,
        HandOverError::Unknown => Outcome::Unknown,
    }
}
