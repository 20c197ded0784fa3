//! What the nodes of a test ask each other about the topology. Not here: forming and joining a cluster (`warren-server`).

use tonic::{Request, Response, Status};
use warren_proto::internal_v1::node_service_server::NodeService;
use warren_proto::internal_v1::{
    AppliedTopologyRequest, AppliedTopologyResponse, AuthenticateRequest, AuthenticateResponse,
    CompareTopologyRequest, CompareTopologyResponse, FormClusterRequest, FormClusterResponse,
    HandOverLeaderRequest, HandOverLeaderResponse, HelloRequest, HelloResponse, JoinClusterRequest,
    JoinClusterResponse, ProposeTopologyRequest, ProposeTopologyResponse, QueueStatsRequest,
    QueueStatsResponse, ReadTopologyIndexRequest, ReadTopologyIndexResponse, SpreadLeadersRequest,
    SpreadLeadersResponse, StandWithoutRequest, StandWithoutResponse,
};
use warren_shard::Broker;

pub struct Nodes(pub Broker);

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in these tests"))
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn read_topology_index(
        &self,
        _: Request<ReadTopologyIndexRequest>,
    ) -> Result<Response<ReadTopologyIndexResponse>, Status> {
        Ok(Response::new(self.0.topology().serve_read_index().await))
    }

    async fn propose_topology(
        &self,
        request: Request<ProposeTopologyRequest>,
    ) -> Result<Response<ProposeTopologyResponse>, Status> {
        let proposed = self.0.topology().serve_propose(request.into_inner());
        Ok(Response::new(proposed.await))
    }

    async fn applied_topology(
        &self,
        request: Request<AppliedTopologyRequest>,
    ) -> Result<Response<AppliedTopologyResponse>, Status> {
        let applied = self.0.topology().serve_applied(request.into_inner());
        Ok(Response::new(applied.await))
    }

    async fn compare_topology(
        &self,
        request: Request<CompareTopologyRequest>,
    ) -> Result<Response<CompareTopologyResponse>, Status> {
        let compared = self.0.serve_compare_topology(request.into_inner());
        Ok(Response::new(compared.await))
    }

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        not_here()
    }

    async fn authenticate(
        &self,
        _: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        not_here()
    }

    async fn form_cluster(
        &self,
        _: Request<FormClusterRequest>,
    ) -> Result<Response<FormClusterResponse>, Status> {
        not_here()
    }

    async fn queue_stats(
        &self,
        _: Request<QueueStatsRequest>,
    ) -> Result<Response<QueueStatsResponse>, Status> {
        not_here()
    }

    async fn join_cluster(
        &self,
        _: Request<JoinClusterRequest>,
    ) -> Result<Response<JoinClusterResponse>, Status> {
        not_here()
    }

    async fn hand_over_leader(
        &self,
        _: Request<HandOverLeaderRequest>,
    ) -> Result<Response<HandOverLeaderResponse>, Status> {
        not_here()
    }

    async fn spread_leaders(
        &self,
        _: Request<SpreadLeadersRequest>,
    ) -> Result<Response<SpreadLeadersResponse>, Status> {
        not_here()
    }

    async fn stand_without(
        &self,
        _: Request<StandWithoutRequest>,
    ) -> Result<Response<StandWithoutResponse>, Status> {
        not_here()
    }
}
