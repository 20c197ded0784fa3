//! Why a node does not start, or cannot go on. Not here: what is done about it (`node`, `rejoin`, `run`).

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use warren_raft::OpenError;
use warren_shard::BrokerError;
use warren_storage::{DataDirError, LogError, StateError};

use crate::formation::FormationError;
use crate::listeners::ListenError;
use crate::storage::StorageError;

#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Formation(#[from] FormationError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("a step of the start ended early: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl StartError {
    /// What is damaged, if that is why: all that is in the data directory is of no use then.
    pub(crate) fn damage(&self) -> Option<String> {
        let damaged = match self {
            Self::Storage(StorageError::Log { source, .. }) => {
                matches!(source, LogError::Corrupt(_))
            }
            Self::Storage(StorageError::State { source, .. }) => {
                matches!(source, StateError::Damaged(_))
            }
            // The topology's replica; one of a shard is set aside.
            Self::Broker(BrokerError::Open { source, .. }) => is_damage(source),
            Self::DataDir(_)
            | Self::Listen(_)
            | Self::Formation(_)
            | Self::Broker(_)
            | Self::Panicked(_) => false,
        };
        damaged.then(|| with_causes(self))
    }

    /// Whether the start was only interrupted.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Formation(FormationError::Stopped))
    }
}

/// Why a running node cannot go on: the process must exit, at once and not with zero.
#[derive(Clone, Debug, Error)]
pub enum Failure {
    #[error("the {engine} failed: {cause}")]
    Engine {
        engine: &'static str,
        cause: Arc<str>,
    },
    #[error("the topology's replica is damaged: {cause}")]
    Damaged { cause: Arc<str> },
    #[error("the listener for {what} ended: {cause}")]
    Listener { what: &'static str, cause: Arc<str> },
    #[error(transparent)]
    Formation(Arc<FormationError>),
}

/// Whether a replica cannot be opened because what is stored of it is not what was written.
fn is_damage(error: &OpenError) -> bool {
    match error {
        OpenError::Log { source, .. } => matches!(source, LogError::Damaged { .. }),
        OpenError::State { source, .. } => matches!(source, StateError::Damaged(_)),
        OpenError::Damaged { .. } => true,
        OpenError::OpenAlready(_)
        | OpenError::LogTooShort { .. }
        | OpenError::Blank { .. }
        | OpenError::Refused { .. }
        | OpenError::Stopped => false,
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let cause = next.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = next.source();
    }
    text
}

/// The first failure stays: it is the cause of those that follow.
pub(crate) fn fail(failure: &watch::Sender<Option<Failure>>, with: Failure) {
    failure.send_if_modified(|failure| {
        let first = failure.is_none();
        if first {
            *failure = Some(with);
        }
        first
    });
}
