//! Consuming: deliveries under a prefetch, settles with results, over one stream that is opened again on another node when it
//! breaks, with the same deliveries held. Not here: the stream (`driver`), the bookkeeping (`held`), unary receive (`admin`).

mod driver;
mod held;
mod link;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::sync::{mpsc, oneshot};
use warren_types::Table;

use crate::{
    connection::{Connection, millis},
    error::{Error, Refusal},
    message::Message,
};
use driver::{Command, Driver};

pub(crate) use held::{settlement_by_receipt, unary_settle_outcome};

/// Batches of deliveries between the stream and the program.
const BATCHES_QUEUED: usize = 4;
/// Settles between the program and the stream; who settles waits when it is full.
const SETTLES_QUEUED: usize = 1024;

/// Settings of a consumer.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// Empty = "/".
    pub vhost: String,
    /// The queue.
    pub queue: String,
    /// Most deliveries that are not settled, at least 1.
    pub prefetch: u32,
    /// Most body bytes that are not settled; one message may go beyond. 0 = no limit.
    pub prefetch_bytes: u64,
    /// Deliveries are settled when they are sent; what is lost on the way is lost.
    pub no_ack: bool,
    /// The only consumer of its queue.
    pub exclusive: bool,
    /// Higher ones get messages first.
    pub priority: i32,
    /// Name of the consumer; empty = made by the server.
    pub consumer_tag: String,
    /// Consumer arguments, as AMQP's.
    pub arguments: Table,
    /// A node that answers nothing for so long, not even a ping, is left for another.
    pub stall_timeout: Duration,
}

impl ConsumerOptions {
    /// A consumer of this queue with a prefetch of 200.
    #[must_use]
    pub fn queue(queue: &str) -> Self {
        Self {
            vhost: String::new(),
            queue: queue.to_owned(),
            prefetch: 200,
            prefetch_bytes: 0,
            no_ack: false,
            exclusive: false,
            priority: 0,
            consumer_tag: String::new(),
            arguments: Table::new(),
            stall_timeout: Duration::from_secs(3),
        }
    }
}

/// A message handed out to this consumer.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Exchange it was published to.
    pub exchange: String,
    /// Routing key it was published with.
    pub routing_key: String,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// Deliveries that failed before this one.
    pub delivery_count: u32,
    /// Hand-outs before this one.
    pub acquired_count: u32,
    /// Number of the single active consumer's activation, which rises at each takeover; 0 on other queues.
    pub fencing: u64,
    /// When it was enqueued.
    pub enqueued_at: Option<SystemTime>,
    /// Its number in the queue: later messages have higher ones, and none is given twice. 0 = the server does not tell.
    pub position: u64,
    /// Number within this consumer, never reused.
    number: u64,
}

impl Delivery {
    /// Its number within this consumer, from 1 in the order of arrival. Stays the same over reconnects.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// How a message goes back to its queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requeue {
    /// Ready again after this long.
    pub delay: Option<Duration>,
    /// Counts as a failed delivery.
    pub failed: bool,
    /// Short reason.
    pub reason: String,
}

/// What is decided about a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Done.
    Ack,
    /// Dead-letter or drop, with a short reason.
    Reject { reason: String },
    /// Back to its place in the queue.
    Requeue(Requeue),
}

/// What became of a settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// On the disks of a majority.
    Done,
    /// Was settled before.
    AlreadySettled,
    /// The lease had ended: it is or will be delivered again.
    Expired,
    /// Another consumer has the message now.
    NotOwner,
    /// Refused.
    Refused(Box<Refusal>),
}

impl SettleOutcome {
    /// It is settled as was asked.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self {
            Self::Done => true,
            Self::AlreadySettled | Self::Expired | Self::NotOwner | Self::Refused(_) => false,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    failure: OnceLock<Error>,
    reconnects: AtomicU64,
}

impl Shared {
    fn closed(&self) -> Error {
        Error::Closed {
            what: "the consumer",
            cause: self.failure.get().cloned().map(Box::new),
        }
    }
}

/// Settles deliveries of one consumer. Cheap to clone; works from any task.
#[derive(Debug, Clone)]
pub struct Settler {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl Settler {
    /// Settles one delivery. Answers when the settle is on its way; the result is awaited by the [`Settling`], which may be
    /// dropped.
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn settle(
        &self,
        delivery: &Delivery,
        disposition: Disposition,
    ) -> Result<Settling, Error> {
        self.send(delivery.number, delivery.number, disposition)
            .await
    }

    /// Settles one delivery as done.
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn ack(&self, delivery: &Delivery) -> Result<Settling, Error> {
        self.settle(delivery, Disposition::Ack).await
    }

    /// Settles every delivery up to and including this one that is not settled yet. The result is the worst of theirs.
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn ack_all(&self, up_to: &Delivery) -> Result<Settling, Error> {
        self.send(0, up_to.number, Disposition::Ack).await
    }

    /// Dead-letters or drops it.
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn reject(&self, delivery: &Delivery, reason: &str) -> Result<Settling, Error> {
        let reason = reason.to_owned();
        self.settle(delivery, Disposition::Reject { reason }).await
    }

    /// Returns it to its place in the queue.
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn requeue(&self, delivery: &Delivery, how: Requeue) -> Result<Settling, Error> {
        self.settle(delivery, Disposition::Requeue(how)).await
    }

    async fn send(
        &self,
        first: u64,
        last: u64,
        disposition: Disposition,
    ) -> Result<Settling, Error> {
        let (sender, receiver) = oneshot::channel();
        let command = Command::Settle {
            first,
            last,
            disposition,
            reply: sender,
        };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| self.shared.closed())?;
        Ok(Settling {
            receiver,
            shared: self.shared.clone(),
        })
    }
}

/// The result of a settle, when it is known.
#[derive(Debug)]
pub struct Settling {
    receiver: oneshot::Receiver<SettleOutcome>,
    shared: Arc<Shared>,
}

impl Future for Settling {
    type Output = Result<SettleOutcome, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|it| it.map_err(|_| self.shared.closed()))
    }
}

/// A consumer. When it and its [`Settler`]s are dropped, what was settled is still sent and the rest goes back to the queue.
#[derive(Debug)]
pub struct Consumer {
    deliveries: mpsc::Receiver<Vec<Delivery>>,
    current: std::vec::IntoIter<Delivery>,
    settler: Settler,
}

impl Connection {
    /// Starts consuming.
    ///
    /// # Errors
    /// When no node serves the queue within the connection's request timeout, or the server refuses.
    pub async fn consume(&self, options: ConsumerOptions) -> Result<Consumer, Error> {
        let (commands, receiver) = mpsc::channel(SETTLES_QUEUED);
        let (sender, deliveries) = mpsc::channel(BATCHES_QUEUED);
        let (opened, is_open) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let driver = Driver::new(
            self.clone(),
            options,
            receiver,
            sender,
            opened,
            shared.clone(),
        );
        self.spawn(driver.run());
        let within = self.options().request_timeout;
        match tokio::time::timeout(within, is_open).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(error),
            Ok(Err(_)) => return Err(shared.closed()),
            // The driver sees that nobody listens any more, and ends.
            Err(_) => {
                return Err(Error::Timeout {
                    operation: "opening a consumer",
                    waited_ms: millis(within),
                });
            }
        }
        Ok(Consumer {
            deliveries,
            current: Vec::new().into_iter(),
            settler: Settler { commands, shared },
        })
    }
}

impl Consumer {
    /// The next delivery; `None` after [`Self::drain`], when all have been taken.
    ///
    /// # Errors
    /// When the consumer has ended, for example because its queue was deleted.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped before it is ready.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        loop {
            if let Some(delivery) = self.current.next() {
                return Ok(Some(delivery));
            }
            match self.receive().await? {
                Some(batch) => self.current = batch.into_iter(),
                None => return Ok(None),
            }
        }
    }

    /// The next deliveries, as many as came together.
    ///
    /// # Errors
    /// As for [`Self::next`].
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped before it is ready.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<Delivery>>, Error> {
        if self.current.len() > 0 {
            return Ok(Some(std::mem::take(&mut self.current).collect()));
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Result<Option<Vec<Delivery>>, Error> {
        match self.deliveries.recv().await {
            Some(batch) => Ok(Some(batch)),
            None => match self.settler.shared.failure.get() {
                Some(_) => Err(self.settler.shared.closed()),
                None => Ok(None),
            },
        }
    }

    /// A handle that settles from other tasks too.
    #[must_use]
    pub fn settler(&self) -> &Settler {
        &self.settler
    }

    /// As [`Settler::ack`].
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn ack(&self, delivery: &Delivery) -> Result<Settling, Error> {
        self.settler.ack(delivery).await
    }

    /// As [`Settler::ack_all`].
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn ack_all(&self, up_to: &Delivery) -> Result<Settling, Error> {
        self.settler.ack_all(up_to).await
    }

    /// As [`Settler::reject`].
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn reject(&self, delivery: &Delivery, reason: &str) -> Result<Settling, Error> {
        self.settler.reject(delivery, reason).await
    }

    /// As [`Settler::requeue`].
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn requeue(&self, delivery: &Delivery, how: Requeue) -> Result<Settling, Error> {
        self.settler.requeue(delivery, how).await
    }

    /// Asks for no further deliveries. What has been sent by then still comes out of [`Self::next`], and can be settled.
    ///
    /// # Errors
    /// When the consumer has ended.
    pub async fn drain(&self) -> Result<(), Error> {
        let sent = self.settler.commands.send(Command::Drain).await;
        sent.map_err(|_| self.settler.shared.closed())
    }

    /// Waits for the results of all settles so far, then ends; what is not settled goes back to the queue.
    ///
    /// # Errors
    /// When the consumer had ended before, or `within` has passed: then settles may not have been done.
    pub async fn close(self, within: Duration) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        let sent = self.settler.commands.send(Command::Close(sender)).await;
        sent.map_err(|_| self.settler.shared.closed())?;
        match tokio::time::timeout(within, receiver).await {
            Ok(answer) => answer.map_err(|_| self.settler.shared.closed()),
            Err(_) => Err(Error::Timeout {
                operation: "closing a consumer",
                waited_ms: millis(within),
            }),
        }
    }

    /// Streams opened after the first.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.settler.shared.reconnects.load(Ordering::Relaxed)
    }
}
