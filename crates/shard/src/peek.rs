//! Looking at a queue's messages without touching them (features A31): what the leader is asked and what it tells. Not here: reading them
//! (`warren-queue`, `store::peek`), the terms of filters (`warren-types`), pages of clients (`warren-gateway`).

use std::sync::Arc;

use tokio::sync::oneshot;
use warren_codec::StoredMessageView;
use warren_queue::dispatch::io::Whereabouts;
use warren_queue::entry::ParkCause;
use warren_queue::rows::SaidAt;
use warren_queue::store::{PeekedMessage, PeekedPage, PeekedState};
use warren_types::{Attempt, Filter, Filtered, Position, QueueId, ShardTime};

use crate::Broker;
use crate::api::{Delivery, Target, Unavailable};
use crate::uplink::door::{Ask, Request};

/// Messages of one page, at most.
pub const PEEK_MESSAGES_MAX: usize = 100;
/// Bytes of one page, unless it is a single larger message.
pub(crate) const PEEK_BYTES_MAX: usize = 1 << 20;

/// Messages that are looked at for one page, and bytes of them, when a filter says which are meant: a page may be empty and yet not the
/// last.
const SCAN_MESSAGES_MAX: usize = 1_000;
const SCAN_BYTES_MAX: usize = 4 << 20;

/// Which messages of a queue, from where.
#[derive(Clone, Debug)]
pub struct Look {
    pub from: Position,
    /// At most [`PEEK_MESSAGES_MAX`].
    pub max: usize,
    /// `None`: all.
    pub filter: Option<Arc<Filter>>,
}

impl Look {
    /// How many messages are read for it, and how many bytes of them.
    pub(crate) fn scan(&self) -> (usize, usize) {
        match self.filter {
            Some(_) => (SCAN_MESSAGES_MAX, SCAN_BYTES_MAX),
            None => (self.max.min(PEEK_MESSAGES_MAX), PEEK_BYTES_MAX),
        }
    }

    /// What is meant of those that were read.
    pub(crate) fn meant(&self, page: PeekedPage) -> PeekedPage {
        let Some(filter) = &self.filter else {
            return page;
        };
        let mut meant = PeekedPage {
            messages: Vec::new(),
            next: page.next,
        };
        for it in page.messages {
            if !is_meant(filter, &it) {
                continue;
            }
            if meant.messages.len() == self.max.min(PEEK_MESSAGES_MAX) {
                meant.next = Some(it.position);
                break;
            }
            meant.messages.push(it);
        }
        meant
    }
}

/// A message that cannot be opened is corrupt: whoever consumes it notices.
fn is_meant(filter: &Filter, it: &PeekedMessage) -> bool {
    let Ok(view) = StoredMessageView::open(&it.message) else {
        return false;
    };
    filter.matches(&Filtered {
        position: it.position,
        priority: it.priority,
        delivery_count: it.delivery_count,
        enqueued_at: view.enqueued_at,
        exchange: view.exchange(),
        routing_key: view.routing_key(),
        properties: &view.properties,
        body_bytes: view.body.len() as u64,
        died: view.died,
        parked: match it.state {
            PeekedState::Parked(cause) => Some(park_cause(cause)),
            PeekedState::Ready | PeekedState::Scheduled(_) | PeekedState::Delayed(_) => None,
        },
    })
}

/// As clients are told.
#[must_use]
pub fn park_cause(cause: ParkCause) -> &'static str {
    match cause {
        ParkCause::DeliveryLimit => "delivery_limit",
        ParkCause::Rejected => "rejected",
        ParkCause::Cycle => "cycle",
    }
}

/// Some messages of a queue, ascending.
#[derive(Clone, Debug)]
pub struct PeekPage {
    pub messages: Vec<Peeked>,
    /// Where to go on; `None` = the end.
    pub next: Option<Position>,
}

/// A message that was looked at.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// As a consumer would get it, but for the attempt.
    pub delivery: Delivery,
    pub state: PeekState,
    /// What consumers said of it in this queue, oldest first.
    pub said: Vec<SaidAt>,
}

/// Where a message is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeekState {
    Ready,
    /// With a consumer.
    Unacked,
    /// It leaves: on its way to a dead-letter target, or to be dropped.
    Leaving,
    /// Due then.
    Scheduled(ShardTime),
    /// Returned until then.
    Delayed(ShardTime),
    Parked(ParkCause),
}

/// The leader's answer on its way: messages as they are stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredPage {
    pub(crate) messages: Vec<(PeekedMessage, PeekState)>,
    pub(crate) next: Option<Position>,
}

impl StoredPage {
    /// What the store knows, with what the dispatcher knows.
    pub(crate) fn new(page: PeekedPage, whereabouts: impl Fn(Position) -> Whereabouts) -> Self {
        let messages = page.messages.into_iter().map(|it| {
            let state = match (it.state, whereabouts(it.position)) {
                (PeekedState::Parked(cause), _) => PeekState::Parked(cause),
                (_, Whereabouts::Unacked) => PeekState::Unacked,
                (_, Whereabouts::Leaving) => PeekState::Leaving,
                (PeekedState::Scheduled(due), Whereabouts::NotInFlight) => {
                    PeekState::Scheduled(due)
                }
                (PeekedState::Delayed(until), Whereabouts::NotInFlight) => {
                    PeekState::Delayed(until)
                }
                (PeekedState::Ready, Whereabouts::NotInFlight) => PeekState::Ready,
            };
            (it, state)
        });
        Self {
            messages: messages.collect(),
            next: page.next,
        }
    }

    /// For clients. A message that cannot be opened is left out: it is corrupt, and whoever consumes it notices.
    fn open(self, queue: QueueId) -> PeekPage {
        let messages = self.messages.into_iter().filter_map(|(it, state)| {
            let delivery = Delivery {
                queue,
                position: it.position,
                attempt: Attempt::default(),
                redelivered: it.delivery_count > 0 || it.acquired_count > 0,
                delivery_count: it.delivery_count,
                acquired_count: it.acquired_count,
                fencing: 0,
                message: StoredMessageView::open(&it.message).ok()?,
            };
            Some(Peeked {
                delivery,
                state,
                said: it.said,
            })
        });
        PeekPage {
            messages: messages.collect(),
            next: self.next,
        }
    }
}

impl Broker {
    /// A page of a queue's messages from a position on, from its leader, without any effect on them. `None`: the leader has no such queue
    /// (yet).
    ///
    /// # Errors
    /// The leader could not be asked.
    pub async fn peek(&self, target: Target, look: Look) -> Result<Option<PeekPage>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Ask(Ask::Peek {
            queue: target.queue,
            look,
            reply,
        });
        self.ask(target.shard, request).await?;
        let page = answer.await.map_err(|_| Unavailable::NoQuorum)?;
        Ok(page.map(|it| it.open(target.queue)))
    }
}
