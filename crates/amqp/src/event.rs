//! What a connection tells its session, already checked for form and order. Not here: what follows from it.

use warren_types::Table;

use crate::{
    content::Publish,
    error::AmqpError,
    frame::ChannelId,
    method::{basic, confirm, exchange, queue},
    sasl::{Credentials, Secret},
    text::ShortString,
};

/// One thing that happened on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Answer with `login_ok` or `login_refused`; until then no more events come.
    Login(Box<Login>),
    /// connection.open: answer with `open_ok` or `fail`; until then no more events come.
    Open { vhost: ShortString },
    /// The channel is open (and the client has been told).
    ChannelOpened { channel: ChannelId },
    /// A method of a channel.
    Request {
        channel: ChannelId,
        request: Request,
    },
    /// A whole message.
    Publish {
        channel: ChannelId,
        publish: Publish,
    },
    /// The client closes a channel: return what it has not settled, then answer with `channel_close_ok`.
    ChannelClose {
        channel: ChannelId,
        reply_code: u16,
        reply_text: ShortString,
    },
    /// The client broke a rule that costs it the channel. channel.close is written; the channel is gone for the session.
    ChannelFailed {
        channel: ChannelId,
        error: AmqpError,
    },
    /// A new token: answer with `update_secret_ok` or `fail`.
    UpdateSecret { secret: Secret },
    /// The client closes the connection: clean up (exclusive queues), then answer with `close_ok`.
    Close {
        reply_code: u16,
        reply_text: ShortString,
    },
    /// The client broke a rule that costs it the connection. connection.close is written; all channels are gone for the
    /// session. `Ended` follows.
    Failed { error: AmqpError },
    /// The last event: write out what is left of the output and close the socket.
    Ended { reason: EndReason },
}

/// Who a client claims to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    pub credentials: Credentials,
    pub client: Client,
}

/// What a client says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Client {
    /// All it sent, for listings.
    pub properties: Table,
    pub capabilities: Capabilities,
}

impl Client {
    pub(crate) fn new(properties: Table) -> Self {
        let capable = |name| {
            properties
                .get_table("capabilities")
                .and_then(|it| it.get_bool(name))
                == Some(true)
        };
        let capabilities = Capabilities {
            consumer_cancel_notify: capable("consumer_cancel_notify"),
            connection_blocked: capable("connection.blocked"),
            authentication_failure_close: capable("authentication_failure_close"),
        };
        Self {
            properties,
            capabilities,
        }
    }

    #[must_use]
    pub fn product(&self) -> Option<&str> {
        self.properties.get_str("product")
    }

    #[must_use]
    pub fn connection_name(&self) -> Option<&str> {
        self.properties.get_str("connection_name")
    }
}

/// What a client understands beyond the standard, as far as a server acts on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    pub consumer_cancel_notify: bool,
    pub connection_blocked: bool,
    pub authentication_failure_close: bool,
}

/// A method for the session. What no server serves, and what only the connection cares about, never gets here:
/// `immediate`, a `prefetch_size`, recover without requeue and flow(false) have been refused with 540.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    ExchangeDeclare(exchange::Declare),
    ExchangeDelete(exchange::Delete),
    ExchangeBind(exchange::Bind),
    ExchangeUnbind(exchange::Unbind),
    QueueDeclare(queue::Declare),
    QueueDelete(queue::Delete),
    QueuePurge(queue::Purge),
    QueueBind(queue::Bind),
    QueueUnbind(queue::Unbind),
    /// `prefetch_size` is 0.
    Qos(basic::Qos),
    Consume(basic::Consume),
    Cancel(basic::Cancel),
    Get(basic::Get),
    Ack(basic::Ack),
    Nack(basic::Nack),
    Reject(basic::Reject),
    /// Give back all that is not settled. Answer with recover-ok if `reply` (it was not recover-async).
    Recover {
        reply: bool,
    },
    ConfirmSelect(confirm::Select),
    TxSelect,
    TxCommit,
    TxRollback,
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndReason {
    /// It did not begin with AMQP 0-9-1's header; the right one has been written.
    NotAmqp(Opening),
    /// The handshake took too long.
    HandshakeTimeout,
    /// Wrong credentials, and a client that does not understand being told.
    LoginRefused,
    /// Nothing came for two heartbeat intervals.
    HeartbeatTimeout,
    /// The client closed, and has its answer.
    ClosedByClient,
    /// The server closed, and the client has answered.
    ClosedByServer,
    /// The server closed, and the client did not answer in time.
    CloseTimeout,
}

/// What a connection began with instead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Opening {
    Http,
    /// A TLS ClientHello on a plain port.
    Tls,
    /// AMQP, another version.
    OtherAmqp,
    Unknown,
}
