//! Looking at a queue's messages without taking them. Not here: taking them (`messages`, `consumer`).

use std::time::{Duration, SystemTime};

use warren_proto::v1;

use crate::{
    connection::{Attempt, Connection},
    error::Error,
    message::Message,
};

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct PeekOptions {
    /// Empty = "/".
    pub vhost: String,
    /// The queue.
    pub queue: String,
    /// Only messages in these states; none = all.
    pub states: Vec<PeekState>,
    /// Only those that match; empty = all.
    pub filter: String,
    /// Most messages; 0 = the server's limit.
    pub limit: u32,
    /// Where to go on, from an earlier page; empty = from the oldest message.
    pub cursor: String,
}

/// Where a message is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeekState {
    /// Not due yet.
    Scheduled,
    Ready,
    /// With a consumer.
    Unacked,
    /// Returned, and not due again yet.
    Delayed,
    /// Set aside.
    Parked,
    /// On its way to a dead-letter target.
    DeadLettering,
}

/// A message that was looked at.
#[derive(Debug, Clone)]
pub struct Peeked {
    pub message: Message,
    pub exchange: String,
    pub routing_key: String,
    pub delivery_count: u32,
    /// Its number in the queue: later messages have higher ones.
    pub position: u64,
    pub enqueued_at: Option<SystemTime>,
    pub state: PeekState,
    /// Since the Unix epoch; of scheduled and delayed messages.
    pub due: Option<Duration>,
    /// Why it is parked.
    pub cause: String,
}

/// Messages, oldest first.
#[derive(Debug, Clone)]
pub struct PeekedPage {
    pub messages: Vec<Peeked>,
    /// Where to go on; empty = the end.
    pub next_cursor: String,
}

impl Connection {
    /// Looks at messages of a queue; nothing happens to them.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time.
    pub async fn peek(&self, options: &PeekOptions) -> Result<PeekedPage, Error> {
        let states = options.states.iter();
        let request = v1::PeekRequest {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            states: states.map(|it| to_wire(*it).into()).collect(),
            filter: options.filter.clone(),
            cursor: options.cursor.clone(),
            limit: options.limit,
            no_body: false,
            client_id: self.options().client_id.clone(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.messaging().peek(request).await }
        };
        let mut pages = self.call("peeking", call).await?;
        let (mut messages, mut next_cursor) = (Vec::new(), String::new());
        while let Some(page) = pages.message().await.map_err(|it| self.error_of(&it))? {
            for it in page.messages {
                messages.push(plain(it)?);
            }
            next_cursor = page.next_cursor;
        }
        Ok(PeekedPage {
            messages,
            next_cursor,
        })
    }
}

fn plain(wire: v1::PeekedMessage) -> Result<Peeked, Error> {
    let state = from_wire(wire.state())?;
    let delivery = wire.delivery.unwrap_or_default();
    let due = wire.due_at.map(|it| {
        let (seconds, nanos) = (u64::try_from(it.seconds), u32::try_from(it.nanos));
        Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
    });
    Ok(Peeked {
        message: Message::from_wire(delivery.message.unwrap_or_default())?,
        exchange: delivery.exchange,
        routing_key: delivery.routing_key,
        delivery_count: delivery.delivery_count,
        position: delivery.position,
        enqueued_at: delivery
            .enqueued_at
            .and_then(|it| SystemTime::try_from(it).ok()),
        state,
        due,
        cause: wire.cause,
    })
}

fn to_wire(state: PeekState) -> v1::MessageState {
    match state {
        PeekState::Scheduled => v1::MessageState::Scheduled,
        PeekState::Ready => v1::MessageState::Ready,
        PeekState::Unacked => v1::MessageState::Unacked,
        PeekState::Delayed => v1::MessageState::Delayed,
        PeekState::Parked => v1::MessageState::Parked,
        PeekState::DeadLettering => v1::MessageState::DeadLettering,
    }
}

fn from_wire(state: v1::MessageState) -> Result<PeekState, Error> {
    match state {
        v1::MessageState::Scheduled => Ok(PeekState::Scheduled),
        v1::MessageState::Ready => Ok(PeekState::Ready),
        v1::MessageState::Unacked => Ok(PeekState::Unacked),
        v1::MessageState::Delayed => Ok(PeekState::Delayed),
        v1::MessageState::Parked => Ok(PeekState::Parked),
        v1::MessageState::DeadLettering => Ok(PeekState::DeadLettering),
        v1::MessageState::Unspecified | v1::MessageState::Retained => Err(Error::BadAnswer {
            operation: "peeking",
            detail: "a message in an unknown state".to_owned(),
        }),
    }
}
