//! Messages without a stream: publish some and wait, receive some under a lease, settle them by receipt. For short-lived
//! programs; streams carry far more.

use std::time::Duration;

use bytes::Bytes;
use warren_proto::{convert::message::duration_to_client, v1};

use super::request_id;
use crate::{
    connection::{Attempt, Connection},
    consumer::{Disposition, SettleOutcome, settlement_by_receipt, unary_settle_outcome},
    error::Error,
    message::{Message, Target},
    publisher::{Outcome, outcome_from_wire},
};

/// What to receive.
#[derive(Debug, Clone)]
pub struct ReceiveOptions {
    /// Empty = "/".
    pub vhost: String,
    /// The queue.
    pub queue: String,
    /// Most messages.
    pub max_messages: u32,
    /// How long to wait for the first one.
    pub wait: Duration,
    /// How long they are held; none = the server's default.
    pub lease: Option<Duration>,
}

/// A message received without a stream.
#[derive(Debug, Clone)]
pub struct Received {
    pub message: Message,
    pub exchange: String,
    pub routing_key: String,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// Deliveries that failed before this one.
    pub delivery_count: u32,
    receipt: Bytes,
}

impl Connection {
    /// Publishes up to 1,000 messages to one target and waits for their outcomes, in their order. They are stored once even
    /// if the call had to be repeated.
    ///
    /// # Errors
    /// No node answers in time: then the outcomes are unknown.
    pub async fn publish_now(
        &self,
        vhost: &str,
        target: &Target,
        messages: Vec<Message>,
    ) -> Result<Vec<Outcome>, Error> {
        let entry = |message: Message| v1::PublishEntry {
            message: Some(message.into_wire()),
            ..v1::PublishEntry::default()
        };
        let batch = v1::PublishBatch {
            exchange: target.exchange.as_ref().to_owned(),
            routing_key: target.routing_key.as_ref().to_owned(),
            entries: messages.into_iter().map(entry).collect(),
            ..v1::PublishBatch::default()
        };
        self.publish_batch(vhost, &request_id(), batch).await
    }

    /// Publishes up to 1,000 messages of which all are stored or none, and waits for their outcomes, in their order. All their queues
    /// must be in one shard: declare them with the same `x-placement-group`.
    ///
    /// # Errors
    /// No node answers in time: then the outcomes are unknown.
    pub async fn publish_together(
        &self,
        vhost: &str,
        messages: Vec<(Target, Message)>,
    ) -> Result<Vec<Outcome>, Error> {
        let entry = |(target, message): (Target, Message)| v1::PublishEntry {
            message: Some(message.into_wire()),
            exchange: Some(target.exchange.as_ref().to_owned()),
            routing_key: Some(target.routing_key.as_ref().to_owned()),
            ..v1::PublishEntry::default()
        };
        let batch = v1::PublishBatch {
            entries: messages.into_iter().map(entry).collect(),
            atomic: true,
            ..v1::PublishBatch::default()
        };
        self.publish_batch(vhost, &request_id(), batch).await
    }

    async fn publish_batch(
        &self,
        vhost: &str,
        producer: &str,
        mut batch: v1::PublishBatch,
    ) -> Result<Vec<Outcome>, Error> {
        let sent = batch.entries.len();
        batch.batch_ref = 1;
        for (sequence, entry) in (1..).zip(&mut batch.entries) {
            entry.sequence = sequence;
        }
        let request = v1::PublishRequest {
            vhost: vhost.to_owned(),
            producer: Some(v1::Producer {
                producer_id: producer.to_owned(),
                producer_epoch: 0,
            }),
            batch: Some(batch),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.messaging().publish(request).await }
        };
        let response = self.call("publishing", call).await?;
        if response.results.len() != sent {
            return Err(Error::BadAnswer {
                operation: "publishing",
                detail: format!("{} results for {sent} messages", response.results.len()),
            });
        }
        Ok(response
            .results
            .into_iter()
            .map(outcome_from_wire)
            .collect())
    }

    /// Takes messages under a lease. None after the wait is not an error.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time.
    pub async fn receive(&self, options: &ReceiveOptions) -> Result<Vec<Received>, Error> {
        let request = v1::ReceiveRequest {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            max_messages: options.max_messages.max(1),
            max_bytes: 0,
            wait: Some(duration_to_client(options.wait)),
            lease: options.lease.map(duration_to_client),
            // A repeated call gets the same messages.
            attempt_id: request_id(),
            consumer_tag: String::new(),
            client_id: self.options().client_id.clone(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.messaging().receive(request).await }
        };
        let within = self.options().request_timeout + options.wait;
        let response = self.call_within("receiving", within, call).await?;
        let plain = |wire: v1::Delivery| {
            Ok(Received {
                message: Message::from_wire(wire.message.unwrap_or_default())?,
                exchange: wire.exchange,
                routing_key: wire.routing_key,
                redelivered: wire.redelivered,
                delivery_count: wire.delivery_count,
                receipt: wire.receipt,
            })
        };
        response.deliveries.into_iter().map(plain).collect()
    }

    /// Settles received messages; outcomes in their order.
    ///
    /// # Errors
    /// No node answers in time: settling again is safe.
    pub async fn settle(
        &self,
        vhost: &str,
        settles: &[(&Received, Disposition)],
    ) -> Result<Vec<SettleOutcome>, Error> {
        let by_receipt = |(received, disposition): &(&Received, Disposition)| {
            settlement_by_receipt(received.receipt.clone(), disposition)
        };
        let request = v1::SettleRequest {
            vhost: vhost.to_owned(),
            settlements: settles.iter().map(by_receipt).collect(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.messaging().settle(request).await }
        };
        let response = self.call("settling", call).await?;
        if response.results.len() != settles.len() {
            return Err(Error::BadAnswer {
                operation: "settling",
                detail: format!(
                    "{} results for {} settles",
                    response.results.len(),
                    settles.len()
                ),
            });
        }
        Ok(response.results.iter().map(unary_settle_outcome).collect())
    }
}
