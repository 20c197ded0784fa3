//! Names that clients choose, checked once at the edge. Not here: which names exist (`topology`).

use std::{fmt, sync::Arc};

use thiserror::Error;

/// AMQP short strings hold at most 255 bytes.
pub const NAME_BYTES_MAX: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has {bytes} bytes; the limit is {NAME_BYTES_MAX}")]
    TooLong { what: &'static str, bytes: usize },
    #[error("{what} holds a control character")]
    ControlCharacter { what: &'static str },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, empty: $empty:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(value: &str) -> Result<Self, NameError> {
                check(value, $what, $empty)?;
                Ok(Self(Arc::from(value)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn check(value: &str, what: &'static str, empty_allowed: bool) -> Result<(), NameError> {
    if value.is_empty() && !empty_allowed {
        return Err(NameError::Empty { what });
    }
    if value.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong {
            what,
            bytes: value.len(),
        });
    }
    if value.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter { what });
    }
    Ok(())
}

name! {
    /// A queue's name.
    QueueName, "queue name", empty: false
}
name! {
    /// An exchange's name; the empty one is the default exchange.
    ExchangeName, "exchange name", empty: true
}
name! {
    /// A virtual host's name.
    VhostName, "vhost name", empty: false
}
name! {
    /// A user's name.
    UserName, "user name", empty: false
}

/// A routing or binding key: any text of at most 255 bytes, control characters included (AMQP 0-9-1 short string).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutingKey(Arc<str>);

impl RoutingKey {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for RoutingKey {
    type Error = NameError;

    fn try_from(value: &str) -> Result<Self, NameError> {
        if value.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong {
                what: "routing key",
                bytes: value.len(),
            });
        }
        Ok(Self(Arc::from(value)))
    }
}

impl fmt::Display for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl ExchangeName {
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}
