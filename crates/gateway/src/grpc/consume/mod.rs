//! `Consume`: opens a consumer, or finds the one that its client comes back to, and runs it to its end. One task owns each.
//! Not here: the running stream (`session`), what the client says (`frames`), credit (`consumer_credit`).

mod first;
mod frames;
mod hand_over;
mod late;
mod notices;
mod park;
mod revoke;
mod session;

pub(super) use frames::not_leased;

use std::time::Duration;

use tokio::sync::mpsc::error::SendError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::debug;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::duration_ms_from_client;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::consume_request::Frame as Request;
use warren_shard::api::{ConsumerSpec, SessionEvent, Target, Unavailable};
use warren_shard::{
    AttachResult, ConsumerOptions, Credit, HandedOver, Held, HeldState, Refill, Session,
};
use warren_topology::{Operation, Queue};

use super::consumer_credit::{ConsumerCredit, CreditError};
use super::error::{bad_argument, of_operation, of_unavailable, unsupported};
use super::open::{
    LEADER_METADATA, check_features, leader_metadata, owner, queue_name, vhost_name,
};
use super::permit::vhost_id;
use super::resume::{Coming, Link, Rejoin, ResumeToken};
use super::streams::{OPEN_WITHIN, unreadable};
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::operations::target_of;
use session::ConsumeSession;

/// How long the shard's leader has to answer.
const ATTACH_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
/// A consumer tag is an AMQP short string.
const TAG_BYTES_MAX: usize = 255;
/// The longest time a client may ask to hold a delivery: ten years.
const MAX_PROCESSING_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

/// Runs a stream to its end, or hands it to the task that keeps the consumer.
pub(super) async fn run(gateway: Gateway, mut who: Who, mut link: Link, stop: CancellationToken) {
    let first = open_frame(&mut link).await;
    let opened = match first {
        Ok(open) => match seated(&gateway, &mut who, &mut link, &open).await {
            Ok(opening) => join(&gateway, link, open, opening).await,
            Err(error) => Err((link, error.into())),
        },
        Err(error) => Err((link, error.into())),
    };
    match opened {
        Ok(Some(session)) => session.run(stop).await,
        Ok(None) => {}
        Err((link, status)) => {
            // The client may have left already.
            let _gone = link.outbound.send(Err(status)).await;
        }
    }
}

async fn open_frame(link: &mut Link) -> Result<v1::ConsumeOpen, ApiError> {
    let first = timeout(OPEN_WITHIN, link.inbound.message()).await;
    let first = first.map_err(|_| bad_argument("frame", "no open frame came"))?;
    let frame = first
        .map_err(|status| unreadable(&status))?
        .and_then(|it| it.frame);
    let Some(Request::Open(open)) = frame else {
        return Err(bad_argument(
            "frame",
            "the first frame of a stream is `open`",
        ));
    };
    Ok(open)
}

/// What an open frame asks for, checked.
struct Opening {
    queue: Queue,
    tag: String,
    credit: ConsumerCredit,
    who: Who,
    max_processing: Option<Duration>,
}

/// What is asked for, and a place for it among the connections of its user and vhost.
async fn seated(
    gateway: &Gateway,
    who: &mut Who,
    link: &mut Link,
    open: &v1::ConsumeOpen,
) -> Result<Opening, ApiError> {
    let opening = opening(gateway, who, open).await?;
    link.seat = Some(link.seats.take(gateway, who, opening.queue.vhost)?);
    Ok(opening)
}

async fn opening(
    gateway: &Gateway,
    who: &mut Who,
    open: &v1::ConsumeOpen,
) -> Result<Opening, ApiError> {
    who.client_id = open.client_id.as_str().into();
    check_features(&open.features)?;
    if !open.filter.is_empty() {
        return Err(unsupported("filter"));
    }
    if open.consumer_tag.len() > TAG_BYTES_MAX {
        return Err(bad_argument(
            "consumer_tag",
            format!("has more than {TAG_BYTES_MAX} bytes"),
        ));
    }
    let (vhost, name) = (vhost_name(&open.vhost)?, queue_name(&open.queue)?);
    let options = gateway.options();
    let credit = ConsumerCredit::new(
        open.prefetch,
        first_credit(open),
        options.max_prefetch,
        options.outbox_bytes,
    )
    .map_err(of_credit)?;
    may_consume(gateway, who, &open.vhost, &open.queue).await?;
    let requester = owner(&open.client_id);
    let found = gateway.find_queue(&vhost, &name, requester.as_ref()).await;
    let queue = found.map_err(|error| of_operation(&error))?;
    let tag = if open.consumer_tag.is_empty() {
        let broker = gateway.broker();
        format!(
            "ctag-{}-{}-{}",
            broker.node(),
            broker.run(),
            gateway.next_number()
        )
    } else {
        open.consumer_tag.clone()
    };
    let who = who.clone();
    let max_processing = max_processing(gateway, open, &queue)?;
    Ok(Opening {
        queue,
        tag,
        credit,
        who,
        max_processing,
    })
}

/// How long the client may hold a delivery: what it says, else what its queue says, else the configuration (features B51).
///
/// # Errors
/// It is no time, or too long.
fn max_processing(
    gateway: &Gateway,
    open: &v1::ConsumeOpen,
    queue: &Queue,
) -> Result<Option<Duration>, ApiError> {
    let Some(given) = &open.max_processing else {
        let settings = gateway.topology().queue_settings(queue);
        return Ok(notices::timeout(gateway, &settings));
    };
    match duration_ms_from_client(given) {
        Some(ms) if ms > 0 => Ok(Some(Duration::from_millis(ms.min(MAX_PROCESSING_MS)))),
        Some(_) | None => {
            let text = "must be more than nothing, and not too long";
            Err(bad_argument("max_processing", text))
        }
    }
}

/// # Errors
/// There is no such vhost, or the caller may not read the queue.
pub(super) async fn may_consume(
    gateway: &Gateway,
    who: &Who,
    vhost: &str,
    queue: &str,
) -> Result<(), ApiError> {
    let vhost = vhost_id(gateway, vhost).await?;
    let may = gateway
        .authorise(who, vhost, Operation::Consume { queue })
        .await;
    may.map_err(|error| of_operation(&error))
}

fn first_credit(open: &v1::ConsumeOpen) -> Credit {
    open.credit.as_ref().map_or(Credit::default(), credit_of)
}

fn credit_of(credit: &v1::Credit) -> Credit {
    Credit {
        messages: u64::from(credit.messages),
        bytes: credit.bytes,
    }
}

/// Credit that makes no sense.
fn of_credit(error: CreditError) -> ApiError {
    match error {
        CreditError::Nothing => bad_argument("credit", "grants nothing"),
        CreditError::TooMuch { limit_messages } => {
            bad_argument("credit", format!("is more than {limit_messages} messages"))
                .with("limit", limit_messages)
        }
    }
}

/// Gives the link to the task that keeps its consumer (`None`), or attaches a fresh consumer.
async fn join(
    gateway: &Gateway,
    link: Link,
    open: v1::ConsumeOpen,
    opening: Opening,
) -> Result<Option<ConsumeSession>, (Link, Status)> {
    let target = target_of(&opening.queue);
    let mut link = link;
    if let Some(door) = gateway.parked().find(&open.resume_token, target.queue) {
        let coming = Coming::Here(Box::new(Rejoin {
            link,
            open: open.clone(),
            who: opening.who.clone(),
        }));
        match door.send(coming).await {
            Ok(()) => return Ok(None),
            // It ended just now.
            Err(SendError(Coming::Here(rejoin))) => link = rejoin.link,
            Err(SendError(Coming::Elsewhere(_))) => return Ok(None),
        }
    }
    let handed = handed_over(gateway, &open, target).await;
    match attach(gateway, &link, &open, opening, handed).await {
        Ok((session, early)) => Ok(Some(ConsumeSession::new(session, link, early))),
        Err(error) => {
            let mut status = Status::from(error);
            if let Some(hint) = leader_metadata(gateway, target.shard) {
                status.metadata_mut().insert(LEADER_METADATA, hint);
            }
            Err((link, status))
        }
    }
}

/// What the client of this token holds, if another node gave it and has its consumer still.
async fn handed_over(gateway: &Gateway, open: &v1::ConsumeOpen, target: Target) -> HandedOver {
    let own = gateway.broker().node();
    let giver = ResumeToken::giver(&open.resume_token).filter(|giver| *giver != own);
    let Some(giver) = giver.filter(|_| !open.no_ack) else {
        return HandedOver::default();
    };
    let token = open.resume_token.clone();
    let handed = gateway.broker().take_over(giver, token, target.queue).await;
    handed.unwrap_or_default()
}

/// What came before a consumer has its stream.
#[derive(Default)]
struct Early {
    events: Vec<SessionEvent>,
    /// What it holds from before, on another node.
    held: Vec<(Held, u64)>,
}

/// A consumer that is attached, without its stream.
struct Attached {
    gateway: Gateway,
    session: Session,
    consumer: warren_types::ConsumerId,
    target: Target,
    queue: Queue,
    who: Who,
    tag: String,
    credit: ConsumerCredit,
    no_ack: bool,
    /// How long the client may hold a delivery.
    max_processing: Option<Duration>,
    /// By its own word.
    says_max_processing: bool,
}

fn consumer_options(open: &v1::ConsumeOpen, credit: &ConsumerCredit) -> ConsumerOptions {
    ConsumerOptions {
        no_ack: open.no_ack,
        // The session keeps the books itself: only it knows what its client reads.
        refill: Refill::Nothing,
        priority: open.priority,
        exclusive: open.exclusive,
        uncommitted_max: credit.uncommitted_max(),
        passing: false,
    }
}

async fn attach(
    gateway: &Gateway,
    link: &Link,
    open: &v1::ConsumeOpen,
    opening: Opening,
    handed: HandedOver,
) -> Result<(Attached, Early), ApiError> {
    let Opening {
        queue,
        mut tag,
        mut credit,
        who,
        max_processing,
    } = opening;
    if open.consumer_tag.is_empty() && !handed.consumer_tag.is_empty() {
        tag = handed.consumer_tag;
    }
    if !handed.held.is_empty() {
        let bytes = handed.held.iter().map(|it| it.1);
        let held = Credit {
            messages: u64::try_from(handed.held.len()).unwrap_or(u64::MAX),
            bytes: bytes.fold(0, u64::saturating_add),
        };
        credit
            .reopen(open.prefetch, first_credit(open), held)
            .map_err(of_credit)?;
    }
    let session = gateway.broker().session();
    let spec = ConsumerSpec {
        target: target_of(&queue),
        options: consumer_options(open, &credit),
        credit: credit.lend().unwrap_or_default(),
    };
    let asked = session.attach_holding(spec, handed.held.clone()).await;
    let consumer = asked.map_err(of_unavailable)?;
    let (states, events) = answered(&session, link, &queue).await?;
    let mut early = Early {
        events,
        held: Vec::new(),
    };
    for (held, state) in handed.held.into_iter().zip(states) {
        match state {
            HeldState::StillYours => early.held.push(held),
            HeldState::Settled | HeldState::Lost => credit.returned(held.1),
        }
    }
    Ok((
        Attached {
            gateway: gateway.clone(),
            session,
            consumer,
            target: target_of(&queue),
            queue,
            who,
            tag,
            credit,
            no_ack: open.no_ack,
            max_processing,
            says_max_processing: open.max_processing.is_some(),
        },
        early,
    ))
}

/// Waits until the consumer is attached; gives what it holds of what it brought, and what came with the answer.
async fn answered(
    session: &Session,
    link: &Link,
    queue: &Queue,
) -> Result<(Vec<HeldState>, Vec<SessionEvent>), ApiError> {
    let mut early = Vec::new();
    let attached = async {
        while let Some(events) = session.events().await {
            let mut result = None;
            for event in events {
                if let SessionEvent::Attached {
                    result: answered, ..
                } = event
                {
                    result = Some(answered);
                } else {
                    early.push(event);
                }
            }
            if result.is_some() {
                return result;
            }
        }
        None
    };
    let answered = tokio::select! {
        biased; // an answer counts, also if the client left at the same time
        answered = timeout(ATTACH_WITHIN, attached) => answered,
        () = link.outbound.closed() => return Err(of_unavailable(Unavailable::Draining)),
    };
    match answered {
        Ok(Some(AttachResult::Ok { held })) => Ok((held, early)),
        Ok(Some(AttachResult::QueueGone)) => {
            let text = format!("no queue '{}'", queue.name);
            Err(ApiError::new(Reason::QueueNotFound, text).resource("queue", queue.name.as_str()))
        }
        Ok(Some(AttachResult::Exclusive)) => {
            let text = format!(
                "queue '{}' has a consumer, and one of the two is exclusive",
                queue.name
            );
            Err(ApiError::new(Reason::InUse, text).resource("queue", queue.name.as_str()))
        }
        Ok(None) => Err(of_unavailable(Unavailable::Draining)),
        Err(_) => {
            debug!(queue = %queue.name, "consumer not attached in time");
            Err(of_unavailable(Unavailable::NoQuorum).resource("queue", queue.name.as_str()))
        }
    }
}
