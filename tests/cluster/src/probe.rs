//! Single publishes to one node, by the bare protocols: what it answers and how soon. Every one is part of the history. Not here: the
//! load beside them (`Load`), what is expected of the answers (the tests).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use warren_client::Credentials;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::messaging_service_client::MessagingServiceClient;
use warren_testkit::history::{Event, MessageId, PublishOutcome, Recorder};
use warren_testkit::payload;

use super::{Shared, basic, queue_name};
use crate::amqp::{Amqp, Heard};

/// Publisher numbers from here on are probes.
const FIRST_PROBE: u32 = 1_000_000;
const BODY_BYTES: usize = 64;
/// How an answer reads that is basic.nack.
pub const NACK: &str = "basic.nack";

/// Publishes to one queue through one node, one message after the other.
pub struct Probe {
    recorder: Recorder,
    shared: Arc<Shared>,
    channel: Channel,
    login: MetadataValue<Ascii>,
    queue: u32,
    last: MessageId,
}

/// What became of one message.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When it was sent.
    pub asked: Instant,
    pub took: Duration,
    pub outcome: PublishOutcome,
    /// What the node said, if it was the node that said no.
    pub reason: Option<Reason>,
    /// When it wants to be asked again.
    pub retry: Option<Duration>,
    pub text: String,
}

impl Probe {
    pub(super) fn new(
        (recorder, shared): (Recorder, Arc<Shared>),
        address: &str,
        credentials: &Credentials,
        (queue, number): (u32, u32),
    ) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        Ok(Self {
            recorder,
            shared,
            channel: endpoint
                .connect_timeout(Duration::from_secs(2))
                .connect_lazy(),
            login: basic(credentials),
            queue,
            last: MessageId {
                publisher: FIRST_PROBE + number,
                counter: 0,
            },
        })
    }

    /// Publishes once, and says what the answer was after at most `within`.
    pub async fn publish(&mut self, within: Duration) -> Answer {
        self.last.counter += 1;
        let (id, asked) = (self.last, Instant::now());
        self.recorder.record(Event::PublishInvoked(id));
        let mut answer = self.ask(id, within).await;
        (answer.asked, answer.took) = (asked, asked.elapsed());
        self.recorder
            .record(Event::PublishEnded(id, answer.outcome));
        if answer.outcome == PublishOutcome::Confirmed {
            self.shared.confirm(id);
        }
        answer
    }

    async fn ask(&self, id: MessageId, within: Duration) -> Answer {
        let message = v1::Message {
            body: payload::encode(id, BODY_BYTES).into(),
            ..v1::Message::default()
        };
        let batch = v1::PublishBatch {
            routing_key: queue_name(self.queue),
            entries: vec![v1::PublishEntry {
                message: Some(message),
                mandatory: true,
                ..v1::PublishEntry::default()
            }],
            ..v1::PublishBatch::default()
        };
        let mut request = tonic::Request::new(v1::PublishRequest {
            batch: Some(batch),
            ..v1::PublishRequest::default()
        });
        request
            .metadata_mut()
            .insert("authorization", self.login.clone());
        request.set_timeout(within);
        let mut client = MessagingServiceClient::new(self.channel.clone());
        // The node tells before its time is over; a node that does not is found here.
        let patience = within + Duration::from_secs(1);
        match tokio::time::timeout(patience, client.publish(request)).await {
            Err(_) => said_nothing(format!("no answer within {patience:?}")),
            Ok(Err(status)) => match ApiError::from_tonic(&status) {
                Some(error) => refused(&error),
                None => said_nothing(status.to_string()),
            },
            Ok(Ok(response)) => match response.into_inner().results.first() {
                Some(result) => of_result(result),
                None => said_nothing("no result".to_owned()),
            },
        }
    }
}

fn of_result(result: &v1::PublishResult) -> Answer {
    match &result.error {
        None => Answer {
            outcome: PublishOutcome::Confirmed,
            ..said_nothing(format!("{:?}", result.outcome()))
        },
        Some(status) => match ApiError::from_status(status) {
            Some(error) => refused(&error),
            None => said_nothing(status.message.clone()),
        },
    }
}

fn refused(error: &ApiError) -> Answer {
    let outcome = if error.reason() == Reason::OutcomeUnknown {
        PublishOutcome::Unknown
    } else {
        PublishOutcome::Refused
    };
    Answer {
        outcome,
        reason: Some(error.reason()),
        retry: error.retry_delay(),
        ..said_nothing(error.to_string())
    }
}

fn said_nothing(text: String) -> Answer {
    Answer {
        asked: Instant::now(),
        took: Duration::ZERO,
        outcome: PublishOutcome::Unknown,
        reason: None,
        retry: None,
        text,
    }
}

/// The same over AMQP, on one connection.
pub struct AmqpProbe {
    recorder: Recorder,
    shared: Arc<Shared>,
    amqp: Amqp,
    queue: u32,
    last: MessageId,
}

impl AmqpProbe {
    pub(super) async fn open(
        (recorder, shared): (Recorder, Arc<Shared>),
        address: &str,
        credentials: &Credentials,
        (queue, number): (u32, u32),
    ) -> Result<Self> {
        let mut amqp = Amqp::open(address, Some(credentials)).await?;
        amqp.confirms().await?;
        Ok(Self {
            recorder,
            shared,
            amqp,
            queue,
            last: MessageId {
                publisher: FIRST_PROBE + number,
                counter: 0,
            },
        })
    }

    /// Publishes once, and says what the answer was after at most `within`.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn publish(&mut self, within: Duration) -> Result<Answer> {
        self.last.counter += 1;
        let (id, asked) = (self.last, Instant::now());
        self.recorder.record(Event::PublishInvoked(id));
        let asking = tokio::time::timeout(within, self.ask(id)).await;
        let (outcome, text) = match &asking {
            Ok(Ok(true)) => (PublishOutcome::Confirmed, "basic.ack"),
            Ok(Ok(false)) => (PublishOutcome::Unknown, NACK),
            Ok(Err(_)) => (PublishOutcome::Unknown, "the connection has ended"),
            Err(_) => (PublishOutcome::Unknown, "no answer"),
        };
        self.recorder.record(Event::PublishEnded(id, outcome));
        if outcome == PublishOutcome::Confirmed {
            self.shared.confirm(id);
        }
        if let Ok(Err(error)) = asking {
            return Err(error);
        }
        Ok(Answer {
            asked,
            took: asked.elapsed(),
            outcome,
            ..said_nothing(text.to_owned())
        })
    }

    /// Whether it was confirmed.
    async fn ask(&mut self, id: MessageId) -> Result<bool> {
        let body = payload::encode(id, BODY_BYTES);
        let queue = queue_name(self.queue);
        self.amqp.publish(&queue, body.as_bytes()).await?;
        let mut beats = tokio::time::interval(Duration::from_secs(1));
        loop {
            let heard = tokio::select! {
                heard = self.amqp.hear() => heard?,
                _ = beats.tick() => {
                    self.amqp.beat().await?;
                    continue;
                }
            };
            match heard {
                Heard::Ack { tag, .. } if tag == id.counter => return Ok(true),
                Heard::Nack { tag, .. } if tag == id.counter => return Ok(false),
                // Of one that was not waited for.
                Heard::Ack { .. } | Heard::Nack { .. } => {}
                other @ (Heard::Delivery(_) | Heard::Cancelled) => {
                    anyhow::bail!("told to a publisher: {other:?}")
                }
            }
        }
    }
}
