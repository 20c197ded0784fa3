//! Publishing with confirms: messages go out in order within a window, each gets exactly one outcome, and what has none when
//! a connection breaks is sent again on the next node under the same producer and sequence, so that it is stored once.
//! Not here: the stream (`driver`), the bookkeeping (`window`), single calls (`admin`).

mod driver;
mod window;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use crate::{
    connection::Connection,
    error::{Error, Refusal},
    message::{Message, Target},
};
use driver::{Command, Driver};
use window::{Dedup, Entry, Window};

pub(crate) use window::outcome_from_wire;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// On the disks of a majority, for every target queue.
    Committed {
        /// How many queues have it, where the server says so.
        queues: Option<u32>,
        /// Of a message that waits to be due: what [`Connection::cancel_scheduled`] takes it back by.
        schedule_handle: Option<Box<str>>,
    },
    /// Was committed before, under the same sequence or deduplication key. A success.
    Duplicate,
    /// No queue took it; stored nowhere. A success.
    Unrouted,
    /// Not stored, in at least one target queue.
    Refused(Box<Refusal>),
    /// Not answered in time: it may or may not be stored. Publishing it again under the same sequence is safe.
    Unknown(Box<Error>),
}

impl Outcome {
    /// The server has taken responsibility for it.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Self::Committed { .. } | Self::Duplicate | Self::Unrouted => true,
            Self::Refused(_) | Self::Unknown(_) => false,
        }
    }
}

/// The outcome of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishResult {
    /// Its number within the producer.
    pub sequence: u64,
    /// As given with the publication; 0 for those with a [`Confirm`].
    pub token: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Takes outcomes in bulk, on the publisher's task: it must not block. Results come in no particular order.
pub type OutcomeSink = Box<dyn FnMut(&[PublishResult]) + Send>;

/// A message to publish whose outcome goes to the [`OutcomeSink`].
#[derive(Debug, Clone)]
pub struct Publication {
    /// Where to.
    pub target: Target,
    /// What.
    pub message: Message,
    /// Refuse (`UNROUTABLE`) when no queue takes it.
    pub mandatory: bool,
    /// Given back with the outcome.
    pub token: u64,
}

/// Settings of a publisher.
pub struct PublisherOptions {
    /// Empty = "/".
    pub vhost: String,
    /// Most messages without an outcome. At most 1,024 are on their way at once: that is how far back a queue recognises a
    /// message that is sent again.
    pub window_messages: u32,
    /// Most bytes without an outcome; a larger message goes alone.
    pub window_bytes: u32,
    /// Stable name of the producer, to go on after a restart of the program; none = made up for this publisher.
    pub producer_id: Option<String>,
    /// A higher epoch fences every lower one of the same producer.
    pub producer_epoch: u64,
    /// The first sequence, at least 1; after a restart, one past the last.
    pub first_sequence: u64,
    /// Send without sequences: a message that is sent again after a broken connection may be stored twice.
    pub without_dedup: bool,
    /// How long messages may stay without any news before their outcome is [`Outcome::Unknown`].
    pub give_up_after: Duration,
    /// A node that is silent for so long while something is unconfirmed, and then does not answer a call either, is left for
    /// another.
    pub stall_timeout: Duration,
    /// Takes the outcomes of [`Publisher::submit`].
    pub sink: Option<OutcomeSink>,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            vhost: String::new(),
            window_messages: 1000,
            window_bytes: 64 << 20,
            producer_id: None,
            producer_epoch: 0,
            first_sequence: 1,
            without_dedup: false,
            give_up_after: Duration::from_secs(60),
            stall_timeout: Duration::from_millis(1500),
            sink: None,
        }
    }
}

impl fmt::Debug for PublisherOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherOptions")
            .field("vhost", &self.vhost)
            .field("window_messages", &self.window_messages)
            .field("window_bytes", &self.window_bytes)
            .field("producer_id", &self.producer_id)
            .finish_non_exhaustive()
    }
}

/// What a publisher went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublisherStats {
    /// Messages sent a second time or more.
    pub resent: u64,
    /// Streams opened after the first.
    pub reconnects: u64,
}

/// How a message's outcome is told.
#[derive(Debug)]
enum Reply {
    Future(oneshot::Sender<Outcome>),
    Sink { token: u64 },
}

impl Reply {
    fn token(&self) -> u64 {
        match self {
            Self::Future(_) => 0,
            Self::Sink { token } => *token,
        }
    }
}

/// What handle and driver share.
#[derive(Debug)]
struct Shared {
    messages: Semaphore,
    bytes: Semaphore,
    resent: AtomicU64,
    reconnects: AtomicU64,
    failure: OnceLock<Error>,
}

impl Shared {
    fn closed(&self) -> Error {
        Error::Closed {
            what: "the publisher",
            cause: self.failure.get().cloned().map(Box::new),
        }
    }
}

/// A publisher. Messages given to it from one task keep their order per queue. When it is dropped, what it has accepted is
/// still sent.
#[derive(Debug)]
pub struct Publisher {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    window_bytes: u32,
}

impl Connection {
    /// A publisher on this connection. Connects in the background; an error that no retry can mend ends it.
    #[must_use]
    pub fn publisher(&self, options: PublisherOptions) -> Publisher {
        let window_messages = options.window_messages.max(1);
        let window_bytes = options.window_bytes.max(1);
        let slots = usize::try_from(window_messages).unwrap_or(Semaphore::MAX_PERMITS);
        // As many as the window has: who holds a permit never waits here.
        let (commands, receiver) = mpsc::channel(slots.min(Semaphore::MAX_PERMITS));
        let permits = usize::try_from(window_bytes).unwrap_or(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            messages: Semaphore::new(slots),
            bytes: Semaphore::new(permits),
            resent: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            failure: OnceLock::new(),
        });
        let dedup = if options.without_dedup {
            Dedup::Off
        } else {
            Dedup::On
        };
        let window = Window::new(dedup, options.first_sequence.max(1));
        let driver = Driver::new(self.clone(), options, window, receiver, shared.clone());
        self.spawn(driver.run());
        Publisher {
            commands,
            shared,
            window_bytes,
        }
    }
}

/// Room in a publisher's window for one message; given back when it is dropped.
#[derive(Debug)]
pub struct Room<'a> {
    publisher: &'a Publisher,
    permit: SemaphorePermit<'a>,
}

impl Room<'_> {
    /// Accepts a message, as soon as the window has room for its bytes too. Its outcome goes to the sink.
    ///
    /// # Errors
    /// When the publisher has ended.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, the message was not accepted.
    pub async fn submit(self, publication: Publication) -> Result<(), Error> {
        let Publication {
            target,
            message,
            mandatory,
            token,
        } = publication;
        self.accept(target, message, mandatory, None, Reply::Sink { token })
            .await
    }

    async fn accept(
        self,
        target: Target,
        message: Message,
        mandatory: bool,
        number: Option<u64>,
        reply: Reply,
    ) -> Result<(), Error> {
        let publisher = self.publisher;
        let bytes = u32::try_from(message.size_bytes()).unwrap_or(u32::MAX);
        let permits = bytes.clamp(1, publisher.window_bytes);
        let closed = |_| publisher.shared.closed();
        let byte_permits = publisher.shared.bytes.acquire_many(permits).await;
        let byte_permits = byte_permits.map_err(closed)?;
        let entry = Entry {
            target,
            message,
            mandatory,
            number,
            permits,
            reply,
        };
        let slot = publisher.commands.reserve().await;
        slot.map_err(|_| publisher.shared.closed())?
            .send(Command::Publish(entry));
        // The driver gives them back with the outcome.
        self.permit.forget();
        byte_permits.forget();
        Ok(())
    }
}

impl Publisher {
    /// Accepts a message, as soon as the window has room for it. Its outcome is awaited by the [`Confirm`], which may be
    /// dropped.
    ///
    /// # Errors
    /// When the publisher has ended.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, the message was not accepted.
    pub async fn publish(&self, target: &Target, message: Message) -> Result<Confirm, Error> {
        self.confirmed_as(target, message, None).await
    }

    /// As [`Self::publish`], under a sequence of the program's own: what was stored under it before, perhaps by an earlier run, is a
    /// [`Outcome::Duplicate`]. All messages of a publisher have one, or none; they should rise, and may leave out any: a queue refuses
    /// (`SEQUENCE_TOO_OLD`) what is 1,024 or more behind the highest it has seen.
    ///
    /// # Errors
    /// When the publisher has ended.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, the message was not accepted.
    pub async fn publish_as(
        &self,
        sequence: u64,
        target: &Target,
        message: Message,
    ) -> Result<Confirm, Error> {
        self.confirmed_as(target, message, Some(sequence)).await
    }

    async fn confirmed_as(
        &self,
        target: &Target,
        message: Message,
        number: Option<u64>,
    ) -> Result<Confirm, Error> {
        let (sender, receiver) = oneshot::channel();
        let reply = Reply::Future(sender);
        self.accept(target.clone(), message, false, number, reply)
            .await?;
        Ok(Confirm {
            receiver,
            shared: self.shared.clone(),
        })
    }

    /// Accepts a message, as soon as the window has room for it. Its outcome goes to the sink.
    ///
    /// # Errors
    /// When the publisher has ended.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, the message was not accepted.
    pub async fn submit(&self, publication: Publication) -> Result<(), Error> {
        self.room().await?.submit(publication).await
    }

    /// Waits until the window has room for one more message: for programs that make a message only when it can go.
    ///
    /// # Errors
    /// When the publisher has ended.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, no room was taken.
    pub async fn room(&self) -> Result<Room<'_>, Error> {
        let acquired = self.shared.messages.acquire().await;
        Ok(Room {
            publisher: self,
            permit: acquired.map_err(|_| self.shared.closed())?,
        })
    }

    async fn accept(
        &self,
        target: Target,
        message: Message,
        mandatory: bool,
        number: Option<u64>,
        reply: Reply,
    ) -> Result<(), Error> {
        let room = self.room().await?;
        room.accept(target, message, mandatory, number, reply).await
    }

    /// Waits until every message accepted so far has its outcome, good or bad.
    ///
    /// # Errors
    /// When the publisher has ended.
    pub async fn flush(&self) -> Result<(), Error> {
        let (sender, receiver) = oneshot::channel();
        let command = Command::Flush(sender);
        let sent = self.commands.send(command).await;
        sent.map_err(|_| self.shared.closed())?;
        receiver.await.map_err(|_| self.shared.closed())
    }

    /// Flushes and ends the stream.
    ///
    /// # Errors
    /// When the publisher had ended before.
    pub async fn close(self) -> Result<(), Error> {
        self.flush().await
    }

    /// What it went through so far.
    #[must_use]
    pub fn stats(&self) -> PublisherStats {
        PublisherStats {
            resent: self.shared.resent.load(Ordering::Relaxed),
            reconnects: self.shared.reconnects.load(Ordering::Relaxed),
        }
    }
}

/// The outcome of one message, when it is known.
#[derive(Debug)]
pub struct Confirm {
    receiver: oneshot::Receiver<Outcome>,
    shared: Arc<Shared>,
}

impl Future for Confirm {
    type Output = Result<Outcome, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|it| it.map_err(|_| self.shared.closed()))
    }
}
