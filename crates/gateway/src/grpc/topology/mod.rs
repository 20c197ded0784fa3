//! `warren.admin.v1.TopologyService`: each call goes to the file of its object. Not here: the rules (`warren-topology`).

mod bindings;
mod contents;
mod definitions;
mod exchanges;
mod pages;
mod queues;
mod selection;
mod vhosts;

pub(super) use exchanges::check_etag;
pub(super) use pages::Page;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use warren_proto::admin_v1;
use warren_proto::admin_v1::topology_service_server::TopologyService;
use warren_proto::convert::error::ApiError;

use super::deadline::deadline;
use super::error::unsupported;
use super::login::caller;
use super::open::{LEADER_METADATA, topology_leader_metadata, with_hint};
use super::permit::{Permit, may_declare_dead_letter_queue, permitted, permitted_to};
use crate::auth::Who;
use crate::gateway::Gateway;
use warren_topology::Operation;

/// Declares are made by no user yet.
const NO_USER: &str = "";

#[derive(Clone)]
pub(super) struct TopologyAdmin {
    gateway: Gateway,
    stop: tokio_util::sync::CancellationToken,
    /// Places for calls of `WatchQueueStats`.
    watches: Arc<Semaphore>,
}

impl TopologyAdmin {
    pub(super) fn new(gateway: Gateway, stop: tokio_util::sync::CancellationToken) -> Self {
        let watches = Arc::new(Semaphore::new(contents::WATCHES_MAX));
        Self {
            gateway,
            stop,
            watches,
        }
    }

    /// With the leader of the topology, which answers changes fastest.
    fn answer<T>(&self, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        with_hint(topology_leader_metadata(&self.gateway), result)
    }

    fn refused(&self, error: ApiError) -> Status {
        let mut status = Status::from(error);
        if let Some(hint) = topology_leader_metadata(&self.gateway) {
            status.metadata_mut().insert(LEADER_METADATA, hint);
        }
        status
    }

    async fn permitted<T: Permit>(&self, request: Request<T>) -> Result<(Who, T), Status> {
        let permitted = permitted(&self.gateway, request).await;
        permitted.map_err(|error| self.refused(error))
    }

    async fn permitted_to<T>(
        &self,
        request: Request<T>,
        operation: Operation<'_>,
    ) -> Result<(Who, T), Status> {
        let permitted = permitted_to(&self.gateway, request, operation).await;
        permitted.map_err(|error| self.refused(error))
    }
}

/// # Errors
/// `validate_only` was asked for, which no write can do yet.
fn check_validate_only(validate_only: bool) -> Result<(), ApiError> {
    if validate_only {
        Err(unsupported("validate_only"))
    } else {
        Ok(())
    }
}

#[tonic::async_trait]
impl TopologyService for TopologyAdmin {
    async fn get_vhost(
        &self,
        request: Request<admin_v1::GetVhostRequest>,
    ) -> Result<Response<admin_v1::GetVhostResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.get_vhost_here(request).await)
    }

    async fn list_vhosts(
        &self,
        request: Request<admin_v1::ListVhostsRequest>,
    ) -> Result<Response<admin_v1::ListVhostsResponse>, Status> {
        let who = caller(request.extensions())?;
        self.answer(self.list_vhosts_here(&who, request.into_inner()).await)
    }

    async fn create_exchange(
        &self,
        request: Request<admin_v1::CreateExchangeRequest>,
    ) -> Result<Response<admin_v1::CreateExchangeResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.create_exchange_here(request).await)
    }

    async fn get_exchange(
        &self,
        request: Request<admin_v1::GetExchangeRequest>,
    ) -> Result<Response<admin_v1::GetExchangeResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.get_exchange_here(request).await)
    }

    async fn list_exchanges(
        &self,
        request: Request<admin_v1::ListExchangesRequest>,
    ) -> Result<Response<admin_v1::ListExchangesResponse>, Status> {
        let (who, request) = self.permitted(request).await?;
        self.answer(self.list_exchanges_here(&who, request).await)
    }

    async fn delete_exchange(
        &self,
        request: Request<admin_v1::DeleteExchangeRequest>,
    ) -> Result<Response<admin_v1::DeleteExchangeResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.delete_exchange_here(request).await)
    }

    async fn create_queue(
        &self,
        request: Request<admin_v1::CreateQueueRequest>,
    ) -> Result<Response<admin_v1::CreateQueueResponse>, Status> {
        let (who, request) = self.permitted(request).await?;
        may_declare_dead_letter_queue(&self.gateway, &who, &request).await?;
        self.answer(self.create_queue_here(request).await)
    }

    async fn get_queue(
        &self,
        request: Request<admin_v1::GetQueueRequest>,
    ) -> Result<Response<admin_v1::GetQueueResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.get_queue_here(request).await)
    }

    async fn list_queues(
        &self,
        request: Request<admin_v1::ListQueuesRequest>,
    ) -> Result<Response<admin_v1::ListQueuesResponse>, Status> {
        let (who, request) = self.permitted(request).await?;
        self.answer(self.list_queues_here(&who, request).await)
    }

    async fn delete_queue(
        &self,
        request: Request<admin_v1::DeleteQueueRequest>,
    ) -> Result<Response<admin_v1::DeleteQueueResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.delete_queue_here(request).await)
    }

    async fn create_binding(
        &self,
        request: Request<admin_v1::CreateBindingRequest>,
    ) -> Result<Response<admin_v1::CreateBindingResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.create_binding_here(request).await)
    }

    async fn list_bindings(
        &self,
        request: Request<admin_v1::ListBindingsRequest>,
    ) -> Result<Response<admin_v1::ListBindingsResponse>, Status> {
        let (who, request) = self.permitted(request).await?;
        self.answer(self.list_bindings_here(&who, request).await)
    }

    async fn delete_binding(
        &self,
        request: Request<admin_v1::DeleteBindingRequest>,
    ) -> Result<Response<admin_v1::DeleteBindingResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.delete_binding_here(request).await)
    }

    async fn purge_queue(
        &self,
        request: Request<admin_v1::PurgeQueueRequest>,
    ) -> Result<Response<admin_v1::PurgeQueueResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.purge_queue_here(request).await)
    }

    async fn get_queue_stats(
        &self,
        request: Request<admin_v1::GetQueueStatsRequest>,
    ) -> Result<Response<admin_v1::GetQueueStatsResponse>, Status> {
        let (_, request) = self.permitted(request).await?;
        self.answer(self.get_queue_stats_here(request).await)
    }

    type WatchQueueStatsStream =
        Pin<Box<dyn Stream<Item = Result<admin_v1::WatchQueueStatsResponse, Status>> + Send>>;

    async fn watch_queue_stats(
        &self,
        request: Request<admin_v1::WatchQueueStatsRequest>,
    ) -> Result<Response<Self::WatchQueueStatsStream>, Status> {
        let (who, request) = self.permitted(request).await?;
        let vhost = request.vhost.clone();
        let rounds = self
            .watch_queue_stats_here(request)
            .map_err(|error| self.refused(error))?;
        let gateway = self.gateway.clone();
        // Looked at in each round: rights change while it runs.
        let seen =
            rounds.map(move |round| round.map(|it| contents::seen(&gateway, &who, &vhost, it)));
        self.answer(Ok(Box::pin(seen)))
    }

    async fn create_vhost(
        &self,
        request: Request<admin_v1::CreateVhostRequest>,
    ) -> Result<Response<admin_v1::CreateVhostResponse>, Status> {
        let change = Operation::ChangeVhosts;
        let (_, request) = self.permitted_to(request, change).await?;
        self.answer(self.create_vhost_here(request).await)
    }

    async fn update_vhost(
        &self,
        request: Request<admin_v1::UpdateVhostRequest>,
    ) -> Result<Response<admin_v1::UpdateVhostResponse>, Status> {
        let change = Operation::ChangeVhosts;
        let (_, request) = self.permitted_to(request, change).await?;
        self.answer(self.update_vhost_here(request).await)
    }

    async fn delete_vhost(
        &self,
        request: Request<admin_v1::DeleteVhostRequest>,
    ) -> Result<Response<admin_v1::DeleteVhostResponse>, Status> {
        let change = Operation::ChangeVhosts;
        let (_, request) = self.permitted_to(request, change).await?;
        self.answer(self.delete_vhost_here(request).await)
    }

    async fn update_exchange(
        &self,
        _request: Request<admin_v1::UpdateExchangeRequest>,
    ) -> Result<Response<admin_v1::UpdateExchangeResponse>, Status> {
        Err(unsupported("UpdateExchange").into())
    }

    async fn update_queue(
        &self,
        _request: Request<admin_v1::UpdateQueueRequest>,
    ) -> Result<Response<admin_v1::UpdateQueueResponse>, Status> {
        Err(unsupported("UpdateQueue").into())
    }

    async fn move_messages(
        &self,
        request: Request<admin_v1::MoveMessagesRequest>,
    ) -> Result<Response<admin_v1::MoveMessagesResponse>, Status> {
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let (who, request) = self.permitted(request).await?;
        self.answer(self.move_messages_here(&who, request, deadline).await)
    }

    async fn delete_messages(
        &self,
        request: Request<admin_v1::DeleteMessagesRequest>,
    ) -> Result<Response<admin_v1::DeleteMessagesResponse>, Status> {
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let (who, request) = self.permitted(request).await?;
        self.answer(self.delete_messages_here(&who, request, deadline).await)
    }

    async fn seek_queue(
        &self,
        _request: Request<admin_v1::SeekQueueRequest>,
    ) -> Result<Response<admin_v1::SeekQueueResponse>, Status> {
        Err(unsupported("SeekQueue").into())
    }

    async fn export_definitions(
        &self,
        request: Request<admin_v1::ExportDefinitionsRequest>,
    ) -> Result<Response<admin_v1::ExportDefinitionsResponse>, Status> {
        let export = Operation::ExportDefinitions;
        let (_, request) = self.permitted_to(request, export).await?;
        self.answer(self.export_definitions_here(request).await)
    }

    async fn import_definitions(
        &self,
        request: Request<admin_v1::ImportDefinitionsRequest>,
    ) -> Result<Response<admin_v1::ImportDefinitionsResponse>, Status> {
        let import = Operation::ImportDefinitions;
        let (who, request) = self.permitted_to(request, import).await?;
        self.answer(self.import_definitions_here(&who, request).await)
    }
}
