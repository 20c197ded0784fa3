//! `Peek`: pages of a queue's messages, without lease, credit or any other effect (features A31). Not here: reading them (`warren-shard`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::time_ms_to_client;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::MessageState;
use warren_shard::{Look, PeekState, Peeked, SaidAt, park_cause};
use warren_topology::{Operation, Queue, Refusal};
use warren_types::{Filter, Position, VhostName};

use super::deliveries::{Frame, to_client};
use super::error::{bad_argument, of_operation, unsupported};
use super::filter::filter;
use super::open::{owner, queue_name, vhost_name};
use super::permit::Permit;
use crate::gateway::Gateway;
use crate::operations::{OperationError, target_of};

/// Messages of one call, at most and if none is said.
const MESSAGES_MAX: usize = 1_000;
/// Bytes of bodies of one call, roughly at most.
const BYTES_MAX: usize = 4 << 20;
/// Pages that one call asks for: a rare state, or what a filter means, is looked for in a part of a long queue, and the cursor goes on from
/// there.
const PAGES_MAX: usize = 100;

impl Permit for v1::PeekRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.queue;
        (&self.vhost, vec![Operation::Consume { queue }])
    }
}

/// What one call asks for.
struct Wish {
    vhost: VhostName,
    states: BTreeSet<i32>,
    from: Position,
    filter: Option<Arc<Filter>>,
    limit: usize,
    with_bodies: bool,
}

/// Messages that were looked at, and where to go on.
#[derive(Default)]
pub(super) struct Page {
    pub(super) messages: Vec<Looked>,
    pub(super) next_cursor: String,
}

/// A message that was looked at.
pub(super) struct Looked {
    pub(super) message: v1::PeekedMessage,
    /// Its headers are the broker's own: it came here by another queue.
    pub(super) died: bool,
    /// What consumers said of it in this queue, oldest first.
    pub(super) said: Vec<SaidAt>,
}

impl From<Page> for v1::PeekResponse {
    fn from(page: Page) -> Self {
        let messages = page.messages.into_iter().map(|it| it.message);
        Self {
            messages: messages.collect(),
            next_cursor: page.next_cursor,
        }
    }
}

/// The pages of one call, the last of which says where to go on.
///
/// # Errors
/// Bad arguments, a missing queue, or a leader that does not answer in time.
pub(super) async fn peek(
    gateway: &Gateway,
    request: v1::PeekRequest,
    deadline: Instant,
) -> Result<Vec<Page>, ApiError> {
    let wish = wish(&request)?;
    let name = queue_name(&request.queue)?;
    let requester = owner(&request.client_id);
    let found = gateway.find_queue(&wish.vhost, &name, requester.as_ref());
    let found = found.await;
    let queue = found.map_err(|error| of_operation(&error))?;
    let pages = timeout_at(deadline, pages(gateway, &queue, &wish)).await;
    pages.unwrap_or_else(|_| Err(no_answer(&queue)))
}

async fn pages(gateway: &Gateway, queue: &Queue, wish: &Wish) -> Result<Vec<Page>, ApiError> {
    let (mut pages, mut from) = (Vec::new(), wish.from);
    let (mut left, mut bytes) = (wish.limit, 0);
    for _ in 0..PAGES_MAX {
        let look = || Look {
            from,
            max: left,
            filter: wish.filter.clone(),
        };
        let ask = || gateway.broker().peek(target_of(queue), look());
        let Some(page) = gateway.ask(queue.id, ask).await else {
            let refusal = Refusal::NoSuchQueue {
                vhost: wish.vhost.clone(),
                queue: queue.name.clone(),
            };
            return Err(of_operation(&OperationError::Refused(refusal)));
        };
        let meant = page.messages.into_iter().filter(|it| {
            wish.states.is_empty() || wish.states.contains(&i32::from(state(it.state)))
        });
        let mut answer = Page::default();
        for mut it in meant {
            bytes += it.delivery.message.body.len();
            let said = std::mem::take(&mut it.said);
            let died = it.delivery.message.died;
            let message = to_peeked(gateway, queue, it, wish);
            answer.messages.push(Looked {
                message,
                died,
                said,
            });
        }
        left -= answer.messages.len().min(left);
        answer.next_cursor = page.next.map_or_else(String::new, |it| it.0.to_string());
        if !answer.messages.is_empty() || page.next.is_none() {
            pages.push(answer);
        } else if let Some(last) = pages.last_mut() {
            last.next_cursor = answer.next_cursor;
        } else {
            pages.push(answer);
        }
        match page.next {
            Some(next) if left > 0 && bytes < BYTES_MAX => from = next,
            Some(_) | None => break,
        }
    }
    Ok(pages)
}

fn wish(request: &v1::PeekRequest) -> Result<Wish, ApiError> {
    for &state in &request.states {
        match MessageState::try_from(state) {
            Ok(
                MessageState::Scheduled
                | MessageState::Ready
                | MessageState::Unacked
                | MessageState::Delayed
                | MessageState::Parked
                | MessageState::DeadLettering,
            ) => {}
            Ok(MessageState::Retained) => return Err(unsupported("retained messages")),
            Ok(MessageState::Unspecified) | Err(_) => {
                return Err(bad_argument("states", "names an unknown state"));
            }
        }
    }
    let limit = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
        0 => MESSAGES_MAX,
        limit => limit.min(MESSAGES_MAX),
    };
    Ok(Wish {
        vhost: vhost_name(&request.vhost)?,
        states: request.states.iter().copied().collect(),
        from: cursor(&request.cursor)?,
        filter: filter(&request.filter)?,
        limit,
        with_bodies: !request.no_body,
    })
}

/// Where an earlier response ended; empty = the beginning.
pub(super) fn cursor(cursor: &str) -> Result<Position, ApiError> {
    let position = match cursor {
        "" => Ok(0),
        cursor => cursor.parse(),
    };
    let position = position.map_err(|_| bad_argument("cursor", "is of no response"))?;
    Ok(Position(position))
}

fn to_peeked(gateway: &Gateway, queue: &Queue, it: Peeked, wish: &Wish) -> v1::PeekedMessage {
    let (due, cause) = match it.state {
        PeekState::Scheduled(at) | PeekState::Delayed(at) => (Some(at), ""),
        PeekState::Parked(cause) => (None, park_cause(cause)),
        PeekState::Ready | PeekState::Unacked | PeekState::Leaving => (None, ""),
    };
    let frame = Frame {
        cluster: gateway.cluster(),
        target: target_of(queue),
        lease_until_ms: None,
    };
    let mut delivery = to_client(it.delivery, 0, frame, &mut BytesMut::new());
    if !wish.with_bodies
        && let Some(message) = &mut delivery.message
    {
        message.body = bytes::Bytes::new();
    }
    v1::PeekedMessage {
        delivery: Some(delivery),
        state: state(it.state).into(),
        due_at: due.map(|at| time_ms_to_client(at.0)),
        holder: String::new(),
        cause: cause.to_owned(),
    }
}

fn state(state: PeekState) -> MessageState {
    match state {
        PeekState::Ready => MessageState::Ready,
        PeekState::Unacked => MessageState::Unacked,
        PeekState::Leaving => MessageState::DeadLettering,
        PeekState::Scheduled(_) => MessageState::Scheduled,
        PeekState::Delayed(_) => MessageState::Delayed,
        PeekState::Parked(_) => MessageState::Parked,
    }
}

pub(super) fn no_answer(queue: &Queue) -> ApiError {
    ApiError::new(
        Reason::NoQuorum,
        format!("the leader of queue {} does not answer", queue.name),
    )
    .resource("queue", queue.name.as_str())
}
