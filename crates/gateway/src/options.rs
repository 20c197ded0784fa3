//! The limits of client sessions with their defaults. Not here: where they are configured (`server`).

use std::time::Duration;

use warren_topology::QueueType;
use warren_types::Watermarks;

use crate::ceilings::Ceilings;
use crate::clock::millis;

/// Limits and switches of the gateway of one node.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Objects that the cluster may have.
    pub ceilings: Ceilings,
    /// Where publishers are held back, until an operator says otherwise.
    pub watermarks: Watermarks,
    /// Largest message, in bytes of body and properties. Larger ones are refused one by one.
    pub max_message_bytes: u64,
    /// Most messages in one publish batch.
    pub max_batch: u32,
    /// Largest prefetch, and the most credit a consumer may have, in messages.
    pub max_prefetch: u32,
    /// Unconfirmed bytes of one connection; when full its streams are not read.
    pub connection_bytes: u64,
    /// Unconfirmed bytes of all connections together; when full no publishing stream is read.
    pub admission_bytes: u64,
    /// Messages one publish stream may have unconfirmed; more is refused in-band.
    pub publish_credit_messages: u32,
    /// Bytes one publish stream may have unconfirmed; one message may overdraw them.
    pub publish_credit_bytes: u64,
    /// Delivered and not yet written bytes of one consumer; beyond it the shard's leader is lent no more credit.
    pub outbox_bytes: u64,
    /// A consumer that says nothing for so long has lost what it holds.
    pub lease: Duration,
    /// The longest lease a client may ask for.
    pub lease_max: Duration,
    /// How long a broken stream's deliveries are kept for it to come back.
    pub resume_grace: Duration,
    /// Consumers kept for their clients to come back; more end at once.
    pub resumable_max: usize,
    /// How long a consumer may hold a delivery where neither it nor its queue says anything (features B51).
    pub consumer_timeout: Option<Duration>,
    /// Deliveries taken by `Receive` and not settled yet, with their attempts, on this node; then it refuses.
    pub receive_leases_max: usize,
    /// How long clients have to leave when the node stops.
    pub drain: Duration,
    /// What is given up on a unary call that names no deadline.
    pub unary_timeout: Duration,
    /// Connections of gRPC clients; more are closed at once.
    pub grpc_connections_max: usize,
    /// Serve gRPC reflection.
    pub reflection: bool,
    pub amqp: AmqpOptions,
    /// Of queues whose declare names no type, in vhosts that say none either.
    pub default_queue_type: QueueType,
    /// Let clients on this machine in as `guest`, who may everything: over AMQP with the password `guest`, over gRPC without any.
    pub loopback_guest: bool,
}

/// What AMQP clients are told and held to.
#[derive(Clone, Debug)]
pub struct AmqpOptions {
    /// Told in connection.start. kombu sets a shared prefetch only if it is `RabbitMQ`, with a version from 3.3 on (features C2).
    pub product: String,
    pub version: String,
    /// Highest channel number of a connection.
    pub channel_max: u16,
    /// Open connections of this node; more get 530 at connection.open.
    pub connections_max: usize,
    /// Open channels of this node; more get 530. `None` = as many as come.
    pub channels_max: Option<u32>,
    /// Consumers of one channel; more get 530.
    pub channel_consumers_max: usize,
    /// Client products whose basic.qos changes consumers that exist already (features C32).
    pub live_prefetch_products: Vec<String>,
}

/// What one entry may hold in any case.
const TOGETHER_BYTES_MIN: u64 = 1 << 20;

impl GatewayOptions {
    /// Most bytes of messages, counted for each queue they go to, that are stored in one entry of the log: as many as the largest message,
    /// since an entry travels in one piece.
    pub(crate) fn together_bytes_max(&self) -> u64 {
        self.max_message_bytes.max(TOGETHER_BYTES_MIN)
    }

    /// How long a consumer that does not say may hold a delivery of a queue that says this, in milliseconds. A queue's 0 is no limit, whatever
    /// the configuration says.
    #[must_use]
    pub fn consumer_timeout_ms(&self, of_queue: Option<u64>) -> Option<u64> {
        let timeout = of_queue.or_else(|| self.consumer_timeout.map(millis))?;
        (timeout > 0).then_some(timeout)
    }
}

impl Default for AmqpOptions {
    fn default() -> Self {
        Self {
            product: "Warren".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            channel_max: 2047,
            connections_max: 20_000,
            channels_max: None,
            channel_consumers_max: 10_000,
            live_prefetch_products: vec!["py-amqp".to_owned()],
        }
    }
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            ceilings: Ceilings::default(),
            watermarks: Watermarks::default(),
            max_message_bytes: 16 << 20,
            max_batch: 1_000,
            max_prefetch: 65_535,
            connection_bytes: 64 << 20,
            admission_bytes: 128 << 20,
            publish_credit_messages: 20_000,
            publish_credit_bytes: 32 << 20,
            outbox_bytes: 1 << 20,
            lease: Duration::from_secs(30),
            lease_max: Duration::from_secs(3_600),
            resume_grace: Duration::from_secs(15),
            resumable_max: 10_000,
            consumer_timeout: None,
            receive_leases_max: 100_000,
            drain: Duration::from_secs(5),
            unary_timeout: Duration::from_secs(30),
            grpc_connections_max: 20_000,
            reflection: true,
            amqp: AmqpOptions::default(),
            default_queue_type: QueueType::default(),
            loopback_guest: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_is_asked_before_the_configuration_and_says_none_with_0() {
        let off = GatewayOptions::default();
        assert_eq!(off.consumer_timeout_ms(None), None);
        assert_eq!(off.consumer_timeout_ms(Some(5)), Some(5));
        let on = GatewayOptions {
            consumer_timeout: Some(Duration::from_secs(2)),
            ..GatewayOptions::default()
        };
        assert_eq!(on.consumer_timeout_ms(None), Some(2_000));
        assert_eq!(on.consumer_timeout_ms(Some(5_000)), Some(5_000));
        assert_eq!(on.consumer_timeout_ms(Some(0)), None);
    }
}
