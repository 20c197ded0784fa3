//! Why the state store refuses. Not here: what its users do about it.

use std::sync::Arc;

use thiserror::Error;
use warren_types::{GroupId, ReplicaId};

#[derive(Debug, Clone, Error)]
pub enum StateError {
    #[error("state store failed: {0}")]
    Failed(Arc<str>),
    #[error("state store is closed")]
    Closed,
    /// The replica was removed while this handle was held.
    #[error("state of group {0} was removed")]
    Removed(GroupId),
    #[error("state is damaged: {0}")]
    Damaged(Arc<str>),
    #[error("state of group {group} belongs to replica {found}, not {expected}")]
    WrongReplica {
        group: GroupId,
        found: ReplicaId,
        expected: ReplicaId,
    },
    #[error("snapshot chunk {number} is refused: {detail}")]
    BadChunk { number: u64, detail: Arc<str> },
}

impl StateError {
    pub(super) fn damaged(detail: impl Into<String>) -> Self {
        Self::Damaged(detail.into().into())
    }
}

impl From<rocksdb::Error> for StateError {
    fn from(error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let text = error.into_string().into();
        if kind == rocksdb::ErrorKind::Corruption {
            Self::Damaged(text)
        } else {
            Self::Failed(text)
        }
    }
}

impl From<std::io::Error> for StateError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string().into())
    }
}
