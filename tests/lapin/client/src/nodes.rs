//! The nodes under test, and what every program does with them. Not here: the programs.

use std::error::Error;
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::time::timeout;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) const WAIT: Duration = Duration::from_secs(15);

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => { if !$condition { return Err(format!($($text)+).into()); } };
}

pub(crate) struct Nodes {
    pub(crate) ports: Vec<String>,
    pub(crate) run: u128,
}

impl Nodes {
    pub(crate) async fn connect(&self, node: usize) -> Result<Connection> {
        let port = &self.ports[node % self.ports.len()];
        let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        Ok(Connection::connect(&uri, ConnectionProperties::default()).await?)
    }

    pub(crate) async fn channel(&self, node: usize) -> Result<Channel> {
        Ok(self.connect(node).await?.create_channel().await?)
    }

    pub(crate) fn name(&self, what: &str) -> String {
        format!("lapin.{what}.{:x}", self.run)
    }
}

pub(crate) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

pub(crate) async fn declare(channel: &Channel, queue: &str) -> Result<u32> {
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok(queue.message_count())
}

pub(crate) async fn delete(channel: &Channel, queue: &str) -> Result<()> {
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await?;
    Ok(())
}

/// Waits for the confirm.
pub(crate) async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
) -> Result<()> {
    let options = BasicPublishOptions::default();
    let confirm = channel
        .basic_publish(exchange.into(), key.into(), options, body, persistent())
        .await?;
    ensure!(!confirm.await?.is_nack(), "refused");
    Ok(())
}

pub(crate) async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Result<Consumer> {
    let options = BasicConsumeOptions {
        no_ack,
        ..Default::default()
    };
    Ok(channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?)
}

pub(crate) async fn next(consumer: &mut Consumer) -> Result<lapin::message::Delivery> {
    let next = timeout(WAIT, consumer.next()).await?;
    Ok(next.ok_or("the consumer ended")??)
}

pub(crate) use ensure;
