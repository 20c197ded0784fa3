//! Messages are looked at and published at the target; their queue keeps them. Not here: their way there (`outflow`).

use std::time::SystemTime;

use anyhow::Result;
use tokio::time::sleep_until;
use warren_client::{PeekOptions, PeekState, Peeked};

use super::carry::{Times, carried};
use super::course::{Course, End};
use super::outflow::{Item, Outflow};
use super::take::Source;

/// Messages looked at in one call.
const PAGE: u32 = 200;
/// All that consumers have or will get.
const COPIED: [PeekState; 4] = [
    PeekState::Ready,
    PeekState::Unacked,
    PeekState::Scheduled,
    PeekState::Delayed,
];

/// From the oldest message to the newest.
///
/// # Errors
/// There is no such queue; a message was refused or has no outcome.
pub(super) async fn copy(
    source: &Source,
    filter: &str,
    out: &mut Outflow,
    course: &mut Course,
) -> Result<End> {
    let ended = pages(source, filter, out, course).await;
    let settled = course.settle_rest(out, None).await;
    let end = ended?;
    settled?;
    Ok(end)
}

async fn pages(
    source: &Source,
    filter: &str,
    out: &mut Outflow,
    course: &mut Course,
) -> Result<End> {
    let mut options = PeekOptions {
        vhost: source.vhost.clone(),
        queue: source.queue.clone(),
        states: COPIED.to_vec(),
        filter: filter.to_owned(),
        limit: PAGE,
        ..PeekOptions::default()
    };
    loop {
        let page = tokio::select! {
            biased;
            () = course.interrupt.wait() => return Ok(End::Interrupted),
            page = source.connection.peek(&options) => page?,
        };
        for peeked in page.messages {
            if course.is_over() {
                return Ok(End::Limit);
            }
            if let Some(end) = send(item_of(source, peeked)?, out, course).await? {
                return Ok(end);
            }
        }
        if page.next_cursor.is_empty() {
            return Ok(End::Empty);
        }
        options.cursor = page.next_cursor;
    }
}

/// Waits for room and for the pace.
async fn send(item: Item, out: &mut Outflow, course: &mut Course) -> Result<Option<End>> {
    while !out.takes(&item) {
        tokio::select! {
            biased;
            () = course.interrupt.wait() => return Ok(Some(End::Interrupted)),
            outcome = out.oldest() => course.settle(out, None, outcome?).await?,
        }
    }
    let next = course.pace.next();
    tokio::select! {
        biased;
        () = course.interrupt.wait() => return Ok(Some(End::Interrupted)),
        sent = async {
            sleep_until(next.into()).await;
            out.send(item).await
        } => sent?,
    }
    course.took();
    Ok(None)
}

fn item_of(source: &Source, peeked: Peeked) -> Result<Item> {
    let times = Times {
        now: SystemTime::now(),
        enqueued: peeked.enqueued_at,
        due: peeked.due,
    };
    Ok(Item {
        message: carried(peeked.message, times)?,
        target: source.route.target(&peeked.routing_key),
        position: peeked.position,
        was_out: false,
        delivery: None,
    })
}
