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
        let text: Arc<str> = error.into_string().into();
        if kind == rocksdb::ErrorKind::Corruption && !is_no_damage(&text) {
            Self::Damaged(text)
        } else {
            Self::Failed(text)
        }
    }
}

/// What RocksDB calls corruption beside wrong bytes: a file that cannot be got at, and one of later software.
fn is_no_damage(text: &str) -> bool {
    let elsewhere = [
        "IO error",
        "Can't access",
        "No such file",
        "Permission denied",
    ];
    let later = ["Unknown Footer version", "format_version"];
    elsewhere.iter().chain(&later).any(|it| text.contains(it))
}

impl From<std::io::Error> for StateError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string().into())
    }
}
