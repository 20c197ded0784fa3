//! Load that uses what queues can do, all at once: each feature on queues of its own, judged by the one checker. A lane's messages are
//! numbered so that the checker's laws hold for it: who must come in order shares a publisher's number, others have one each.
//! Not here: faults (`tests/`), plain queues (`lib`), lanes by the bare protocols (`raw`, `amqp`).

mod amqp;
mod raw;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use warren_client::{
    Connection, ConnectionOptions, Consumer, ConsumerOptions, Delivery, Message, Publication,
    PublisherOptions, QueueSpec, Requeue, Target,
};
use warren_testkit::history::{ConsumerId, Delivered, Event, MessageId};
use warren_testkit::payload;
use warren_types::{PropertiesBuilder, Table, Value};

use crate::{Load, connect_as, pick};

const BODY_BYTES: usize = 120;
/// Pause of a publisher after each message.
const PAUSE: Duration = Duration::from_millis(15);
/// How long a slow consumer takes.
const WORK: Duration = Duration::from_millis(15);
const PUBLISHERS: u32 = 2;
const WINDOW: u32 = 100;
/// Where parked messages are sent to.
pub const UNPARKED: &str = "unparked";
/// Whose messages are all parked.
pub const PARKING: &str = "parking";

/// What consumers do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Ack,
    /// After a while, as work takes.
    AckSlowly,
    /// What comes for the first time fails now and then, and returns.
    FailSome,
    /// What comes for the first time fails, and returns.
    FailFirst,
    FailAlways,
    Reject,
}

/// What the checker is told of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    All,
    /// As if all were flagged: it may have come from the queue before this one.
    AsRepeated,
    Nothing,
}

/// How messages keep their order.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// All of a publisher's.
    One,
    /// By key or priority: so many in turn.
    Of(u32),
    None,
}

/// What messages carry beside their body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    Nothing,
    Key,
    Priority,
    Delay,
}

struct Lane {
    queue: &'static str,
    arguments: Vec<(&'static str, Value)>,
    order: Order,
    carries: Carries,
    consumers: u32,
    does: Does,
    tells: Tells,
    /// Where its messages go on to.
    then: Option<(&'static str, Tells)>,
}

impl Lane {
    fn plain(queue: &'static str) -> Self {
        Self {
            queue,
            arguments: Vec::new(),
            order: Order::One,
            carries: Carries::Nothing,
            consumers: 2,
            does: Does::Ack,
            tells: Tells::All,
            then: None,
        }
    }

    /// Its dead letters go to `out`, in any order.
    fn dead_lettered(
        queue: &'static str,
        out: &'static str,
        more: &[(&'static str, Value)],
    ) -> Self {
        let mut arguments = vec![
            ("x-dead-letter-exchange", Value::from("")),
            ("x-dead-letter-routing-key", Value::from(out)),
        ];
        arguments.extend(more.iter().cloned());
        Self {
            arguments,
            order: Order::None,
            does: Does::Reject,
            tells: Tells::Nothing,
            then: Some((out, Tells::All)),
            ..Self::plain(queue)
        }
    }

    /// The number of a publisher's `n`th message, the first one has 1.
    fn id(&self, lane: u32, publisher: u32, n: u32) -> MessageId {
        let base = (lane << 25) | (publisher << 23);
        let (of, counter) = match self.order {
            Order::One => (0, u64::from(n)),
            Order::Of(tracks) => (n % tracks, u64::from(n)),
            Order::None => (n, 1),
        };
        MessageId {
            publisher: base + of,
            counter,
        }
    }

    fn message(&self, id: MessageId, n: u32) -> Result<Message> {
        let message = Message::new(payload::encode(id, BODY_BYTES));
        let properties = PropertiesBuilder::new();
        Ok(match self.carries {
            Carries::Nothing => message,
            Carries::Key => {
                let mut headers = Table::new();
                headers.insert("x-group-key", Value::from(id.publisher.to_string()))?;
                message.with_properties(properties.headers(&headers).build()?)
            }
            Carries::Priority => {
                let priority = u8::try_from(id.publisher & 0xff).unwrap_or_default();
                message.with_properties(properties.priority(priority).build()?)
            }
            Carries::Delay => message.after(Duration::from_millis(u64::from(n * 37 % 900)))?,
        })
    }
}

/// One lane per feature. `FailAlways` without a dead-letter exchange parks; `warren dlq redrive` brings that back.
fn lanes() -> Vec<Lane> {
    let number = |value: i64| Value::from(value);
    let retry = vec![
        ("x-delayed-retry-type", Value::from("all")),
        ("x-delayed-retry-min", number(50)),
        ("x-delayed-retry-max", number(400)),
    ];
    vec![
        Lane {
            arguments: vec![("x-message-groups", Value::from("strict"))],
            order: Order::Of(8),
            carries: Carries::Key,
            consumers: 3,
            does: Does::FailSome,
            ..Lane::plain("groups")
        },
        Lane {
            arguments: vec![("x-max-priority", number(4))],
            order: Order::Of(4),
            carries: Carries::Priority,
            ..Lane::plain("priorities")
        },
        Lane {
            order: Order::None,
            carries: Carries::Delay,
            ..Lane::plain("scheduled")
        },
        Lane {
            arguments: retry,
            does: Does::FailFirst,
            ..Lane::plain("retried")
        },
        Lane {
            arguments: vec![("x-single-active-consumer", Value::from(true))],
            consumers: 3,
            ..Lane::plain("single-active")
        },
        Lane::dead_lettered("rejected", "rejected-out", &[]),
        Lane {
            consumers: 0,
            ..Lane::dead_lettered("expired", "expired-out", &[("x-message-ttl", number(300))])
        },
        Lane {
            consumers: 1,
            does: Does::AckSlowly,
            tells: Tells::AsRepeated,
            then: Some(("overflow-out", Tells::AsRepeated)),
            ..Lane::dead_lettered("overflow", "overflow-out", &[("x-max-length", number(40))])
        },
        Lane {
            arguments: vec![("x-delivery-limit", number(2))],
            order: Order::None,
            does: Does::FailAlways,
            tells: Tells::Nothing,
            then: Some((UNPARKED, Tells::All)),
            ..Lane::plain(PARKING)
        },
    ]
}

impl Load {
    /// Declares the queues of every lane and starts their clients. `servers` has one list per node, each beginning with its node.
    ///
    /// # Errors
    /// If the queues cannot be declared.
    pub async fn start_lanes(servers: &[String]) -> Result<Self> {
        let mut load = Self::empty(ConnectionOptions::default());
        load.add_lanes(servers, PAUSE).await?;
        Ok(load)
    }

    /// The same beside what there is already.
    ///
    /// # Errors
    /// If the queues cannot be declared.
    pub async fn add_lanes(&mut self, servers: &[String], pause: Duration) -> Result<()> {
        let load = self;
        let admin = connect_as(servers.first().context("no servers")?, &load.options)?;
        let mut lane_number = 0;
        for lane in lanes() {
            lane_number += 1;
            declare(&admin, lane.queue, &lane.arguments).await?;
            if let Some((out, tells)) = lane.then {
                declare(&admin, out, &[]).await?;
                load.lane_consumers(servers, out, 2, (Does::Ack, tells))?;
            }
            load.lane_consumers(servers, lane.queue, lane.consumers, (lane.does, lane.tells))?;
            let lane = Arc::new(lane);
            for number in 0..PUBLISHERS {
                let at = pick(servers, lane_number + number)?;
                load.lane_publisher(at, (lane_number, number), Arc::clone(&lane), pause)?;
            }
        }
        raw::start(load, &admin, servers, (lane_number + 1, pause)).await
    }

    fn lane_publisher(
        &mut self,
        servers: &str,
        (lane_number, number): (u32, u32),
        lane: Arc<Lane>,
        pause: Duration,
    ) -> Result<()> {
        let (recorder, stop) = (self.recorder.clone(), self.stop.clone());
        let of = Arc::clone(&lane);
        let sink = self.sink(lane.queue, move |token| {
            let n = u32::try_from(token).expect("it was one");
            of.id(lane_number, number, n)
        });
        let publisher = connect_as(servers, &self.options)?.publisher(PublisherOptions {
            window_messages: WINDOW,
            give_up_after: Duration::from_secs(120),
            sink: Some(sink),
            ..PublisherOptions::default()
        });
        self.publishers.push(tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let id = lane.id(lane_number, number, n);
                recorder.record(Event::PublishInvoked(id));
                let publication = Publication {
                    target: Target::queue(lane.queue),
                    message: lane.message(id, n)?,
                    mandatory: true,
                    token: u64::from(n),
                };
                publisher.submit(publication).await?;
                tokio::time::sleep(pause).await;
            }
            publisher.flush().await?;
            Ok(())
        }));
        Ok(())
    }

    fn lane_consumers(
        &mut self,
        servers: &[String],
        queue: &'static str,
        count: u32,
        (does, tells): (Does, Tells),
    ) -> Result<()> {
        for _ in 0..count {
            let number = u32::try_from(self.consumers.len())?;
            let connection = connect_as(pick(servers, number)?, &self.options)?;
            let options = ConsumerOptions {
                prefetch: if does == Does::AckSlowly { 2 } else { 20 },
                ..ConsumerOptions::queue(queue)
            };
            let teller = Teller {
                recorder: self.recorder.clone(),
                shared: self.shared.clone(),
                consumer: ConsumerId(number),
                tells,
            };
            self.consumers.push(tokio::spawn(async move {
                let mut stream = connection.consume(options).await?;
                while let Some(delivery) = stream.next().await? {
                    let id = teller.delivered(&delivery)?;
                    teller.settle(&stream, &delivery, id, does).await?;
                }
                Ok(())
            }));
        }
        Ok(())
    }
}

async fn declare(
    admin: &Connection,
    queue: &str,
    arguments: &[(&'static str, Value)],
) -> Result<()> {
    let mut spec = QueueSpec::durable(queue);
    for (name, value) in arguments {
        spec.arguments.insert(name, value.clone())?;
    }
    admin.declare_queue(&spec).await?;
    Ok(())
}

/// What one consumer tells the history.
struct Teller {
    recorder: warren_testkit::history::Recorder,
    shared: Arc<crate::Shared>,
    consumer: ConsumerId,
    tells: Tells,
}

impl Teller {
    fn delivered(&self, delivery: &Delivery) -> Result<MessageId> {
        let message = payload::decode(&delivery.message.body);
        let redelivered = match self.tells {
            Tells::All => Some(delivery.redelivered),
            Tells::AsRepeated => Some(true),
            Tells::Nothing => None,
        };
        if let Some(redelivered) = redelivered {
            self.recorder.record(Event::Delivered(Delivered {
                consumer: self.consumer,
                message,
                redelivered,
            }));
        }
        let Some(id) = message else {
            bail!("a damaged message was delivered")
        };
        if redelivered.is_some() {
            self.shared.see(id);
        }
        Ok(id)
    }

    async fn settle(
        &self,
        stream: &Consumer,
        delivery: &Delivery,
        id: MessageId,
        does: Does,
    ) -> Result<()> {
        let failed = || Requeue {
            failed: true,
            ..Requeue::default()
        };
        let is_first = delivery.delivery_count == 0;
        let settled = match does {
            Does::Reject => stream.reject(delivery, "not wanted").await?,
            Does::FailAlways => stream.requeue(delivery, failed()).await?,
            Does::FailFirst if is_first => stream.requeue(delivery, failed()).await?,
            Does::FailSome if is_first && id.counter.is_multiple_of(7) => {
                stream.requeue(delivery, failed()).await?
            }
            Does::AckSlowly => {
                tokio::time::sleep(WORK).await;
                stream.ack(delivery).await?
            }
            Does::Ack | Does::FailFirst | Does::FailSome => stream.ack(delivery).await?,
        };
        let is_ack = match does {
            Does::Ack | Does::AckSlowly => true,
            Does::FailFirst => !is_first,
            Does::FailSome => !(is_first && id.counter.is_multiple_of(7)),
            Does::FailAlways | Does::Reject => false,
        };
        if is_ack && self.tells == Tells::All {
            let (recorder, consumer) = (self.recorder.clone(), self.consumer);
            tokio::spawn(async move {
                if settled.await.is_ok_and(|outcome| outcome.is_done()) {
                    recorder.record(Event::Settled(consumer, id));
                }
            });
        }
        Ok(())
    }
}
