//! Load for fault runs: publishers and consumers on all nodes that record what they did and saw. Not here: faults and the checker
//! (`warren-testkit`) but for those of the network, queues that do more than queue (`lanes`), the runs themselves (`tests/`).

pub mod amqp;
pub mod audits;
pub mod cuts;
pub mod https;
pub mod judge;
pub mod lanes;
pub mod network;
pub mod probe;
pub mod pulse;
pub mod redrive;
pub mod run;
pub mod stage;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use warren_client::{
    Connection, ConnectionOptions, ConsumerOptions, Credentials, Message, Outcome, OutcomeSink,
    PeekOptions, Peeked, Publication, PublishResult, PublisherOptions, QueueSpec, Target,
    parse_addresses,
};
use warren_testkit::history::{ConsumerId, Delivered, Event, MessageId, PublishOutcome, Recorder};
use warren_testkit::payload;

use crate::probe::{AmqpProbe, Probe};
use crate::pulse::Pulses;

/// How much load, on how many queues.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub queues: u32,
    /// Per queue; publisher and consumer `n` begin on node `n` of the list.
    pub publishers: u32,
    pub consumers: u32,
    /// Pause of a publisher after each message.
    pub pause: Duration,
    pub body_bytes: usize,
}

/// Load under way.
pub struct Load {
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    options: ConnectionOptions,
    probes: AtomicU32,
    publishers: Vec<JoinHandle<Result<()>>>,
    consumers: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    /// Confirmed and not seen by a consumer yet.
    missing: Mutex<BTreeSet<MessageId>>,
    seen: Mutex<BTreeSet<MessageId>>,
    pulses: Mutex<Pulses>,
    confirmed: AtomicU64,
    /// Longest time any publisher waited for a confirm, milliseconds.
    gap_ms_max: AtomicU64,
}

impl Shared {
    fn confirm(&self, id: MessageId) {
        self.confirmed.fetch_add(1, Ordering::Relaxed);
        let mut missing = locked(&self.missing);
        if !locked(&self.seen).contains(&id) {
            missing.insert(id);
        }
    }

    fn pulse(&self, queue: &str) {
        locked(&self.pulses).beat(queue);
    }

    fn see(&self, id: MessageId) {
        // Both under one lock, in one order: or what is seen at the moment of its confirm would be missed for ever.
        let mut missing = locked(&self.missing);
        locked(&self.seen).insert(id);
        missing.remove(&id);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A client that panicked has failed the run already; what it left is still a set.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All of a queue, oldest first.
///
/// # Errors
/// If it cannot be looked at.
pub async fn content(connection: &Connection, queue: &str) -> Result<Vec<Peeked>> {
    let mut options = PeekOptions {
        queue: queue.to_owned(),
        ..PeekOptions::default()
    };
    let mut all = Vec::new();
    loop {
        let page = connection.peek(&options).await?;
        all.extend(page.messages);
        if page.next_cursor.is_empty() {
            return Ok(all);
        }
        options.cursor = page.next_cursor;
    }
}

/// A connection that begins with the first of `servers`.
///
/// # Errors
/// If the addresses cannot be read.
pub fn connect(servers: &str) -> Result<Connection> {
    connect_as(servers, &ConnectionOptions::default())
}

/// The same for clients that log in.
///
/// # Errors
/// If the addresses cannot be read.
pub fn connect_as(servers: &str, options: &ConnectionOptions) -> Result<Connection> {
    Ok(Connection::new(
        &parse_addresses(servers)?,
        options.clone(),
    )?)
}

/// `authorization` as RFC 7617 has it.
fn basic(credentials: &Credentials) -> MetadataValue<Ascii> {
    let pair = format!("{}:{}", credentials.user, credentials.password);
    let text = format!("Basic {}", STANDARD.encode(pair));
    text.parse().expect("base64 is a header's value")
}

/// Queues of the load, by number.
#[must_use]
pub fn queue_name(queue: u32) -> String {
    format!("faults-{queue}")
}

impl Load {
    /// Declares the queues and starts the clients. `servers` has one list per node, each beginning with its node.
    ///
    /// # Errors
    /// If the queues cannot be declared.
    pub async fn start(servers: &[String], shape: Shape) -> Result<Self> {
        Self::start_as(servers, shape, ConnectionOptions::default()).await
    }

    /// The same for clients that log in.
    ///
    /// # Errors
    /// If the queues cannot be declared.
    pub async fn start_as(
        servers: &[String],
        shape: Shape,
        options: ConnectionOptions,
    ) -> Result<Self> {
        let mut load = Self::empty(options);
        let first = servers.first().context("no servers")?;
        let admin = connect_as(first, &load.options)?;
        for queue in 0..shape.queues {
            admin
                .declare_queue(&QueueSpec::durable(&queue_name(queue)))
                .await?;
            for number in 0..shape.publishers {
                let at = pick(servers, number)?;
                load.spawn_publisher(at, shape, queue, queue * shape.publishers + number)?;
            }
            for number in 0..shape.consumers {
                let at = pick(servers, number)?;
                let prefetch = [1, 20, 200].get(number as usize % 3).copied().unwrap_or(1);
                load.spawn_consumer(at, queue, queue * shape.consumers + number, prefetch)?;
            }
        }
        Ok(load)
    }

    fn empty(options: ConnectionOptions) -> Self {
        Self {
            recorder: Recorder::default(),
            stop: Arc::default(),
            shared: Arc::default(),
            options,
            probes: AtomicU32::new(0),
            publishers: Vec::new(),
            consumers: Vec::new(),
        }
    }

    /// Tells the history what became of a publisher's messages, by their tokens.
    fn sink(&self, queue: &str, id_of: impl Fn(u64) -> MessageId + Send + 'static) -> OutcomeSink {
        let queue = queue.to_owned();
        let (recorder, shared) = (self.recorder.clone(), self.shared.clone());
        let mut last = Instant::now();
        Box::new(move |results: &[PublishResult]| {
            let gap = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
            shared.gap_ms_max.fetch_max(gap, Ordering::Relaxed);
            last = Instant::now();
            for result in results {
                let id = id_of(result.token);
                let outcome = match &result.outcome {
                    Outcome::Committed { .. } | Outcome::Duplicate => PublishOutcome::Confirmed,
                    Outcome::Refused(_) => PublishOutcome::Refused,
                    Outcome::Unrouted | Outcome::Unknown(_) => PublishOutcome::Unknown,
                };
                recorder.record(Event::PublishEnded(id, outcome));
                if outcome == PublishOutcome::Confirmed {
                    shared.pulse(&queue);
                    shared.confirm(id);
                }
            }
        })
    }

    fn spawn_publisher(
        &mut self,
        servers: &str,
        shape: Shape,
        queue: u32,
        publisher: u32,
    ) -> Result<()> {
        let connection = connect_as(servers, &self.options)?;
        let (recorder, stop) = (self.recorder.clone(), self.stop.clone());
        let sink = self.sink(&queue_name(queue), move |token| MessageId {
            publisher,
            counter: token,
        });
        let publisher_handle = connection.publisher(PublisherOptions {
            window_messages: 200,
            give_up_after: Duration::from_secs(120),
            sink: Some(sink),
            ..PublisherOptions::default()
        });
        self.publishers.push(tokio::spawn(async move {
            let mut counter = 0;
            while !stop.load(Ordering::Relaxed) {
                counter += 1;
                let id = MessageId { publisher, counter };
                recorder.record(Event::PublishInvoked(id));
                let message = Message::new(payload::encode(id, shape.body_bytes));
                let publication = Publication {
                    target: Target::queue(&queue_name(queue)),
                    message,
                    mandatory: true,
                    token: counter,
                };
                publisher_handle.submit(publication).await?;
                tokio::time::sleep(shape.pause).await;
            }
            publisher_handle.flush().await?;
            Ok(())
        }));
        Ok(())
    }

    fn spawn_consumer(
        &mut self,
        servers: &str,
        queue: u32,
        number: u32,
        prefetch: u32,
    ) -> Result<()> {
        let connection = connect_as(servers, &self.options)?;
        let (recorder, shared) = (self.recorder.clone(), self.shared.clone());
        let consumer = ConsumerId(number);
        self.consumers.push(tokio::spawn(async move {
            let options = ConsumerOptions {
                prefetch,
                ..ConsumerOptions::queue(&queue_name(queue))
            };
            let mut stream = connection.consume(options).await?;
            while let Some(delivery) = stream.next().await? {
                let message = payload::decode(&delivery.message.body);
                recorder.record(Event::Delivered(Delivered {
                    consumer,
                    message,
                    redelivered: delivery.redelivered,
                }));
                let Some(id) = message else {
                    bail!("a damaged message was delivered")
                };
                shared.see(id);
                let settled = stream.ack(&delivery).await?;
                let recorder = recorder.clone();
                tokio::spawn(async move {
                    if settled.await.is_ok_and(|outcome| outcome.is_done()) {
                        recorder.record(Event::Settled(consumer, id));
                    }
                });
            }
            Ok(())
        }));
        Ok(())
    }

    /// Publishes one by one through the node at `address`; part of the same history.
    ///
    /// # Errors
    /// If the address cannot be read, or the load does not log in.
    pub fn probe(&self, address: &str, queue: u32) -> Result<Probe> {
        let number = self.probes.fetch_add(1, Ordering::Relaxed);
        let credentials = self.options.credentials.as_ref();
        Probe::new(
            (self.recorder.clone(), self.shared.clone()),
            address,
            credentials.context("probes log in")?,
            (queue, number),
        )
    }

    /// The same over AMQP.
    ///
    /// # Errors
    /// If the node lets nobody in, or the load does not log in.
    pub async fn amqp_probe(&self, address: &str, queue: u32) -> Result<AmqpProbe> {
        let number = self.probes.fetch_add(1, Ordering::Relaxed);
        let credentials = self.options.credentials.as_ref();
        AmqpProbe::open(
            (self.recorder.clone(), self.shared.clone()),
            address,
            credentials.context("probes log in")?,
            (queue, number),
        )
        .await
    }

    /// Confirms so far.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.shared.confirmed.load(Ordering::Relaxed)
    }

    /// The history so far; what is taken from it is not given at the end.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// # Errors
    /// A client has ended, which none may before the load does.
    pub async fn is_under_way(&mut self) -> Result<()> {
        for (what, clients) in [
            ("publisher", &mut self.publishers),
            ("consumer", &mut self.consumers),
        ] {
            for client in clients {
                if client.is_finished() {
                    client.await?.with_context(|| format!("a {what} failed"))?;
                    bail!("a {what} has ended");
                }
            }
        }
        Ok(())
    }

    /// Confirmed messages that no consumer has seen yet.
    #[must_use]
    pub fn missing(&self) -> usize {
        locked(&self.shared.missing).len()
    }

    /// From now on, how long each queue goes without a confirm.
    pub fn begin_pulses(&self) {
        locked(&self.shared.pulses).begin();
    }

    /// Since then, the longest time of each queue that has been confirmed to.
    #[must_use]
    pub fn pulses(&self) -> BTreeMap<String, Duration> {
        locked(&self.shared.pulses).longest()
    }

    /// Ends the publishers, waits until every confirmed message was delivered (or `quiet` passed without one coming), and gives
    /// the history.
    ///
    /// # Errors
    /// If a client failed, which none may: some node always serves.
    pub async fn finish(self, quiet: Duration) -> Result<Vec<Event>> {
        let recorder = self.recorder.clone();
        self.settle(quiet).await?;
        Ok(recorder.events())
    }

    /// The same for whom has taken the history.
    ///
    /// # Errors
    /// If a client failed, which none may: some node always serves.
    pub async fn settle(self, quiet: Duration) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for publisher in self.publishers {
            publisher.await?.context("a publisher failed")?;
        }
        let mut missing = locked(&self.shared.missing).len();
        let mut since = Instant::now();
        while missing > 0 && since.elapsed() < quiet {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = locked(&self.shared.missing).len();
            if now < missing {
                (missing, since) = (now, Instant::now());
            }
        }
        // What would be delivered once too often gets its chance.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for consumer in self.consumers {
            if consumer.is_finished() {
                consumer.await?.context("a consumer failed")?;
            } else {
                consumer.abort();
            }
        }
        Ok(())
    }

    /// Longest time a publisher went without a confirm, milliseconds.
    #[must_use]
    pub fn longest_gap_ms(&self) -> u64 {
        self.shared.gap_ms_max.load(Ordering::Relaxed)
    }
}

fn pick(servers: &[String], number: u32) -> Result<&str> {
    let at = number as usize % servers.len().max(1);
    Ok(servers.get(at).context("no servers")?)
}
