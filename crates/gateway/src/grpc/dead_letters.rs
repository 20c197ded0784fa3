//! `warren.admin.v1.DeadLetterService`: dead letters and parked messages are listed, sent back and deleted. Not here: moving them
//! (`warren-shard`), looking at any queue (`peek`).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};
use warren_proto::admin_v1;
use warren_proto::admin_v1::dead_letter_service_server::DeadLetterService;
use warren_proto::convert::error::ApiError;
use warren_proto::v1::{self, MessageState};
use warren_shard::{PEEK_MESSAGES_MAX, PurgeStates, Redrive};
use warren_topology::{Operation, Queue};
use warren_types::Position;

use super::deadline::deadline;
use super::error::{bad_argument, of_operation, unsupported};
use super::open::{leader_metadata, queue_name, vhost_name, with_hint};
use super::peek::{no_answer, peek};
use super::permit::{Permit, permitted};
use crate::gateway::Gateway;
use crate::operations::target_of;

/// Messages that one call sends back, at most: the caller repeats it until it answers 0.
const REDRIVEN_MAX: u64 = 10_000;
/// While too much is on its way, the next page waits so long.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Kept for the answer before the call's deadline.
const ANSWER_TIME: Duration = Duration::from_millis(500);

pub(super) struct DeadLetters {
    gateway: Gateway,
}

impl DeadLetters {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self { gateway }
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
        };
        let pages = peek(&self.gateway, request, deadline).await?;
        let next = pages.last().map(|it| it.next_cursor.clone());
        let messages = pages.into_iter().flat_map(|it| it.messages);
        Ok((
            messages.map(dead_letter).collect(),
            next.unwrap_or_default(),
        ))
    }

    /// Sends pages back until there are no more, or enough, or the time is up.
    async fn redrive(
        &self,
        queue: &Queue,
        request: &admin_v1::RedriveRequest,
        deadline: Instant,
    ) -> Result<u64, ApiError> {
        let wish = Redrive {
            to: match request.target_queue.as_str() {
                "" => None,
                name => Some(self.find(&request.vhost, name).await?.id),
            },
            dry_run: request.dry_run,
        };
        let most = match request.limit {
            0 if request.dry_run => u64::MAX,
            0 => REDRIVEN_MAX,
            limit if request.dry_run => limit,
            limit => limit.min(REDRIVEN_MAX),
        };
        let end = deadline.checked_sub(ANSWER_TIME).unwrap_or(deadline);
        let (mut moved, mut from) = (0, Position(0));
        while moved < most {
            let page = page_size(most - moved, request.messages_per_second);
            let asked = self
                .gateway
                .broker()
                .redrive(target_of(queue), from, page, wish);
            let Ok(Ok(Some(step))) = timeout_at(deadline, asked).await else {
                return if moved > 0 {
                    Ok(moved)
                } else {
                    Err(no_answer(queue))
                };
            };
            moved += step.moved;
            match step.next {
                _ if step.busy => sleep(BUSY_PAUSE).await,
                Some(next) => {
                    from = next;
                    sleep(pause(step.moved, request)).await;
                }
                None => break,
            }
            if Instant::now() >= end {
                break;
            }
        }
        Ok(moved)
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

/// Back to where they came from, it is to be allowed to write to their queue: what is there came from the others by the broker's hand.
impl Permit for admin_v1::RedriveRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let from = &self.queue;
        let to = match self.target_queue.as_str() {
            "" => from,
            to => to,
        };
        (&self.vhost, vec![Operation::MoveMessages { from, to }])
    }
}

/// So many messages at a time; with a rate, a tenth of a second's at most.
fn page_size(left: u64, per_second: u32) -> usize {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let page = left.min(PEEK_MESSAGES_MAX);
    match usize::try_from(per_second).unwrap_or(usize::MAX) {
        0 => page,
        rate => page.min((rate / 10).max(1)),
    }
}

/// How long so many messages may take.
fn pause(moved: u64, request: &admin_v1::RedriveRequest) -> Duration {
    if request.messages_per_second == 0 || request.dry_run {
        return Duration::ZERO;
    }
    let per_second = u64::from(request.messages_per_second);
    Duration::from_micros(moved.saturating_mul(1_000_000) / per_second)
}

fn dead_letter(it: v1::PeekedMessage) -> admin_v1::DeadLetter {
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
        attempts: Vec::new(),
        delivery: Some(delivery),
    }
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
        let (_, request) = permitted(&self.gateway, request).await?;
        if request.parked {
            return Err(unsupported("redriving parked messages").into());
        }
        if !request.filter.is_empty() {
            return Err(unsupported("filters of Redrive").into());
        }
        let queue = self.find(&request.vhost, &request.queue).await?;
        if request.target_queue == request.queue {
            return Err(bad_argument("target_queue", "is the queue itself").into());
        }
        let moved = DeadLetters::redrive(self, &queue, &request, deadline).await;
        let answer = moved.map(|messages| admin_v1::RedriveResponse {
            operation_id: String::new(),
            messages,
        });
        self.answer(Some(&queue), answer)
    }

    async fn delete_dead_letters(
        &self,
        request: Request<admin_v1::DeleteDeadLettersRequest>,
    ) -> Result<Response<admin_v1::DeleteDeadLettersResponse>, Status> {
        let (_, request) = permitted(&self.gateway, request).await?;
        if !request.filter.is_empty() {
            return Err(unsupported("filters of DeleteDeadLetters").into());
        }
        let queue = self.find(&request.vhost, &request.queue).await?;
        let removed = if request.dry_run {
            let stats = self.gateway.queue_stats(&queue).await;
            stats.map(|it| it.ready)
        } else {
            let ready = PurgeStates {
                ready: true,
                delayed: false,
                scheduled: false,
                parked: false,
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
