//! What can go wrong for a client, with what to do about it. Not here: outcomes of single messages, which are values
//! (`PublishResult`, `SettleOutcome`).

use std::time::Duration;

use thiserror::Error;
use warren_proto::convert::{
    error::ApiError,
    reason::{Reason, Retry},
};

use crate::address::AddressError;

/// The few kinds of errors that a program may want to tell apart; one per gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No node could be reached, or the node cannot serve now.
    Unavailable,
    /// It took too long; the outcome may be unknown.
    Timeout,
    /// A limit, quota, credit, memory or disk is used up.
    Exhausted,
    /// The queue, exchange or vhost does not exist.
    NotFound,
    /// It cannot be done in the present state.
    Precondition,
    /// Something else changed meanwhile.
    Aborted,
    /// It is there already, in another form.
    AlreadyExists,
    /// The request makes no sense.
    InvalidArgument,
    /// The user may not do this.
    Denied,
    /// The credentials are missing or wrong.
    Unauthenticated,
    /// The server does not have the feature.
    Unsupported,
    /// A fault of the server, or an answer that makes no sense.
    Internal,
    /// The publisher or consumer has ended.
    Closed,
}

/// Whether trying again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// Yes, after this long.
    After(Duration),
    /// Yes, with the same ids: the outcome is unknown.
    WithSameIds,
    /// Once.
    Once,
    /// No: change the request, the credentials or the state first.
    No,
}

/// What a server answered instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}: {message}{}", hint(reason))]
pub struct Refusal {
    /// Kind, from the gRPC code.
    pub kind: ErrorKind,
    /// Stable reason, for example `QUEUE_NOT_FOUND`; the gRPC code's name where the server gave none.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// Whether trying again helps.
    pub retry: RetryAdvice,
}

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("no server address was given: name at least one node as HOST:PORT")]
    NoAddress,
    #[error(
        "cannot reach {addresses}: {cause}; check that the nodes run and that the addresses are their client (gRPC) addresses"
    )]
    Unreachable { addresses: String, cause: String },
    #[error(
        "{operation} was not answered within {waited_ms} ms; the cluster may be without a majority, see `warren cluster status`"
    )]
    Timeout {
        operation: &'static str,
        waited_ms: u64,
    },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the server's answer to {operation} makes no sense: {detail}")]
    BadAnswer {
        operation: &'static str,
        detail: String,
    },
    #[error("{what} has ended{}", because(cause))]
    Closed {
        what: &'static str,
        /// What ended it; none when it was closed by its owner.
        cause: Option<Box<Error>>,
    },
}

impl Error {
    /// The kind of error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address(_) | Self::NoAddress => ErrorKind::InvalidArgument,
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Refused(refusal) => refusal.kind,
            Self::BadAnswer { .. } => ErrorKind::Internal,
            Self::Closed { cause, .. } => cause.as_ref().map_or(ErrorKind::Closed, |it| it.kind()),
        }
    }

    /// The stable reason, if a server gave one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.reason),
            Self::Closed { cause, .. } => cause.as_ref().and_then(|it| it.reason()),
            Self::Address(_)
            | Self::NoAddress
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::BadAnswer { .. } => None,
        }
    }

    /// Whether another node, or the same one a little later, may well answer.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Refused(refusal) => refusal.is_transient(),
            Self::Address(_) | Self::NoAddress | Self::BadAnswer { .. } | Self::Closed { .. } => {
                false
            }
        }
    }

    /// After which time the server wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            Self::Address(_)
            | Self::NoAddress
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::BadAnswer { .. }
            | Self::Closed { .. } => None,
        }
    }
}

impl Refusal {
    /// The refusal in a call's status.
    pub(crate) fn from_call(status: &tonic::Status) -> Self {
        match ApiError::from_tonic(status) {
            Some(error) => Self::from_api(&error),
            None => Self::from_code(status.code(), status.message()),
        }
    }

    /// The refusal in an in-band status.
    pub(crate) fn from_in_band(status: Option<&warren_proto::google_rpc::Status>) -> Self {
        let Some(status) = status else {
            return Self {
                kind: ErrorKind::Internal,
                reason: "INTERNAL".to_owned(),
                message: "refused without a reason".to_owned(),
                retry: RetryAdvice::No,
            };
        };
        match ApiError::from_status(status) {
            Some(error) => Self::from_api(&error),
            None => Self::from_code(tonic::Code::from(status.code), &status.message),
        }
    }

    fn from_api(error: &ApiError) -> Self {
        let reason = error.reason();
        Self {
            kind: kind_of(reason.code()),
            reason: reason.as_str().to_owned(),
            message: error.message().to_owned(),
            retry: match reason.retry() {
                Retry::AfterDelay => RetryAdvice::After(error.retry_delay().unwrap_or_default()),
                Retry::WithSameIds => RetryAdvice::WithSameIds,
                Retry::Once => RetryAdvice::Once,
                Retry::AfterReread | Retry::AfterRenewal | Retry::No => RetryAdvice::No,
            },
        }
    }

    /// For a status without one of our reasons: of the transport (a connection that broke has many codes), or of a newer
    /// server.
    fn from_code(code: tonic::Code, message: &str) -> Self {
        use tonic::Code;
        let of_transport = [
            Code::Unknown,
            Code::Internal,
            Code::Cancelled,
            Code::DataLoss,
        ];
        let kind = if of_transport.contains(&code) {
            ErrorKind::Unavailable
        } else {
            kind_of(code)
        };
        let retry = match kind {
            ErrorKind::Unavailable => RetryAdvice::After(Duration::ZERO),
            ErrorKind::Timeout => RetryAdvice::WithSameIds,
            ErrorKind::Exhausted
            | ErrorKind::NotFound
            | ErrorKind::Precondition
            | ErrorKind::Aborted
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidArgument
            | ErrorKind::Denied
            | ErrorKind::Unauthenticated
            | ErrorKind::Unsupported
            | ErrorKind::Internal
            | ErrorKind::Closed => RetryAdvice::No,
        };
        Self {
            kind,
            reason: format!("{code:?}"),
            message: message.to_owned(),
            retry,
        }
    }

    /// Another node, or this one a little later, may do it: nothing about the request is wrong.
    pub(crate) fn is_transient(&self) -> bool {
        match Reason::parse(&self.reason) {
            Some(
                Reason::NotReady
                | Reason::NoQuorum
                | Reason::LeaderChanged
                | Reason::NodeDraining
                | Reason::DepthUnknown
                | Reason::OutcomeUnknown
                | Reason::NotStarted
                | Reason::OverCredit
                | Reason::MemoryLow
                | Reason::DiskLow,
            ) => true,
            Some(_) => false,
            None => matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout),
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self.retry {
            RetryAdvice::After(delay) => Some(delay),
            RetryAdvice::WithSameIds | RetryAdvice::Once | RetryAdvice::No => None,
        }
    }
}

fn kind_of(code: tonic::Code) -> ErrorKind {
    use tonic::Code;
    match code {
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Timeout,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        Code::NotFound => ErrorKind::NotFound,
        Code::FailedPrecondition => ErrorKind::Precondition,
        Code::Aborted => ErrorKind::Aborted,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::PermissionDenied => ErrorKind::Denied,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorKind::Internal,
    }
}

/// What to do about it, where the reason alone tells.
fn hint(reason: &str) -> &'static str {
    match Reason::parse(reason) {
        Some(Reason::QueueNotFound) => " (declare it: warren queue declare NAME)",
        Some(Reason::ExchangeNotFound) => " (declare it: warren exchange declare NAME)",
        Some(Reason::Unroutable) => " (bind a queue to the exchange with this routing key)",
        Some(Reason::InequivalentArgument) => " (use the same settings, or delete it first)",
        Some(Reason::NotReady | Reason::NoQuorum) => " (see: warren cluster status)",
        _ => "",
    }
}

fn because(cause: &Option<Box<Error>>) -> String {
    cause
        .as_ref()
        .map_or_else(String::new, |it| format!(": {it}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_every_reason_keeps_its_name_and_advice() {
        for reason in Reason::ALL {
            let status = tonic::Status::from(ApiError::new(*reason, "text"));
            let refusal = Refusal::from_call(&status);
            assert_eq!(refusal.reason, reason.as_str());
            assert_eq!(refusal.kind, kind_of(reason.code()));
            let later = matches!(refusal.retry, RetryAdvice::After(delay) if !delay.is_zero());
            assert_eq!(later, reason.retry() == Retry::AfterDelay, "{reason:?}");
            let in_band = ApiError::new(*reason, "text").to_status();
            assert_eq!(Refusal::from_in_band(Some(&in_band)), refusal);
        }
    }

    #[test]
    fn refusal_without_a_reason_of_ours_falls_back_to_the_code() {
        let refusal = Refusal::from_call(&tonic::Status::unavailable("connection refused"));
        assert_eq!(refusal.kind, ErrorKind::Unavailable);
        assert_eq!(refusal.reason, "Unavailable");
        assert!(refusal.is_transient());
        assert!(!Refusal::from_in_band(None).is_transient());
    }

    #[test]
    fn error_text_says_what_to_do() {
        let api = ApiError::new(Reason::QueueNotFound, "no queue 'q' in vhost '/'");
        let text = Error::from(Refusal::from_call(&api.into())).to_string();
        assert!(text.contains("warren queue declare"), "{text}");
    }
}
