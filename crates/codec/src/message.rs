//! One message in a block's payload: `warren.stored.v1.StoredMessage`, written and read by hand because it is done for every message.
//! Not here: the facts kept beside it (`facts`), the block around it (`rows`).

use bytes::{Bytes, BytesMut};
use warren_types::{Message, Properties, ShardTime};

use crate::{
    error::{CodecError, malformed},
    wire::{Field, Fields, put_bytes, put_uint},
};

const WHAT: &str = "stored message";

/// Fields' numbers, as in `proto/warren/stored/v1/command.proto`.
mod field {
    pub(super) const EXCHANGE: u8 = 1;
    pub(super) const ROUTING_KEY: u8 = 2;
    pub(super) const PROPERTIES: u8 = 3;
    pub(super) const BODY: u8 = 4;
    pub(super) const ENQUEUED_AT: u8 = 5;
    pub(super) const USER: u8 = 6;
    pub(super) const TRACE: u8 = 7;
    pub(super) const DIED: u8 = 15;
}

/// What a message takes: the columns `size` and `body_size` of its facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageSizes {
    pub encoded: u32,
    pub body: u32,
}

/// Appends a message to a block's payload.
///
/// # Panics
/// If it has 4 GiB or more: admission refuses messages far smaller than that.
pub fn encode_message(
    out: &mut BytesMut,
    message: &Message,
    enqueued_at: ShardTime,
) -> MessageSizes {
    let properties = message.properties.as_wire();
    out.reserve(encoded_bytes_max(message));
    let before = out.len();
    put_bytes(out, field::EXCHANGE, message.exchange.as_str().as_bytes());
    put_bytes(
        out,
        field::ROUTING_KEY,
        message.routing_key.as_str().as_bytes(),
    );
    put_bytes(out, field::PROPERTIES, properties);
    put_bytes(out, field::BODY, &message.body);
    put_uint(out, field::ENQUEUED_AT, enqueued_at.0);
    if let Some(user) = &message.user {
        put_bytes(out, field::USER, user.as_str().as_bytes());
    }
    put_bytes(out, field::TRACE, &message.trace);
    put_uint(out, field::DIED, u64::from(message.died));
    let size = |bytes: usize| u32::try_from(bytes).expect("admission refuses so large a message");
    MessageSizes {
        encoded: size(out.len() - before),
        body: size(message.body.len()),
    }
}

/// No message takes more than this, encoded.
#[must_use]
pub fn encoded_bytes_max(message: &Message) -> usize {
    // Tags, lengths and numbers.
    const FRAMING_MAX: usize = 96;
    let user = message.user.as_ref().map_or(0, |it| it.as_str().len());
    FRAMING_MAX
        + message.exchange.as_str().len()
        + message.routing_key.as_str().len()
        + user
        + message.properties.as_wire().len()
        + message.trace.len()
        + message.body.len()
}

/// A stored message, opened: all parts are slices of the bytes it was opened from, and keep them alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessageView {
    exchange: Bytes,
    routing_key: Bytes,
    user: Bytes,
    pub properties: Properties,
    pub body: Bytes,
    pub enqueued_at: ShardTime,
    /// W3C `traceparent` and `tracestate`, joined by a line feed; empty = none.
    pub trace: Bytes,
    /// It was dead-lettered here: its `x-death` headers are the broker's own.
    pub died: bool,
}

impl StoredMessageView {
    /// # Errors
    /// [`CodecError`] if the bytes are not one stored message.
    pub fn open(bytes: &Bytes) -> Result<Self, CodecError> {
        let mut view = Self {
            exchange: Bytes::new(),
            routing_key: Bytes::new(),
            user: Bytes::new(),
            properties: Properties::default(),
            body: Bytes::new(),
            enqueued_at: ShardTime(0),
            trace: Bytes::new(),
            died: false,
        };
        let mut fields = Fields::new(WHAT, bytes);
        while let Some((number, value)) = fields.next()? {
            match (u8::try_from(number).unwrap_or_default(), value) {
                (field::EXCHANGE, Field::Bytes { from, to }) => {
                    view.exchange = text(bytes, from, to)?;
                }
                (field::ROUTING_KEY, Field::Bytes { from, to }) => {
                    view.routing_key = text(bytes, from, to)?;
                }
                (field::PROPERTIES, Field::Bytes { from, to }) => {
                    view.properties = Properties::from_wire(bytes.slice(from..to))?;
                }
                (field::BODY, Field::Bytes { from, to }) => view.body = bytes.slice(from..to),
                (field::ENQUEUED_AT, Field::Uint(it)) => view.enqueued_at = ShardTime(it),
                (field::USER, Field::Bytes { from, to }) => view.user = text(bytes, from, to)?,
                (field::TRACE, Field::Bytes { from, to }) => view.trace = bytes.slice(from..to),
                (field::DIED, Field::Uint(it)) => view.died = it != 0,
                (field::EXCHANGE..=field::TRACE | field::DIED, _) => {
                    return Err(malformed(WHAT, "a field has another type"));
                }
                // Of a later version, which made sure that it may be overlooked.
                (_, Field::Uint(_) | Field::Bytes { .. } | Field::Fixed) => {}
            }
        }
        Ok(view)
    }

    /// As published; empty = the default exchange.
    #[must_use]
    pub fn exchange(&self) -> &str {
        as_text(&self.exchange)
    }

    /// As published.
    #[must_use]
    pub fn routing_key(&self) -> &str {
        as_text(&self.routing_key)
    }

    /// Who published it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        (!self.user.is_empty()).then(|| as_text(&self.user))
    }
}

fn text(bytes: &Bytes, from: usize, to: usize) -> Result<Bytes, CodecError> {
    let text = bytes.slice(from..to);
    match std::str::from_utf8(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(malformed(WHAT, "a name is not UTF-8")),
    }
}

fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("names are checked when the message is opened")
}
