//! What a server offers a client at the start of a connection, and the limits it holds it to.

use bytes::Bytes;
use warren_types::Table;

use crate::{frame::FRAME_BYTES_MIN, method::connection, sasl::Mechanism};

/// Settings of every connection of a listener; share one behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Some clients change their ways by it: kombu sets a shared prefetch only if this is `RabbitMQ` (features C2).
    pub product: String,
    pub version: String,
    pub platform: String,
    pub copyright: String,
    pub information: String,
    pub cluster_name: String,
    pub mechanisms: Vec<Mechanism>,
    /// Highest channel number; at least 1.
    pub channel_max: u16,
    /// At least 4,096.
    pub frame_bytes_max: u32,
    /// 0 offers none. A client's answer counts.
    pub heartbeat_s: u16,
    /// A message with a larger body is refused at its content header.
    pub message_bytes_max: u64,
    /// From the first byte expected until connection.open.
    pub handshake_ms_max: u64,
    /// How long the peer may take to answer connection.close.
    pub close_grace_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            product: "Warren".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: "Rust".to_owned(),
            copyright: "Apache-2.0".to_owned(),
            information: "clustered message broker".to_owned(),
            cluster_name: String::new(),
            mechanisms: vec![Mechanism::Plain, Mechanism::Amqplain],
            channel_max: 2047,
            frame_bytes_max: 131_072,
            heartbeat_s: 60,
            message_bytes_max: 16 * 1024 * 1024,
            handshake_ms_max: 10_000,
            close_grace_ms: 3_000,
        }
    }
}

impl Config {
    pub(crate) fn start(&self) -> connection::Start {
        let capabilities = Table::new()
            .with("publisher_confirms", true)
            .with("exchange_exchange_bindings", true)
            .with("basic.nack", true)
            .with("consumer_cancel_notify", true)
            .with("connection.blocked", true)
            .with("consumer_priorities", true)
            .with("authentication_failure_close", true)
            .with("per_consumer_qos", true)
            .with("direct_reply_to", true);
        let server_properties = Table::new()
            .with("capabilities", capabilities)
            .with("cluster_name", self.cluster_name.as_str())
            .with("copyright", self.copyright.as_str())
            .with("information", self.information.as_str())
            .with("platform", self.platform.as_str())
            .with("product", self.product.as_str())
            .with("version", self.version.as_str());
        let mechanisms: Vec<&str> = self.mechanisms.iter().map(|it| it.name()).collect();
        connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties,
            mechanisms: Bytes::from(mechanisms.join(" ")),
            locales: Bytes::from_static(b"en_US"),
        }
    }

    /// What it offers in connection.tune: 0 would mean "no limit" there and is never offered.
    pub(crate) fn tune(&self) -> connection::Tune {
        connection::Tune {
            channel_max: self.channel_max.max(1),
            frame_max: self.frame_bytes_max.max(FRAME_BYTES_MIN),
            heartbeat: self.heartbeat_s,
        }
    }
}
