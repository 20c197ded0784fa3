//! A message's properties, kept as the AMQP 0-9-1 basic property list: the bytes of a content header from the property
//! flags on. They are never re-encoded on their way through the broker; what is asked for is read out of the bytes.
//! Not here: what a property means to a queue (`queue`), other forms of properties (`proto` converts at its edge).

mod builder;

use bytes::Bytes;
use thiserror::Error;

use crate::table::{TABLE_DEPTH_MAX, Table, TableError, Value, find_in_wire, validate_wire};

pub use builder::PropertiesBuilder;

/// Why bytes are not a basic property list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PropertiesError {
    #[error("property list ends early: {needed} bytes needed, {available} left")]
    Truncated { needed: usize, available: usize },
    #[error("{bytes} bytes follow the property list")]
    TrailingBytes { bytes: usize },
    #[error("property flags 0x{flags:04x} name properties that class basic does not have")]
    UnknownFlags { flags: u16 },
    #[error("property {property} has {bytes} bytes; the limit is 255")]
    TooLong {
        property: &'static str,
        bytes: usize,
    },
    #[error("headers: {0}")]
    Headers(#[from] TableError),
}

/// The properties of class basic in the order of the standard, which is also their order in the list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Property {
    ContentType,
    ContentEncoding,
    Headers,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    Type,
    UserId,
    AppId,
    ClusterId,
}

/// How a property is written in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

impl Property {
    pub const ALL: [Self; 14] = [
        Self::ContentType,
        Self::ContentEncoding,
        Self::Headers,
        Self::DeliveryMode,
        Self::Priority,
        Self::CorrelationId,
        Self::ReplyTo,
        Self::Expiration,
        Self::MessageId,
        Self::Timestamp,
        Self::Type,
        Self::UserId,
        Self::AppId,
        Self::ClusterId,
    ];

    /// The bits no property of class basic has; the lowest would announce more flags.
    const UNKNOWN_FLAGS: u16 = 0b11;

    /// The flag bit: the first property has the highest.
    const fn flag(self) -> u16 {
        0x8000 >> (self as u16)
    }

    const fn form(self) -> Form {
        match self {
            Self::Headers => Form::Table,
            Self::DeliveryMode | Self::Priority => Form::Octet,
            Self::Timestamp => Form::Timestamp,
            Self::ContentType
            | Self::ContentEncoding
            | Self::CorrelationId
            | Self::ReplyTo
            | Self::Expiration
            | Self::MessageId
            | Self::Type
            | Self::UserId
            | Self::AppId
            | Self::ClusterId => Form::ShortString,
        }
    }

    /// The name in the standard.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ContentType => "content-type",
            Self::ContentEncoding => "content-encoding",
            Self::Headers => "headers",
            Self::DeliveryMode => "delivery-mode",
            Self::Priority => "priority",
            Self::CorrelationId => "correlation-id",
            Self::ReplyTo => "reply-to",
            Self::Expiration => "expiration",
            Self::MessageId => "message-id",
            Self::Timestamp => "timestamp",
            Self::Type => "type",
            Self::UserId => "user-id",
            Self::AppId => "app-id",
            Self::ClusterId => "cluster-id",
        }
    }
}

/// The canonical properties: checked wire bytes. Cheap to clone. Two lists are equal if their bytes are.
///
/// Short strings may hold any bytes, since clients put binary ids into `correlation-id` and the like: the typed views
/// give text where the bytes are UTF-8, [`Properties::raw`] gives the bytes as they are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Properties {
    wire: Bytes,
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            wire: Bytes::from_static(&[0, 0]),
        }
    }
}

impl Properties {
    /// Delivery mode of a persistent message.
    pub const PERSISTENT: u8 = 2;

    /// Takes the bytes of a content header from the property flags on. Checks all of them, headers included, and builds
    /// nothing; the bytes are kept as they are.
    ///
    /// # Errors
    /// [`PropertiesError`] if the bytes are not one property list of class basic.
    pub fn from_wire(wire: Bytes) -> Result<Self, PropertiesError> {
        let mut rest: &[u8] = &wire;
        let flags = flags(&mut rest)?;
        if flags & Property::UNKNOWN_FLAGS != 0 {
            return Err(PropertiesError::UnknownFlags { flags });
        }
        for property in Property::ALL {
            if flags & property.flag() != 0 {
                step(property, &mut rest, Headers::Check)?;
            }
        }
        match rest.len() {
            0 => Ok(Self { wire }),
            bytes => Err(PropertiesError::TrailingBytes { bytes }),
        }
    }

    /// The bytes it was made from, unchanged.
    #[must_use]
    pub fn as_wire(&self) -> &Bytes {
        &self.wire
    }

    /// No property is present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self.wire == [0, 0]
    }

    /// A property's value as it stands in the list: a short string without its length byte, headers with their length.
    #[must_use]
    pub fn raw(&self, property: Property) -> Option<Bytes> {
        Some(self.wire.slice_ref(self.field(property)?))
    }

    fn field(&self, wanted: Property) -> Option<&[u8]> {
        let mut rest: &[u8] = &self.wire;
        let flags = flags(&mut rest).ok()?;
        if flags & wanted.flag() == 0 {
            return None;
        }
        for property in Property::ALL {
            if property == wanted {
                break;
            }
            if flags & property.flag() != 0 {
                step(property, &mut rest, Headers::Trust).ok()?;
            }
        }
        step(wanted, &mut rest, Headers::Trust).ok()
    }

    fn text(&self, property: Property) -> Option<&str> {
        std::str::from_utf8(self.field(property)?).ok()
    }

    fn octet(&self, property: Property) -> Option<u8> {
        self.field(property)?.first().copied()
    }

    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.text(Property::ContentType)
    }

    #[must_use]
    pub fn content_encoding(&self) -> Option<&str> {
        self.text(Property::ContentEncoding)
    }

    /// Decodes the headers. Their strings are slices of this list.
    #[must_use]
    pub fn headers(&self) -> Option<Table> {
        Table::decode(&self.raw(Property::Headers)?).ok()
    }

    /// Decodes one header, the first of its name, and only steps over the others.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Value> {
        find_in_wire(&self.raw(Property::Headers)?, name, TABLE_DEPTH_MAX).ok()?
    }

    #[must_use]
    pub fn delivery_mode(&self) -> Option<u8> {
        self.octet(Property::DeliveryMode)
    }

    /// Delivery mode 2.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode() == Some(Self::PERSISTENT)
    }

    /// As published; see [`crate::Priority`] for the level a queue makes of it.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.octet(Property::Priority)
    }

    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.text(Property::CorrelationId)
    }

    #[must_use]
    pub fn reply_to(&self) -> Option<&str> {
        self.text(Property::ReplyTo)
    }

    /// Time to live in milliseconds, as text.
    #[must_use]
    pub fn expiration(&self) -> Option<&str> {
        self.text(Property::Expiration)
    }

    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.text(Property::MessageId)
    }

    /// Seconds since the Unix epoch, as the publisher set it.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.field(Property::Timestamp)?
            .first_chunk()
            .map(|it| u64::from_be_bytes(*it))
    }

    /// The property `type`.
    #[must_use]
    pub fn message_type(&self) -> Option<&str> {
        self.text(Property::Type)
    }

    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.text(Property::UserId)
    }

    #[must_use]
    pub fn app_id(&self) -> Option<&str> {
        self.text(Property::AppId)
    }

    #[must_use]
    pub fn cluster_id(&self) -> Option<&str> {
        self.text(Property::ClusterId)
    }
}

/// Whether the inside of the headers is looked at while stepping over them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Headers {
    Check,
    Trust,
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], PropertiesError> {
    let (head, tail) = rest
        .split_at_checked(bytes)
        .ok_or(PropertiesError::Truncated {
            needed: bytes,
            available: rest.len(),
        })?;
    *rest = tail;
    Ok(head)
}

fn flags(rest: &mut &[u8]) -> Result<u16, PropertiesError> {
    let bytes = take(rest, size_of::<u16>())?;
    Ok(bytes
        .iter()
        .fold(0, |flags, byte| flags << 8 | u16::from(*byte)))
}

/// Steps over one property and returns its value (see [`Properties::raw`]).
fn step<'a>(
    property: Property,
    rest: &mut &'a [u8],
    headers: Headers,
) -> Result<&'a [u8], PropertiesError> {
    match property.form() {
        Form::Octet => take(rest, 1),
        Form::Timestamp => take(rest, size_of::<u64>()),
        Form::ShortString => {
            let bytes = take(rest, 1)?.first().copied().unwrap_or_default();
            take(rest, usize::from(bytes))
        }
        Form::Table => {
            let mut after = *rest;
            if headers == Headers::Check {
                validate_wire(&mut after, TABLE_DEPTH_MAX)?;
            } else {
                let length = take(&mut after, size_of::<u32>())?;
                let length = length
                    .iter()
                    .fold(0, |sum: usize, byte| sum << 8 | usize::from(*byte));
                take(&mut after, length)?;
            }
            take(rest, rest.len() - after.len())
        }
    }
}

#[cfg(test)]
mod tests;
