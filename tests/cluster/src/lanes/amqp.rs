//! Lanes over AMQP: on each node a publisher and a consumer that stay with it whatever happens to it, as programs do that know one
//! address. Nothing is sent again: what has no confirm when a connection ends has an unknown outcome, and a connection's messages have a
//! publisher's number of their own. Not here: the bytes (`amqp`), the other lanes (`lanes`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::{MissedTickBehavior, interval};
use warren_client::Credentials;
use warren_testkit::history::{ConsumerId, Delivered, Event, MessageId, PublishOutcome, Recorder};
use warren_testkit::payload;

use super::{BODY_BYTES, declare};
use crate::amqp::{Amqp, Closed, Heard};
use crate::{Load, Shared, connect_as};

const FIRST_LANE: u32 = 64;
const PREFETCH: u16 = 20;
const WINDOW: usize = 50;
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// What is unconfirmed when the load ends has an outcome within this, or none.
const LAST_WITHIN: Duration = Duration::from_secs(60);
/// Of those that come for the first time, every so many is given back.
const GIVEN_BACK: u64 = 11;
/// What a server says to bytes that are wrong.
const OUR_MISTAKES: std::ops::RangeInclusive<u16> = 501..=505;

/// One client that stays with its node.
struct Client {
    address: String,
    credentials: Option<Credentials>,
    queue: String,
    recorder: Recorder,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Declares so many queues, and starts a publisher and a consumer for each of them on every one of these nodes.
    ///
    /// # Errors
    /// If the queues cannot be declared.
    pub async fn add_amqp(
        &mut self,
        servers: &[String],
        addresses: &[String],
        (queues, pause): (u32, Duration),
    ) -> Result<()> {
        let admin = connect_as(crate::pick(servers, 0)?, &self.options)?;
        for number in 0..queues {
            let queue = format!("amqp-{number}");
            declare(&admin, &queue, &[]).await?;
            for (at, address) in addresses.iter().enumerate() {
                let client = || Client {
                    address: address.clone(),
                    credentials: self.options.credentials.clone(),
                    queue: queue.clone(),
                    recorder: self.recorder.clone(),
                    shared: Arc::clone(&self.shared),
                    stop: Arc::clone(&self.stop),
                };
                let (publisher, consumer) = (client(), client());
                let first = ((FIRST_LANE + number) << 25) + (u32::try_from(at)? << 20);
                let publishing = publisher.publish_until_stopped(first, pause);
                self.publishers.push(tokio::spawn(publishing));
                let number = ConsumerId(u32::try_from(self.consumers.len())?);
                let consuming = consumer.consume_for_ever(number);
                self.consumers.push(tokio::spawn(consuming));
            }
        }
        Ok(())
    }
}

/// What a connection of a publisher has under way.
struct Publishing {
    pause: Duration,
    id: MessageId,
    unconfirmed: BTreeMap<u64, MessageId>,
}

impl Client {
    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A node that is away or cut off ends connections; what we say wrongly would, too.
    async fn bear(&self, error: anyhow::Error) -> Result<()> {
        if let Some(closed) = error.downcast_ref::<Closed>()
            && OUR_MISTAKES.contains(&closed.code)
        {
            bail!("AMQP on {}: {closed}", self.address);
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        Ok(())
    }

    async fn publish_until_stopped(self, first: u32, pause: Duration) -> Result<()> {
        let mut connections = 0;
        while !self.ends() {
            connections += 1;
            let mut publishing = Publishing {
                pause,
                id: MessageId {
                    publisher: first + connections,
                    counter: 0,
                },
                unconfirmed: BTreeMap::new(),
            };
            let ended = self.publish(&mut publishing).await;
            for id in publishing.unconfirmed.into_values() {
                self.ended(id, PublishOutcome::Unknown);
            }
            if let Err(error) = ended {
                self.bear(error).await?;
            }
        }
        Ok(())
    }

    fn ended(&self, id: MessageId, outcome: PublishOutcome) {
        self.recorder.record(Event::PublishEnded(id, outcome));
        if outcome == PublishOutcome::Confirmed {
            self.shared.pulse(&self.queue);
            self.shared.confirm(id);
        }
    }

    /// Over one connection, until it ends or all is told.
    async fn publish(&self, it: &mut Publishing) -> Result<()> {
        let mut amqp = Amqp::open(&self.address, self.credentials.as_ref()).await?;
        amqp.confirms().await?;
        let (mut sends, mut beats) = (ticks(it.pause), ticks(BEAT_EVERY));
        let mut stopped = None;
        loop {
            if self.ends() {
                let since: Instant = *stopped.get_or_insert_with(Instant::now);
                if it.unconfirmed.is_empty() || since.elapsed() > LAST_WITHIN {
                    return Ok(());
                }
            }
            let may_send = stopped.is_none() && it.unconfirmed.len() < WINDOW;
            tokio::select! {
                heard = amqp.hear() => match heard? {
                    Heard::Ack { tag, multiple } => {
                        self.settled(it, (tag, multiple), PublishOutcome::Confirmed);
                    }
                    // Not stored, or nobody knows.
                    Heard::Nack { tag, multiple } => {
                        self.settled(it, (tag, multiple), PublishOutcome::Unknown);
                    }
                    other @ (Heard::Delivery(_) | Heard::Cancelled) => {
                        bail!("told to a publisher: {other:?}")
                    }
                },
                _ = sends.tick(), if may_send => {
                    it.id.counter += 1;
                    self.recorder.record(Event::PublishInvoked(it.id));
                    it.unconfirmed.insert(it.id.counter, it.id);
                    let body = payload::encode(it.id, BODY_BYTES);
                    amqp.publish(&self.queue, body.as_bytes()).await?;
                }
                _ = beats.tick() => amqp.beat().await?,
            }
        }
    }

    fn settled(&self, it: &mut Publishing, (tag, multiple): (u64, bool), to: PublishOutcome) {
        let after = it.unconfirmed.split_off(&(tag + 1));
        let mut told = std::mem::replace(&mut it.unconfirmed, after);
        if !multiple {
            let one = told.remove(&tag);
            it.unconfirmed.append(&mut told);
            told.extend(one.map(|id| (tag, id)));
        }
        for id in told.into_values() {
            self.ended(id, to);
        }
    }

    async fn consume_for_ever(self, consumer: ConsumerId) -> Result<()> {
        loop {
            if let Err(error) = self.consume(consumer).await {
                if error.is::<Damaged>() {
                    return Err(error);
                }
                self.bear(error).await?;
            }
        }
    }

    /// Over one connection, until it ends.
    async fn consume(&self, consumer: ConsumerId) -> Result<()> {
        let mut amqp = Amqp::open(&self.address, self.credentials.as_ref()).await?;
        amqp.consume(&self.queue, PREFETCH).await?;
        let mut beats = ticks(BEAT_EVERY);
        loop {
            let heard = tokio::select! {
                heard = amqp.hear() => heard?,
                _ = beats.tick() => {
                    amqp.beat().await?;
                    continue;
                }
            };
            let delivery = match heard {
                Heard::Delivery(delivery) => delivery,
                Heard::Cancelled => return Ok(()),
                other @ (Heard::Ack { .. } | Heard::Nack { .. }) => {
                    bail!("told to a consumer: {other:?}")
                }
            };
            let message = payload::decode(&delivery.body);
            self.recorder.record(Event::Delivered(Delivered {
                consumer,
                message,
                redelivered: delivery.redelivered,
            }));
            let Some(id) = message else {
                return Err(Damaged.into());
            };
            self.shared.see(id);
            if !delivery.redelivered && id.counter.is_multiple_of(GIVEN_BACK) {
                amqp.requeue(delivery.tag).await?;
            } else {
                amqp.ack(delivery.tag).await?;
            }
        }
    }
}

#[derive(Debug)]
struct Damaged;

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a damaged message was delivered")
    }
}

impl std::error::Error for Damaged {}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
