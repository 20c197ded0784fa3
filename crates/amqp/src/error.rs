//! AMQP's reply codes and the error that carries one to a client. Not here: which situation has which code in the
//! broker's own operations (the gateway decides that, one exhaustive function per operation).

use std::fmt;

use thiserror::Error;

use crate::{method::MethodId, text::cut};

/// A reply code of AMQP 0-9-1 that closes a channel or a connection, and 312, which only a return carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    /// Reserved, never raised: an oversize message is 406.
    ContentTooLarge = 311,
    /// Only in a returned message.
    NoRoute = 312,
    /// Reserved, never raised: `immediate` is 540.
    NoConsumers = 313,
    ConnectionForced = 320,
    /// Reserved, never raised: vhost errors are 530.
    InvalidPath = 402,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

/// What an error closes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Level {
    /// A soft error: the channel.
    Channel,
    /// A hard error: the connection.
    Connection,
}

impl Code {
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The name in the standard, in capitals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::NoConsumers => "NO_CONSUMERS",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::InvalidPath => "INVALID_PATH",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::ContentTooLarge
            | Self::NoRoute
            | Self::NoConsumers
            | Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => Level::Channel,
            Self::ConnectionForced
            | Self::InvalidPath
            | Self::FrameError
            | Self::SyntaxError
            | Self::CommandInvalid
            | Self::ChannelError
            | Self::UnexpectedFrame
            | Self::ResourceError
            | Self::NotAllowed
            | Self::NotImplemented
            | Self::InternalError => Level::Connection,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

/// An error for the client: it becomes a channel.close or connection.close. Its text is `NAME - explanation`, at most
/// 255 bytes. It names the failing method where there is one (0/0 otherwise).
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{} {text}", .code.number())]
pub struct AmqpError {
    code: Code,
    text: String,
    method: MethodId,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $code:ident;)*) => { $(
        $(#[$doc])*
        #[must_use]
        pub fn $name(explanation: impl fmt::Display) -> Self {
            Self::new(Code::$code, explanation)
        }
    )* };
}

impl AmqpError {
    #[must_use]
    pub fn new(code: Code, explanation: impl fmt::Display) -> Self {
        let mut text = format!("{} - {explanation}", code.name());
        let length = cut(&text).len();
        text.truncate(length);
        Self {
            code,
            text,
            method: MethodId::NONE,
        }
    }

    /// Names the method that failed.
    #[must_use]
    pub fn for_method(mut self, method: MethodId) -> Self {
        self.method = method;
        self
    }

    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    #[must_use]
    pub fn level(&self) -> Level {
        self.code.level()
    }

    /// `NAME - explanation`, at most 255 bytes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn method(&self) -> MethodId {
        self.method
    }

    constructors! {
        /// 320, connection: closed by an operator, a drain, an expired credential.
        connection_forced => ConnectionForced;
        /// 403, channel (connection during login): no permission, reserved name, exclusive consumer clash.
        access_refused => AccessRefused;
        /// 404, channel: no such exchange or queue.
        not_found => NotFound;
        /// 405, channel: another connection's exclusive queue.
        resource_locked => ResourceLocked;
        /// 406, channel: inequivalent declare, bad argument, oversize message, in use, not empty.
        precondition_failed => PreconditionFailed;
        /// 501, connection: bytes that are no frame, or no content header.
        frame_error => FrameError;
        /// 502, connection: arguments that cannot be decoded, malformed SASL response.
        syntax_error => SyntaxError;
        /// 503, connection: unknown mechanism, class or method, or one that a server does not serve.
        command_invalid => CommandInvalid;
        /// 504, connection: channel not open, opened twice, method illegal in this state.
        channel_error => ChannelError;
        /// 505, connection: a frame out of turn.
        unexpected_frame => UnexpectedFrame;
        /// 506, connection.
        resource_error => ResourceError;
        /// 530, connection: vhost missing or refused, tuning out of range, limits, consumer tag used twice.
        not_allowed => NotAllowed;
        /// 540, connection.
        not_implemented => NotImplemented;
        /// 541, connection: no majority.
        internal_error => InternalError;
    }

    /// 406: a settle of a delivery that is not outstanding on the channel.
    #[must_use]
    pub fn unknown_delivery_tag(tag: crate::DeliveryTag) -> Self {
        Self::precondition_failed(format_args!("unknown delivery tag {tag}"))
    }

    /// 406: the content header announces more than the limit.
    #[must_use]
    pub fn message_too_large(size_bytes: u64, limit_bytes: u64) -> Self {
        Self::precondition_failed(format_args!(
            "message size {size_bytes} is larger than the limit of {limit_bytes} bytes"
        ))
    }

    /// 530: the vhost to open does not exist.
    #[must_use]
    pub fn no_such_vhost(vhost: &str) -> Self {
        Self::not_allowed(format_args!("vhost {vhost} not found"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_name_and_explanation_cut_to_255_bytes_on_a_character() {
        let short = AmqpError::not_found("no queue 'q' in vhost '/'");
        assert_eq!(short.text(), "NOT_FOUND - no queue 'q' in vhost '/'");
        let long = AmqpError::not_found("ä".repeat(200));
        assert_eq!(long.text().len(), 254);
        assert!(long.text().ends_with('ä'));
    }

    #[test]
    fn levels_are_those_of_the_standard() {
        let soft = [311, 312, 313, 403, 404, 405, 406];
        let hard = [320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541];
        let all = [
            Code::ContentTooLarge,
            Code::NoRoute,
            Code::NoConsumers,
            Code::ConnectionForced,
            Code::InvalidPath,
            Code::AccessRefused,
            Code::NotFound,
            Code::ResourceLocked,
            Code::PreconditionFailed,
            Code::FrameError,
            Code::SyntaxError,
            Code::CommandInvalid,
            Code::ChannelError,
            Code::UnexpectedFrame,
            Code::ResourceError,
            Code::NotAllowed,
            Code::NotImplemented,
            Code::InternalError,
        ];
        let numbers = |level| {
            all.iter()
                .filter(move |it| it.level() == level)
                .map(|it| it.number())
        };
        assert!(numbers(Level::Channel).eq(soft));
        assert!(numbers(Level::Connection).eq(hard));
    }
}
