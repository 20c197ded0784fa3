//! Lists of dead letters and parked messages, with what consumers said of them. Not here: sending them back (`redrive`).

use std::time::Duration;

use warren_proto::admin_v1;
use warren_proto::admin_v1::dead_letter_service_client::DeadLetterServiceClient;

use crate::{
    connection::{Attempt, Connection},
    error::Error,
    message::Message,
};

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterOptions {
    /// Empty = "/".
    pub vhost: String,
    /// The queue that holds them.
    pub queue: String,
    /// What is set aside there instead of what is ready.
    pub parked: bool,
    /// Only those that match; empty = all.
    pub filter: String,
    /// At most so many; 0 = as many as one call may.
    pub limit: u32,
    /// Where to go on, from an earlier call; empty = from the oldest message.
    pub cursor: String,
}

/// A dead letter or parked message.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub message: Message,
    pub exchange: String,
    pub routing_key: String,
    /// Failed deliveries in the queue that holds it.
    pub delivery_count: u32,
    /// The queue it died in; empty = it is where it was published.
    pub source_queue: String,
    /// Why: "rejected", "expired", "maxlen", "delivery_limit", "cycle".
    pub cause: String,
    /// What consumers said of it, oldest first.
    pub attempts: Vec<AttemptRecord>,
}

/// One attempt of which its consumer said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Since the Unix epoch.
    pub at: Duration,
    /// "rejected", "parked", "failed" or "returned".
    pub outcome: String,
    pub reason: String,
    pub detail: String,
    /// Empty = it was settled by receipt.
    pub consumer_tag: String,
}

/// Dead letters, oldest first.
#[derive(Debug, Clone)]
pub struct DeadLetterPage {
    pub dead_letters: Vec<DeadLetter>,
    /// Where to go on; empty = the end. A page may be empty and yet not the last.
    pub next_cursor: String,
}

impl Connection {
    /// Looks at dead letters or parked messages of a queue; nothing happens to them.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time.
    pub async fn dead_letters(&self, options: &DeadLetterOptions) -> Result<DeadLetterPage, Error> {
        let (found, next_cursor) = if options.parked {
            let answer = self.list_parked(options).await?;
            (answer.parked, answer.next_page_token)
        } else {
            let answer = self.list_dead_letters(options).await?;
            (answer.dead_letters, answer.next_page_token)
        };
        let found = found.into_iter().map(plain);
        Ok(DeadLetterPage {
            dead_letters: found.collect::<Result<_, _>>()?,
            next_cursor,
        })
    }

    async fn list_dead_letters(
        &self,
        options: &DeadLetterOptions,
    ) -> Result<admin_v1::ListDeadLettersResponse, Error> {
        let request = admin_v1::ListDeadLettersRequest {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            filter: options.filter.clone(),
            page_size: options.limit,
            page_token: options.cursor.clone(),
            no_body: false,
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move {
                DeadLetterServiceClient::new(attempt.channel.clone())
                    .list_dead_letters(request)
                    .await
            }
        };
        self.call("listing dead letters", call).await
    }

    async fn list_parked(
        &self,
        options: &DeadLetterOptions,
    ) -> Result<admin_v1::ListParkedResponse, Error> {
        let request = admin_v1::ListParkedRequest {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            filter: options.filter.clone(),
            page_size: options.limit,
            page_token: options.cursor.clone(),
            no_body: false,
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move {
                DeadLetterServiceClient::new(attempt.channel.clone())
                    .list_parked(request)
                    .await
            }
        };
        self.call("listing parked messages", call).await
    }
}

fn plain(wire: admin_v1::DeadLetter) -> Result<DeadLetter, Error> {
    let delivery = wire.delivery.unwrap_or_default();
    let attempts = wire.attempts.into_iter().map(|it| AttemptRecord {
        at: it.at.map_or(Duration::ZERO, |at| {
            let (seconds, nanos) = (u64::try_from(at.seconds), u32::try_from(at.nanos));
            Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
        }),
        outcome: it.outcome,
        reason: it.reason,
        detail: it.detail,
        consumer_tag: it.consumer_tag,
    });
    Ok(DeadLetter {
        message: Message::from_wire(delivery.message.unwrap_or_default())?,
        exchange: delivery.exchange,
        routing_key: delivery.routing_key,
        delivery_count: delivery.delivery_count,
        source_queue: wire.source_queue,
        cause: wire.cause,
        attempts: attempts.collect(),
    })
}
