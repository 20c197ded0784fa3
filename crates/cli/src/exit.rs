//! Exit codes, and how a failure is told. Not here: which command fails why.

use std::process::ExitCode;

use anyhow::Result;
use thiserror::Error;
use warren_client::{Error as ClientError, ErrorKind};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNAVAILABLE: u8 = 3;
const NOT_FOUND: u8 = 4;
const PRECONDITION: u8 = 5;
const DENIED: u8 = 6;

/// A failure of the command itself, with its exit code.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Precondition(String),
    /// Everything was said already; only the exit code is left.
    #[error("")]
    Said(u8),
}

impl Failure {
    /// Failed, and everything was said already.
    pub(crate) const SAID_FAILED: Self = Self::Said(FAILED);
    /// Try again, and everything was said already.
    pub(crate) const SAID_UNAVAILABLE: Self = Self::Said(UNAVAILABLE);

    /// Says it now, because something else is to be the last line.
    pub(crate) fn say(error: &anyhow::Error) -> Self {
        tell(error);
        Self::Said(code(error))
    }
}

/// Tells what went wrong, if anything did, and gives the exit code.
pub(crate) fn code_of(result: Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    tell(&error);
    ExitCode::from(code(&error))
}

fn tell(error: &anyhow::Error) {
    let text = format!("{error:#}");
    if !text.is_empty() {
        eprintln!("error: {text}");
    }
}

fn code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return match failure {
            Failure::Failed(_) => FAILED,
            Failure::Usage(_) => USAGE,
            Failure::Unavailable(_) => UNAVAILABLE,
            Failure::NotFound(_) => NOT_FOUND,
            Failure::Precondition(_) => PRECONDITION,
            Failure::Said(code) => *code,
        };
    }
    error
        .downcast_ref::<ClientError>()
        .map_or(FAILED, |it| code_of_kind(it.kind()))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds may grow; a new one is a plain failure"
)]
fn code_of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Exhausted => UNAVAILABLE,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Precondition | ErrorKind::Aborted | ErrorKind::AlreadyExists => PRECONDITION,
        ErrorKind::Denied | ErrorKind::Unauthenticated => DENIED,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_follows_the_kind_of_error() {
        let error = anyhow::Error::from(ClientError::NoAddress).context("connecting");
        assert_eq!(code(&error), FAILED);
        let error = ClientError::Timeout {
            operation: "x",
            waited_ms: 1,
        };
        assert_eq!(code(&error.into()), UNAVAILABLE);
        assert_eq!(code(&Failure::Usage("x".to_owned()).into()), USAGE);
        assert_eq!(code(&Failure::Said(7).into()), 7);
        assert_eq!(code_of_kind(ErrorKind::NotFound), NOT_FOUND);
    }
}
