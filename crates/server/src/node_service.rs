//! `NodeService`: what nodes ask each other beside Raft and clients' traffic. Served before the cluster is formed, too, and only to
//! nodes that have shaken hands. Not here: what is decided (`formation`, `warren-shard`).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use warren_proto::internal_v1::node_service_server::NodeService;
use warren_proto::internal_v1::{
    AppliedTopologyRequest, AppliedTopologyResponse, AuthenticateRequest, AuthenticateResponse,
    CompareTopologyRequest, CompareTopologyResponse, FormClusterOutcome as Outcome,
    FormClusterRequest, FormClusterResponse, HandOverLeaderRequest, HandOverLeaderResponse,
    HandOverOutcome, HelloRequest, HelloResponse, JoinClusterRequest, JoinClusterResponse,
    ProposeTopologyRequest, ProposeTopologyResponse, QueueStatsRequest, QueueStatsResponse,
    ReadTopologyIndexRequest, ReadTopologyIndexResponse, SpreadLeadersRequest,
    SpreadLeadersResponse, StandWithoutRequest, StandWithoutResponse, TopologyRefusal,
};
use warren_raft::PeerIdentity;
use warren_shard::{Broker, TopologyHandle};
use warren_topology::Topology;

use crate::formation::{Adopted, Formation, Record, serve_join};
use crate::identity::{id_bytes, id_of};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Nodes {
    formation: Arc<Formation>,
    broker: Arc<OnceLock<Broker>>,
}

impl Nodes {
    pub(crate) fn new(formation: Arc<Formation>) -> Self {
        Self {
            formation,
            broker: Arc::default(),
        }
    }

    /// The node has joined: from now on it answers about the topology.
    pub(crate) fn joined(&self, broker: Broker) {
        let first = self.broker.set(broker).is_ok();
        debug_assert!(first, "a node joins once");
    }

    /// The broker, for a request of this cluster.
    fn broker(&self, cluster: &[u8]) -> Result<&Broker, TopologyRefusal> {
        let record = self.formation.record().ok_or(TopologyRefusal::NotReady)?;
        if id_of(cluster) != Some(record.cluster.cluster.0) {
            return Err(TopologyRefusal::WrongCluster);
        }
        self.broker.get().ok_or(TopologyRefusal::NotReady)
    }

    fn topology(&self, cluster: &[u8]) -> Result<&TopologyHandle, TopologyRefusal> {
        self.broker(cluster).map(Broker::topology)
    }

    /// Whether a node of this cluster was removed from it. Certain: a majority was asked.
    async fn has_left(&self, caller: PeerIdentity, cluster: &[u8]) -> bool {
        let Ok(topology) = self.topology(cluster) else {
            return false;
        };
        let is_member = |view: &Topology| {
            let known = view.node(caller.node);
            known.is_some_and(|it| it.incarnation == caller.incarnation)
        };
        let formed = |view: &Topology| view.cluster().is_some();
        let now = topology.current();
        if !formed(&now) || is_member(&now) {
            return false;
        }
        let fresh = topology.fresh().await;
        fresh.is_ok_and(|view| formed(&view) && !is_member(&view))
    }

    async fn take(
        &self,
        caller: Option<PeerIdentity>,
        request: FormClusterRequest,
    ) -> Result<FormClusterResponse, Status> {
        let answer = |outcome: Outcome, cluster: Bytes| FormClusterResponse {
            outcome: outcome.into(),
            cluster_id: cluster,
        };
        if let Some(caller) = caller
            && self.has_left(caller, &request.cluster_id).await
        {
            warn!(node_id = %caller.node, incarnation = %caller.incarnation, "called by a node that was removed");
            return Ok(answer(Outcome::CallerLeft, request.cluster_id));
        }
        let us = self.formation.us();
        if id_of(&request.to_incarnation) != Some(us.incarnation.0) {
            warn!(
                former = request.from_node,
                "meant for an earlier directory of this node: not taken"
            );
            return Ok(answer(Outcome::OtherNode, Bytes::new()));
        }
        let record = Record::from_request(request).map_err(Status::invalid_argument)?;
        let cluster = record.cluster.cluster;
        let formation = self.formation.clone();
        let adopted = tokio::task::spawn_blocking(move || formation.adopt(record)).await;
        let adopted = adopted.map_err(|error| Status::internal(error.to_string()))?;
        match adopted {
            Ok(Adopted::Joined) => {
                info!(%cluster, "joined the cluster");
                Ok(answer(Outcome::Joined, id_bytes(cluster.0)))
            }
            Ok(Adopted::Already) => Ok(answer(Outcome::AlreadyJoined, id_bytes(cluster.0))),
            Ok(Adopted::OtherCluster(own)) => {
                warn!(%cluster, %own, "not taken into another cluster");
                Ok(answer(Outcome::OtherCluster, id_bytes(own.0)))
            }
            Err(error) => {
                warn!(%error, "not taken into the cluster");
                Err(Status::failed_precondition(error.to_string()))
            }
        }
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let formed = self.formation.record().map(|record| record.cluster.cluster);
        let from = self.formation.us().hello(formed, &self.formation.members());
        Ok(Response::new(HelloResponse { from: Some(from) }))
    }

    async fn authenticate(
        &self,
        _: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Err(Status::unimplemented(
            "both ends have proven themselves when the connection was made",
        ))
    }

    async fn form_cluster(
        &self,
        request: Request<FormClusterRequest>,
    ) -> Result<Response<FormClusterResponse>, Status> {
        let caller = request.extensions().get::<PeerIdentity>().copied();
        self.take(caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn propose_topology(
        &self,
        request: Request<ProposeTopologyRequest>,
    ) -> Result<Response<ProposeTopologyResponse>, Status> {
        let request = request.into_inner();
        let response = match self.topology(&request.cluster_id) {
            Ok(topology) => topology.serve_propose(request).await,
            Err(refusal) => ProposeTopologyResponse {
                refusal: refusal.into(),
                ..Default::default()
            },
        };
        Ok(Response::new(response))
    }

    async fn read_topology_index(
        &self,
        request: Request<ReadTopologyIndexRequest>,
    ) -> Result<Response<ReadTopologyIndexResponse>, Status> {
        let response = match self.topology(&request.get_ref().cluster_id) {
            Ok(topology) => topology.serve_read_index().await,
            Err(refusal) => ReadTopologyIndexResponse {
                refusal: refusal.into(),
                ..Default::default()
            },
        };
        Ok(Response::new(response))
    }

    async fn applied_topology(
        &self,
        request: Request<AppliedTopologyRequest>,
    ) -> Result<Response<AppliedTopologyResponse>, Status> {
        let request = request.into_inner();
        match self.topology(&request.cluster_id) {
            Ok(topology) => Ok(Response::new(topology.serve_applied(request).await)),
            Err(TopologyRefusal::NotReady) => Err(Status::unavailable(
                "the node has not joined its cluster yet",
            )),
            Err(_) => Err(Status::failed_precondition("meant for another cluster")),
        }
    }

    async fn queue_stats(
        &self,
        _: Request<QueueStatsRequest>,
    ) -> Result<Response<QueueStatsResponse>, Status> {
        Err(Status::unimplemented(
            "figures of queues come over the links between nodes",
        ))
    }

    async fn join_cluster(
        &self,
        request: Request<JoinClusterRequest>,
    ) -> Result<Response<JoinClusterResponse>, Status> {
        let proven = request.extensions().get::<PeerIdentity>().copied();
        let from = request.into_inner().from.unwrap_or_default();
        let is_caller = proven.is_some_and(|it| {
            it.node.0 == from.node_id && id_of(&from.incarnation) == Some(it.incarnation.0)
        });
        if !is_caller {
            return Err(Status::permission_denied("a node joins for itself"));
        }
        let response = match self.broker.get() {
            Some(broker) => serve_join(broker, &from).await,
            None => JoinClusterResponse::default(),
        };
        Ok(Response::new(response))
    }

    async fn hand_over_leader(
        &self,
        request: Request<HandOverLeaderRequest>,
    ) -> Result<Response<HandOverLeaderResponse>, Status> {
        let request = request.into_inner();
        let response = match self.broker(&request.cluster_id) {
            Ok(broker) => broker.serve_hand_over(request).await,
            Err(_) => HandOverLeaderResponse {
                outcome: HandOverOutcome::NotReady.into(),
                ..HandOverLeaderResponse::default()
            },
        };
        Ok(Response::new(response))
    }

    async fn spread_leaders(
        &self,
        request: Request<SpreadLeadersRequest>,
    ) -> Result<Response<SpreadLeadersResponse>, Status> {
        let broker = self.broker(&request.get_ref().cluster_id);
        let response =
            broker.map_or_else(|_| SpreadLeadersResponse::default(), Broker::serve_spread);
        Ok(Response::new(response))
    }

    async fn stand_without(
        &self,
        request: Request<StandWithoutRequest>,
    ) -> Result<Response<StandWithoutResponse>, Status> {
        let caller = request.extensions().get::<PeerIdentity>().copied();
        let request = request.into_inner();
        let broker = self.broker(&request.cluster_id).ok();
        let caller = caller.filter(|it| it.node.0 == request.node_id);
        let (Some(broker), Some(caller)) = (broker, caller) else {
            return Ok(Response::new(StandWithoutResponse::default()));
        };
        let answer = broker.serve_stand_without(caller.node, caller.incarnation);
        Ok(Response::new(answer.await))
    }

    async fn compare_topology(
        &self,
        request: Request<CompareTopologyRequest>,
    ) -> Result<Response<CompareTopologyResponse>, Status> {
        let request = request.into_inner();
        let response = match self.broker(&request.cluster_id) {
            Ok(broker) => broker.serve_compare_topology(request).await,
            Err(_) => CompareTopologyResponse::default(),
        };
        Ok(Response::new(response))
    }
}
