//! `warren.admin.v1.DeadLetterService`: dead letters and parked messages are listed, sent back and deleted. Not here: sending back page
//! after page (`redrive`), moving (`warren-shard`), looking at any queue (`peek`).

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use warren_proto::admin_v1;
use warren_proto::admin_v1::dead_letter_service_server::DeadLetterService;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::time_ms_to_client;
use warren_proto::v1::{self, MessageState};
use warren_shard::api::StatsDepth;
use warren_shard::{ATTEMPTS, ATTEMPTS_MAX, PurgeStates, RedriveTo, SaidAt};
use warren_topology::{Operation, Queue};

use super::deadline::deadline;
use super::error::{bad_argument, of_operation};
use super::open::{leader_metadata, queue_name, vhost_name, with_hint};
use super::peek::{Looked, peek};
use super::permit::{Permit, permitted};
use super::redrive::{Doing, Redriving};
use super::redrive_job;
use crate::auth::Who;
use crate::gateway::Gateway;

pub(super) struct DeadLetters {
    gateway: Gateway,
    stop: CancellationToken,
}

impl DeadLetters {
    pub(super) fn new(gateway: Gateway, stop: CancellationToken) -> Self {
        Self { gateway, stop }
    }

    async fn find(&self, vhost: &str, queue: &str) -> Result<Queue, ApiError> {
        let (vhost, name) = (vhost_name(vhost)?, queue_name(queue)?);
        let found = self.gateway.find_queue(&vhost, &name, None).await;
        found.map_err(|error| of_operation(&error))
    }

    fn answer<T>(
        &self,
        queue: Option<&Queue>,
        result: Result<T, ApiError>,
    ) -> Result<Response<T>, Status> {
        let hint = queue.and_then(|it| leader_metadata(&self.gateway, it.shard));
        with_hint(hint, result)
    }

    /// Those that match a filter: counted, or by an operation.
    async fn delete_some(
        &self,
        who: &Who,
        queue: &Queue,
        it: admin_v1::DeleteDeadLettersRequest,
        deadline: Instant,
    ) -> Result<admin_v1::DeleteDeadLettersResponse, ApiError> {
        let request = admin_v1::RedriveRequest {
            vhost: it.vhost,
            queue: it.queue,
            filter: it.filter,
            dry_run: it.dry_run,
            request_id: it.request_id,
            ..admin_v1::RedriveRequest::default()
        };
        let going = Redriving::new(
            &self.gateway,
            who.clone(),
            queue.clone(),
            request,
            &Doing::Delete,
        )?;
        let begun =
            redrive_job::begin(&self.gateway, who, going, deadline, self.stop.clone()).await?;
        Ok(admin_v1::DeleteDeadLettersResponse {
            operation_id: begun.operation_id,
            messages: begun.messages,
        })
    }

    async fn list(
        &self,
        request: admin_v1::ListDeadLettersRequest,
        state: MessageState,
        deadline: Instant,
    ) -> Result<(Vec<admin_v1::DeadLetter>, String), ApiError> {
        let request = v1::PeekRequest {
            vhost: request.vhost,
            queue: request.queue,
            states: vec![state.into()],
            filter: request.filter,
            cursor: request.page_token,
            limit: request.page_size,
            no_body: request.no_body,
            client_id: String::new(),
        };
        let pages = peek(&self.gateway, request, deadline).await?;
        let next = pages.last().map(|it| it.next_cursor.clone());
        let messages = pages.into_iter().flat_map(|it| it.messages);
        Ok((
            messages.map(dead_letter).collect(),
            next.unwrap_or_default(),
        ))
    }
}

impl Permit for admin_v1::ListDeadLettersRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.queue;
        (&self.vhost, vec![Operation::Consume { queue }])
    }
}

impl Permit for admin_v1::ListParkedRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.queue;
        (&self.vhost, vec![Operation::Consume { queue }])
    }
}

impl Permit for admin_v1::DeleteDeadLettersRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.queue;
        (&self.vhost, vec![Operation::PurgeQueue { queue }])
    }
}

fn dead_letter(it: Looked) -> admin_v1::DeadLetter {
    let Looked {
        message: it,
        died,
        said,
    } = it;
    let delivery = it.delivery.unwrap_or_default();
    let message = delivery.message.as_ref();
    let header = |name: &str| {
        let value = message.and_then(|it| it.headers.get(name));
        match value.and_then(|it| it.kind.as_ref()) {
            Some(v1::value::Kind::StringValue(text)) => text.clone(),
            Some(_) | None => String::new(),
        }
    };
    let cause = if it.cause.is_empty() {
        header("x-last-death-reason")
    } else {
        it.cause
    };
    admin_v1::DeadLetter {
        id: String::new(),
        source_queue: header("x-last-death-queue"),
        cause,
        died_at: delivery.enqueued_at,
        attempts: attempts(message.filter(|_| died), said),
        delivery: Some(delivery),
    }
}

/// What consumers said of it: in earlier queues, as its header tells, then here.
fn attempts(message: Option<&v1::Message>, said: Vec<SaidAt>) -> Vec<admin_v1::AttemptRecord> {
    let earlier = message.and_then(|it| it.headers.get(ATTEMPTS));
    let earlier = match earlier.and_then(|it| it.kind.as_ref()) {
        Some(v1::value::Kind::ListValue(list)) => list.values.as_slice(),
        Some(_) | None => &[],
    };
    let here = said.into_iter().map(|it| admin_v1::AttemptRecord {
        at: Some(time_ms_to_client(it.at.0)),
        outcome: it.said.outcome.name().to_owned(),
        reason: it.said.reason,
        detail: it.said.detail,
        consumer_tag: it.said.consumer,
    });
    let earlier = earlier.iter().filter_map(earlier_attempt);
    let mut all: Vec<_> = earlier.chain(here).collect();
    all.drain(..all.len().saturating_sub(ATTEMPTS_MAX));
    all
}

fn earlier_attempt(entry: &v1::Value) -> Option<admin_v1::AttemptRecord> {
    let Some(v1::value::Kind::TableValue(entry)) = &entry.kind else {
        return None;
    };
    let kind = |name: &str| entry.fields.get(name).and_then(|it| it.kind.as_ref());
    let text = |name: &str| match kind(name) {
        Some(v1::value::Kind::StringValue(text)) => text.clone(),
        Some(_) | None => String::new(),
    };
    let at = match kind("time") {
        Some(v1::value::Kind::TimeValue(at)) => Some(*at),
        Some(_) | None => None,
    };
    Some(admin_v1::AttemptRecord {
        at,
        outcome: text("outcome"),
        reason: text("reason"),
        detail: text("detail"),
        consumer_tag: text("consumer"),
    })
}

#[tonic::async_trait]
impl DeadLetterService for DeadLetters {
    async fn list_dead_letters(
        &self,
        request: Request<admin_v1::ListDeadLettersRequest>,
    ) -> Result<Response<admin_v1::ListDeadLettersResponse>, Status> {
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let (_, request) = permitted(&self.gateway, request).await?;
        let listed = self.list(request, MessageState::Ready, deadline).await;
        let answer =
            listed.map(
                |(dead_letters, next_page_token)| admin_v1::ListDeadLettersResponse {
                    dead_letters,
                    next_page_token,
                },
            );
        self.answer(None, answer)
    }

    async fn list_parked(
        &self,
        request: Request<admin_v1::ListParkedRequest>,
    ) -> Result<Response<admin_v1::ListParkedResponse>, Status> {
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let (_, it) = permitted(&self.gateway, request).await?;
        let request = admin_v1::ListDeadLettersRequest {
            vhost: it.vhost,
            queue: it.queue,
            filter: it.filter,
            page_size: it.page_size,
            page_token: it.page_token,
            no_body: it.no_body,
        };
        let listed = self.list(request, MessageState::Parked, deadline).await;
        let answer = listed.map(|(parked, next_page_token)| admin_v1::ListParkedResponse {
            parked,
            next_page_token,
        });
        self.answer(None, answer)
    }

    async fn redrive(
        &self,
        request: Request<admin_v1::RedriveRequest>,
    ) -> Result<Response<admin_v1::RedriveResponse>, Status> {
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let (who, request) = permitted(&self.gateway, request).await?;
        if request.target_queue == request.queue && !request.parked {
            return Err(bad_argument("target_queue", "is the queue itself").into());
        }
        let queue = self.find(&request.vhost, &request.queue).await?;
        let to = match request.target_queue.as_str() {
            "" => RedriveTo::Sources(Vec::new()),
            name => RedriveTo::Queue(self.find(&request.vhost, name).await?.id),
        };
        if request.background && request.dry_run {
            return Err(bad_argument("background", "counts nothing: dry_run answers").into());
        }
        let background = request.background;
        let doing = Doing::SendBack(to);
        let redriving = Redriving::new(&self.gateway, who.clone(), queue.clone(), request, &doing)?;
        if background {
            let started = redrive_job::start(&self.gateway, &who, redriving, self.stop.clone());
            let answer = started.await.map(|operation_id| admin_v1::RedriveResponse {
                operation_id,
                ..admin_v1::RedriveResponse::default()
            });
            return self.answer(Some(&queue), answer);
        }
        let answer = redriving.run(deadline).await;
        self.answer(Some(&queue), answer)
    }

    async fn delete_dead_letters(
        &self,
        request: Request<admin_v1::DeleteDeadLettersRequest>,
    ) -> Result<Response<admin_v1::DeleteDeadLettersResponse>, Status> {
        let deadline = deadline(request.metadata(), self.gateway.options().unary_timeout);
        let (who, request) = permitted(&self.gateway, request).await?;
        let queue = self.find(&request.vhost, &request.queue).await?;
        if !request.filter.is_empty() {
            let answer = self.delete_some(&who, &queue, request, deadline).await;
            return self.answer(Some(&queue), answer);
        }
        let removed = if request.dry_run {
            let stats = self.gateway.queue_stats(&queue, StatsDepth::Counts).await;
            stats.map(|it| it.ready)
        } else {
            let ready = PurgeStates {
                ready: true,
                delayed: false,
                scheduled: false,
                parked: false,
                dead_lettering: false,
            };
            self.gateway.purge_queue(&queue, ready).await
        };
        let answer = removed.map_err(|error| of_operation(&error));
        let answer = answer.map(|messages| admin_v1::DeleteDeadLettersResponse {
            operation_id: String::new(),
            messages,
        });
        self.answer(Some(&queue), answer)
    }
}
