//! Unary calls of one node, and how their errors are read. Not here: streams (`streams`).

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use warren_proto::admin_v1;
use warren_proto::admin_v1::dead_letter_service_client::DeadLetterServiceClient;
use warren_proto::admin_v1::operation_service_client::OperationServiceClient;
use warren_proto::admin_v1::topology_service_client::TopologyServiceClient;
use warren_proto::convert::error::ApiError;
use warren_proto::v1;
use warren_proto::v1::messaging_service_client::MessagingServiceClient;

/// No call of a test takes longer: what hangs fails.
const WITHIN: Duration = Duration::from_secs(60);

/// One node's services. Cheap to clone.
#[derive(Clone)]
pub struct Call {
    channel: Channel,
}

impl Call {
    /// A channel to `address`, connected when it is first used.
    #[must_use]
    pub fn to(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            channel: endpoint.timeout(WITHIN).connect_lazy(),
        }
    }

    #[must_use]
    pub fn messaging(&self) -> MessagingServiceClient<Channel> {
        MessagingServiceClient::new(self.channel.clone())
            .max_decoding_message_size(256 << 20)
            .max_encoding_message_size(256 << 20)
    }

    #[must_use]
    pub fn dead_letters(&self) -> DeadLetterServiceClient<Channel> {
        DeadLetterServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn operations(&self) -> OperationServiceClient<Channel> {
        OperationServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn topology(&self) -> TopologyServiceClient<Channel> {
        TopologyServiceClient::new(self.channel.clone())
    }

    /// Declares a durable queue.
    ///
    /// # Errors
    /// What the node says.
    pub async fn declare(&self, name: &str) -> Result<admin_v1::Queue, Status> {
        let queue = admin_v1::Queue {
            name: name.to_owned(),
            durable: true,
            ..admin_v1::Queue::default()
        };
        let request = admin_v1::CreateQueueRequest {
            queue: Some(queue),
            ..admin_v1::CreateQueueRequest::default()
        };
        let answer = self.topology().create_queue(request).await?;
        Ok(answer.into_inner().queue.unwrap())
    }

    /// Declares a durable queue with AMQP arguments.
    ///
    /// # Panics
    /// If the node refuses.
    pub async fn declare_with(&self, name: &str, arguments: &[(&str, v1::Value)]) {
        let named = arguments.iter().cloned();
        let fields = named.map(|(name, value)| (name.to_owned(), value));
        let queue = admin_v1::Queue {
            name: name.to_owned(),
            durable: true,
            arguments: Some(v1::Table {
                fields: fields.collect(),
            }),
            ..admin_v1::Queue::default()
        };
        let request = admin_v1::CreateQueueRequest {
            queue: Some(queue),
            ..admin_v1::CreateQueueRequest::default()
        };
        self.topology().create_queue(request).await.unwrap();
    }

    /// The figures of one queue. While they are not known (a queue that was declared just now) it asks again, as it is told to.
    ///
    /// # Panics
    /// If they are refused, or not known for long.
    pub async fn stats(&self, queue: &str) -> admin_v1::QueueStats {
        let request = admin_v1::GetQueueStatsRequest {
            queues: vec![queue.to_owned()],
            ..admin_v1::GetQueueStatsRequest::default()
        };
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            match self.topology().get_queue_stats(request.clone()).await {
                Ok(answer) => return answer.into_inner().stats.swap_remove(0),
                Err(status) if status.code() == Code::Unavailable && Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => panic!("no figures of {queue}: {status}"),
            }
        }
    }

    /// Settles all deliveries in the same way; each must be done.
    ///
    /// # Panics
    /// If one is not.
    pub async fn settle(&self, deliveries: Vec<v1::Delivery>, action: v1::settlement::Action) {
        let settlements = deliveries.into_iter().map(|it| v1::Settlement {
            target: Some(v1::settlement::Target::Receipt(it.receipt)),
            action: Some(action.clone()),
            ..v1::Settlement::default()
        });
        let request = v1::SettleRequest {
            settlements: settlements.collect(),
            ..v1::SettleRequest::default()
        };
        let answer = self.messaging().settle(request).await.unwrap();
        for result in answer.into_inner().results {
            assert_eq!(result.outcome(), v1::SettleOutcome::Done, "{result:?}");
        }
    }

    /// Publishes one batch.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn publish(&self, batch: v1::PublishBatch) -> Result<Vec<v1::PublishResult>, Status> {
        let request = v1::PublishRequest {
            batch: Some(batch),
            ..v1::PublishRequest::default()
        };
        let answer = self.messaging().publish(request).await?;
        Ok(answer.into_inner().results)
    }

    /// Publishes bodies to a queue; all must be committed.
    ///
    /// # Panics
    /// If one is not.
    pub async fn fill(&self, queue: &str, bodies: &[&str]) {
        let bodies = bodies.iter().map(|it| message(it));
        let results = self.publish(queue_batch(queue, bodies)).await.unwrap();
        for result in results {
            assert_eq!(
                result.outcome(),
                v1::PublishOutcome::Committed,
                "{result:?}"
            );
        }
    }

    /// Takes what is ready, up to `max` messages, waiting up to two seconds for the first.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn receive(&self, queue: &str, max: u32) -> Result<Vec<v1::Delivery>, Status> {
        let request = v1::ReceiveRequest {
            queue: queue.to_owned(),
            max_messages: max,
            wait: Some(prost_types::Duration {
                seconds: 2,
                nanos: 0,
            }),
            ..v1::ReceiveRequest::default()
        };
        let answer = self.messaging().receive(request).await?;
        Ok(answer.into_inner().deliveries)
    }

    /// Takes so many messages, however many calls it takes: a call answers what is at hand.
    ///
    /// # Panics
    /// If the queue has nothing more for two seconds.
    pub async fn take(&self, queue: &str, count: usize) -> Vec<v1::Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let left = u32::try_from(count - taken.len()).unwrap();
            let more = self.receive(queue, left).await.unwrap();
            assert!(!more.is_empty(), "{} of {count} came", taken.len());
            taken.extend(more);
        }
        taken
    }

    /// Acknowledges by receipt.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn ack(&self, receipts: Vec<Bytes>) -> Result<Vec<v1::SettleResult>, Status> {
        let settlements = receipts.into_iter().map(|receipt| v1::Settlement {
            target: Some(v1::settlement::Target::Receipt(receipt)),
            action: Some(v1::settlement::Action::Ack(v1::Ack {})),
            ..v1::Settlement::default()
        });
        let request = v1::SettleRequest {
            settlements: settlements.collect(),
            ..v1::SettleRequest::default()
        };
        let answer = self.messaging().settle(request).await?;
        Ok(answer.into_inner().results)
    }

    /// Publishes with this many milliseconds to live.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn publish_within(
        &self,
        batch: v1::PublishBatch,
        within: Duration,
    ) -> Result<Vec<v1::PublishResult>, Status> {
        let mut request = Request::new(v1::PublishRequest {
            batch: Some(batch),
            ..v1::PublishRequest::default()
        });
        request.set_timeout(within);
        let answer = self.messaging().publish(request).await?;
        Ok(answer.into_inner().results)
    }
}

/// A text as an AMQP argument.
#[must_use]
pub fn text(value: &str) -> v1::Value {
    v1::Value {
        kind: Some(v1::value::Kind::StringValue(value.to_owned())),
        ..v1::Value::default()
    }
}

/// A number as an AMQP argument.
#[must_use]
pub fn number(value: i64) -> v1::Value {
    v1::Value {
        kind: Some(v1::value::Kind::IntValue(value)),
        ..v1::Value::default()
    }
}

/// A message with this body.
#[must_use]
pub fn message(body: &str) -> v1::Message {
    v1::Message {
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..v1::Message::default()
    }
}

/// Mandatory messages for one queue.
pub fn queue_batch(
    queue: &str,
    messages: impl IntoIterator<Item = v1::Message>,
) -> v1::PublishBatch {
    let entries = messages.into_iter().map(|message| v1::PublishEntry {
        message: Some(message),
        mandatory: true,
        ..v1::PublishEntry::default()
    });
    v1::PublishBatch {
        routing_key: queue.to_owned(),
        entries: entries.collect(),
        ..v1::PublishBatch::default()
    }
}

/// Code and reason of a call's error, for example `NotFound QUEUE_NOT_FOUND`. An error without a reason shows its text.
#[must_use]
pub fn reason_of(status: &Status) -> String {
    match ApiError::from_tonic(status) {
        Some(error) => format!("{:?} {}", status.code(), error.reason().as_str()),
        None => format!("{:?} without a reason: {}", status.code(), status.message()),
    }
}

/// The same of an error in-band.
#[must_use]
pub fn in_band(status: Option<&warren_proto::google_rpc::Status>) -> String {
    let Some(status) = status else {
        return "no error".to_owned();
    };
    let code = tonic::Code::from(status.code);
    match ApiError::from_status(status) {
        Some(error) => format!("{code:?} {}", error.reason().as_str()),
        None => format!("{code:?} without a reason: {}", status.message),
    }
}

/// The delay after which the error says to try again.
#[must_use]
pub fn retry_of(status: &Status) -> Option<Duration> {
    ApiError::from_tonic(status).and_then(|it| it.retry_delay())
}

/// Runs a test's future.
///
/// # Panics
/// If it takes longer than two minutes: nothing may hang.
pub fn runtime<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(120), test)
            .await
            .expect("the test hangs")
    })
}
