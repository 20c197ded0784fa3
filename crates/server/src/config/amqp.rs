//! `[amqp]`: what AMQP 0-9-1 clients are told and held to. Not here: where it listens (`listen`), sizes of messages (`limits`).

use std::str::FromStr;

use super::Config;
use super::report::Report;
use super::setting::{Kind, Setting};

#[derive(Clone, Debug)]
pub struct AmqpConfig {
    /// Told in connection.start.
    pub product: String,
    /// Told in connection.start; empty: this program's.
    pub version: String,
    pub channel_max: u16,
    /// Open connections of this node.
    pub connection_max: usize,
    /// Open channels of this node; 0 = as many as come.
    pub channel_max_per_node: u32,
    pub consumer_max_per_channel: usize,
    /// Client products, comma separated.
    pub live_prefetch_products: String,
}

impl Default for AmqpConfig {
    fn default() -> Self {
        Self {
            product: "Warren".to_owned(),
            version: String::new(),
            channel_max: 2047,
            connection_max: 20_000,
            channel_max_per_node: 0,
            consumer_max_per_channel: 10_000,
            live_prefetch_products: "py-amqp".to_owned(),
        }
    }
}

/// `None`: not a whole number of that range.
fn whole<T: FromStr>(text: &str) -> Result<T, Option<String>> {
    text.parse().map_err(|_| None)
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "amqp.product",
        about: "the product clients are told; kombu uses one prefetch for a whole channel only with RabbitMQ [default: Warren]",
        kind: Kind::Text,
        set: |config, text| {
            config.amqp.product = text.to_owned();
            Ok(())
        },
        show: |config| format!("{:?}", config.amqp.product),
    },
    Setting {
        name: "amqp.version",
        about: "the product's version clients are told [default: this program's]",
        kind: Kind::Text,
        set: |config, text| {
            config.amqp.version = text.to_owned();
            Ok(())
        },
        show: |config| format!("{:?}", config.amqp.version),
    },
    Setting {
        name: "amqp.channel_max",
        about: "the highest channel number of a connection [default: 2047]",
        kind: Kind::Whole,
        set: |config, text| {
            config.amqp.channel_max = whole(text)?;
            Ok(())
        },
        show: |config| config.amqp.channel_max.to_string(),
    },
    Setting {
        name: "amqp.connection_max",
        about: "open connections of this node; more are refused with 530 [default: 20000]",
        kind: Kind::Whole,
        set: |config, text| {
            config.amqp.connection_max = whole(text)?;
            Ok(())
        },
        show: |config| config.amqp.connection_max.to_string(),
    },
    Setting {
        name: "amqp.channel_max_per_node",
        about: "open channels of this node; more are refused with 530; 0 = as many as come [default: 0]",
        kind: Kind::Whole,
        set: |config, text| {
            config.amqp.channel_max_per_node = whole(text)?;
            Ok(())
        },
        show: |config| config.amqp.channel_max_per_node.to_string(),
    },
    Setting {
        name: "amqp.consumer_max_per_channel",
        about: "consumers of one channel; more are refused with 530 [default: 10000]",
        kind: Kind::Whole,
        set: |config, text| {
            config.amqp.consumer_max_per_channel = whole(text)?;
            Ok(())
        },
        show: |config| config.amqp.consumer_max_per_channel.to_string(),
    },
    Setting {
        name: "amqp.live_prefetch_products",
        about: "products of clients whose basic.qos changes consumers that exist, comma separated [default: py-amqp]",
        kind: Kind::Text,
        set: |config, text| {
            config.amqp.live_prefetch_products = text.to_owned();
            Ok(())
        },
        show: |config| format!("{:?}", config.amqp.live_prefetch_products),
    },
];

/// Semaphores of the runtime count no further.
const CONNECTIONS_MAX: usize = 1 << 20;

pub(super) fn check(config: &Config, report: &mut Report) {
    let amqp = &config.amqp;
    if amqp.channel_max == 0 {
        report.wrong("amqp.channel_max", "is 0; a connection needs one channel");
    }
    if !(1..=CONNECTIONS_MAX).contains(&amqp.connection_max) {
        let found = amqp.connection_max;
        let text = format!("is {found}; allowed are 1 to {CONNECTIONS_MAX}");
        report.wrong("amqp.connection_max", text);
    }
    if amqp.consumer_max_per_channel == 0 {
        report.wrong(
            "amqp.consumer_max_per_channel",
            "is 0; nobody could consume",
        );
    }
}
