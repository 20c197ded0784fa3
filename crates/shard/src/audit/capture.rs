//! A replica's rows as they were when it had applied an audit's entry: a snapshot of what is on disk, and the changes over it that
//! are not written yet. Nothing is written for it. Not here: reading them (`digest`).

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use warren_codec::AuditPlace;
use warren_queue::rows::{Row, RowKey};
use warren_storage::{ReplicaState, StateSnapshot};
use warren_types::{LogIndex, QueueId, Term};

/// Which audit: terms have one leader, and it counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct AuditId {
    pub(crate) term: Term,
    pub(crate) number: u64,
}

/// Frozen rows.
pub(crate) struct Captured {
    pub(crate) id: AuditId,
    pub(crate) index: LogIndex,
    pub(crate) place: AuditPlace,
    pub(crate) frozen: Frozen,
}

/// Rows of one moment. Holds back what RocksDB would drop, so not for long.
pub(crate) struct Frozen {
    pub(crate) state: ReplicaState,
    pub(crate) snapshot: StateSnapshot,
    /// Rows that are on disk otherwise, or not at all; `None`: deleted.
    pub(crate) changed: Vec<(RowKey, Option<Row>)>,
    /// Queues of which no row on disk counts but their own.
    pub(crate) dropped: BTreeSet<QueueId>,
}

/// Where the apply thread leaves what it froze. One waits at most: an audit for which there is no room is not answered by this replica.
pub(crate) type Captures = mpsc::Sender<Captured>;

pub(crate) fn captures() -> (Captures, mpsc::Receiver<Captured>) {
    mpsc::channel(1)
}
