//! AMQP's strings: short ones (at most 255 bytes, UTF-8 here) and the cut that makes text fit into one.
//! Not here: field tables (`warren_types`).

use std::{fmt, ops::Deref};

use bytes::Bytes;
use warren_types::{ExchangeName, NAME_BYTES_MAX, QueueName, RoutingKey};

/// The longest start of `text` that fits into a short string and ends between characters.
pub(crate) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(NAME_BYTES_MAX))
        .unwrap_or(text)
}

/// A name or key in a method's arguments: UTF-8, at most 255 bytes. A decoded one is a slice of its frame and keeps
/// that alive: copy out what is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShortString(Bytes);

impl ShortString {
    /// Takes the start that fits, cut between characters; for text that only a human reads.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        Self(Bytes::copy_from_slice(cut(text).as_bytes()))
    }

    /// `None` if the bytes are not UTF-8. The caller took them from a field with a one byte length.
    pub(crate) fn from_wire(bytes: Bytes) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a short string is made from UTF-8 only")
    }
}

impl Deref for ShortString {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<&str> for ShortString {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Self, TooLong> {
        if text.len() > NAME_BYTES_MAX {
            return Err(TooLong { bytes: text.len() });
        }
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }
}

/// The text does not fit into a short string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("text has {bytes} bytes; a short string holds {NAME_BYTES_MAX}")]
pub struct TooLong {
    pub bytes: usize,
}

macro_rules! from_names {
    ($($name:ty),*) => { $(
        impl From<&$name> for ShortString {
            fn from(name: &$name) -> Self {
                Self::cut(name.as_str())
            }
        }
    )* };
}

from_names!(ExchangeName, QueueName, RoutingKey);

impl fmt::Display for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
