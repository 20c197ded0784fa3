//! `warren.v1.MessagingService`: each call goes to its own file. Not here: what they do.

use std::pin::Pin;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use warren_proto::convert::error::ApiError;
use warren_proto::v1;
use warren_proto::v1::messaging_service_server::MessagingService;
use warren_proto::v1::settlement;
use warren_topology::{Published, Targets};
use warren_types::ShardId;

use super::connection::{ConnectionInfo, Seats};
use super::deadline::deadline;
use super::login::caller;
use super::open::{leader_metadata, vhost_name, with_hint};
use super::permit::permitted;
use super::publish_stream::PublishParts;
use super::receipt::Receipt;
use super::resume::Link;
use super::streams::{FRAMES_QUEUED, draining};
use super::{consume, peek, publish_stream, publish_unary, receive, schedule, settle};
use crate::admission::ConnectionAdmission;
use crate::gateway::Gateway;

pub(super) struct Messaging {
    gateway: Gateway,
    stop: CancellationToken,
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Messaging {
    pub(super) fn new(gateway: Gateway, stop: CancellationToken) -> Self {
        Self { gateway, stop }
    }

    fn check_open(&self) -> Result<(), Status> {
        if self.stop.is_cancelled() {
            Err(draining().into())
        } else {
            Ok(())
        }
    }

    /// The connection's share; a call that came otherwise has one of its own.
    fn admission<T>(&self, request: &Request<T>) -> ConnectionAdmission {
        let info = request.extensions().get::<ConnectionInfo>();
        info.map_or_else(
            || self.gateway.admission().connection(),
            |info| info.admission.clone(),
        )
    }

    /// The connection's seats; a call that came otherwise has its own.
    fn seats<T>(request: &Request<T>) -> Seats {
        let info = request.extensions().get::<ConnectionInfo>();
        info.map_or_else(Seats::default, |info| info.seats.clone())
    }

    /// Where the queue of a call is led, if this node knows both.
    fn shard_of(&self, vhost: &str, queue: &str) -> Option<ShardId> {
        let topology = self.gateway.topology();
        let vhost = topology
            .vhost(if vhost.is_empty() { "/" } else { vhost })?
            .id;
        topology.queue(vhost, queue).map(|it| it.shard)
    }

    fn with_leader<T>(
        &self,
        shard: Option<ShardId>,
        result: Result<T, ApiError>,
    ) -> Result<Response<T>, Status> {
        let hint = shard.and_then(|shard| leader_metadata(&self.gateway, shard));
        with_hint(hint, result)
    }

    /// Where the first message of a batch goes, if that is known here.
    fn shard_of_batch(&self, request: &v1::PublishRequest) -> Option<ShardId> {
        let batch = request.batch.as_ref()?;
        let first = batch.entries.first()?;
        let exchange = first.exchange.as_deref().unwrap_or(&batch.exchange);
        let key = first.routing_key.as_deref().unwrap_or(&batch.routing_key);
        let topology = self.gateway.topology();
        let vhost = vhost_name(&request.vhost).ok()?;
        let vhost = topology.vhost(vhost.as_str())?.id;
        let mut targets = Targets::new();
        let first = Published::new(exchange, key);
        topology.route(vhost, &first, &mut targets).ok()?;
        targets.iter().next().map(|it| it.shard)
    }

    /// Where the first delivery of a call is from.
    fn shard_of_receipt(&self, request: &v1::SettleRequest) -> Option<ShardId> {
        let Some(settlement::Target::Receipt(receipt)) = &request.settlements.first()?.target
        else {
            return None;
        };
        let receipt = Receipt::read(self.gateway.cluster(), receipt).ok()?;
        Some(receipt.target.shard)
    }
}

#[tonic::async_trait]
impl MessagingService for Messaging {
    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        self.check_open()?;
        let who = caller(request.extensions())?;
        let admission = self.admission(&request);
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let request = request.into_inner();
        let shard = self.shard_of_batch(&request);
        let answer =
            publish_unary::publish(&self.gateway, &who, &admission, request, deadline).await;
        self.with_leader(shard, answer)
    }

    type PublishStreamStream = ReceiverStream<Result<v1::PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        self.check_open()?;
        let who = caller(request.extensions())?;
        let admission = self.admission(&request);
        let (outbound, frames) = mpsc::channel(FRAMES_QUEUED);
        let parts = PublishParts {
            who,
            seats: Self::seats(&request),
            gateway: self.gateway.clone(),
            inbound: request.into_inner(),
            outbound,
            admission,
            stop: self.stop.clone(),
        };
        self.gateway.tasks().spawn(publish_stream::run(parts));
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    type ConsumeStream = ReceiverStream<Result<v1::ConsumeResponse, Status>>;

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        self.check_open()?;
        let who = caller(request.extensions())?;
        let admission = self.admission(&request);
        let (outbound, frames) = mpsc::channel(FRAMES_QUEUED);
        let link = Link {
            seats: Self::seats(&request),
            seat: None,
            inbound: request.into_inner(),
            outbound,
            admission,
        };
        self.gateway.tasks().spawn(consume::run(
            self.gateway.clone(),
            who,
            link,
            self.stop.clone(),
        ));
        Ok(Response::new(ReceiverStream::new(frames)))
    }

    async fn receive(
        &self,
        request: Request<v1::ReceiveRequest>,
    ) -> Result<Response<v1::ReceiveResponse>, Status> {
        self.check_open()?;
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let who = caller(request.extensions())?;
        let request = request.into_inner();
        let shard = self.shard_of(&request.vhost, &request.queue);
        let answer = receive::receive(&self.gateway, &who, request, deadline).await;
        self.with_leader(shard, answer)
    }

    async fn settle(
        &self,
        request: Request<v1::SettleRequest>,
    ) -> Result<Response<v1::SettleResponse>, Status> {
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let who = caller(request.extensions())?;
        let admission = self.admission(&request);
        let request = request.into_inner();
        let shard = self.shard_of_receipt(&request);
        let answer = settle::settle(&self.gateway, &who, &admission, request, deadline).await;
        self.with_leader(shard, answer)
    }

    type PeekStream = Frames<v1::PeekResponse>;

    async fn peek(
        &self,
        request: Request<v1::PeekRequest>,
    ) -> Result<Response<Self::PeekStream>, Status> {
        self.check_open()?;
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let (_, request) = permitted(&self.gateway, request).await?;
        let shard = self.shard_of(&request.vhost, &request.queue);
        let pages = peek::peek(&self.gateway, request, deadline).await;
        let pages = pages.map(|it| -> Self::PeekStream {
            Box::pin(futures::stream::iter(
                it.into_iter().map(|page| Ok(page.into())),
            ))
        });
        self.with_leader(shard, pages)
    }

    async fn cancel_scheduled(
        &self,
        request: Request<v1::CancelScheduledRequest>,
    ) -> Result<Response<v1::CancelScheduledResponse>, Status> {
        self.check_open()?;
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let who = caller(request.extensions())?;
        let answer = schedule::cancel(&self.gateway, &who, request.into_inner(), deadline).await;
        Ok(Response::new(answer?))
    }
}
