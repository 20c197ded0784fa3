//! What waits for the writer: one bounded queue for all groups, taken whole. Not here: what the operations do (`writer`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Vote};

use super::group::Group;
use crate::log::contract::{Done, LogError, LogRecord};

/// Counted for an operation beside its records, so that the bound on bytes also bounds their number.
const OPERATION_BYTES: usize = 256;

pub(super) enum Operation {
    Append {
        group: Arc<Group>,
        records: Vec<LogRecord>,
        done: Done,
    },
    Vote {
        group: Arc<Group>,
        vote: Vote,
        done: Done,
    },
    /// Removes `kept + 1 ..= last`.
    Truncate {
        group: Arc<Group>,
        kept: LogIndex,
        last: LogIndex,
    },
    Committed {
        group: Arc<Group>,
        committed: Option<LogId>,
    },
    /// Removes `from ..= upto`.
    Purge {
        group: Arc<Group>,
        from: LogIndex,
        upto: LogId,
    },
    Create {
        group: GroupId,
        replica: ReplicaId,
        done: Done,
    },
    Remove {
        group: GroupId,
        done: Done,
    },
    /// Done when everything queued before it is written.
    Barrier {
        done: Done,
    },
}

impl Operation {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { records, .. } => {
                records
                    .iter()
                    .map(|record| record.bytes.len() + OPERATION_BYTES)
                    .sum::<usize>()
                    + OPERATION_BYTES
            }
            Self::Vote { .. }
            | Self::Truncate { .. }
            | Self::Committed { .. }
            | Self::Purge { .. }
            | Self::Create { .. }
            | Self::Remove { .. }
            | Self::Barrier { .. } => OPERATION_BYTES,
        }
    }

    /// Somebody waits for it. The others keep their order but need not wake the writer.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Append { .. }
            | Self::Vote { .. }
            | Self::Create { .. }
            | Self::Remove { .. }
            | Self::Barrier { .. } => true,
            Self::Truncate { .. } | Self::Committed { .. } | Self::Purge { .. } => false,
        }
    }

    /// It belongs to a group that was removed since: written now, it would stay behind.
    pub(super) fn is_void(&self) -> bool {
        match self {
            Self::Append { group, .. }
            | Self::Vote { group, .. }
            | Self::Truncate { group, .. }
            | Self::Committed { group, .. }
            | Self::Purge { group, .. } => group.is_removed(),
            Self::Create { .. } | Self::Remove { .. } | Self::Barrier { .. } => false,
        }
    }

    /// Its answer waits for the disk, not only for order.
    pub(super) fn needs_sync(&self) -> bool {
        self.is_awaited() && !matches!(self, Self::Barrier { .. })
    }

    /// Answers whoever waits for it.
    pub(super) fn fail(self, error: &LogError) {
        match self {
            Self::Append { done, .. }
            | Self::Vote { done, .. }
            | Self::Create { done, .. }
            | Self::Remove { done, .. }
            | Self::Barrier { done } => done(Err(error.clone())),
            Self::Truncate { .. } | Self::Committed { .. } | Self::Purge { .. } => {}
        }
    }
}

#[derive(Default)]
struct State {
    operations: VecDeque<Operation>,
    bytes: usize,
    awaited: usize,
    closed: Option<LogError>,
}

pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    bytes_max: usize,
}

/// What the writer got; `closed` once nothing more can come.
pub(super) struct Taken {
    pub(super) operations: Vec<Operation>,
    pub(super) closed: bool,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            bytes_max,
        }
    }

    /// Queues an operation. When the queue is full it blocks until the writer has taken some: the disk is then slower than what
    /// admission in front let in, and nothing else would bound memory. Fails an operation that comes after the end.
    pub(super) fn push(&self, operation: Operation) {
        let bytes = operation.bytes();
        let mut state = self.state.lock();
        while state.closed.is_none()
            && !state.operations.is_empty()
            && state.bytes + bytes > self.bytes_max
        {
            self.room.wait(&mut state);
        }
        if let Some(error) = state.closed.clone() {
            drop(state);
            operation.fail(&error);
            return;
        }
        state.bytes += bytes;
        let awaited = operation.is_awaited();
        state.operations.push_back(operation);
        if awaited {
            state.awaited += 1;
            self.work.notify_one();
        } else if state.bytes > self.bytes_max / 2 {
            self.work.notify_one();
        }
    }

    /// Takes what is queued, in order, up to about `bytes_max` bytes. Waits while nobody waits for anything, but not beyond `patience`.
    pub(super) fn take(&self, bytes_max: usize, patience: Duration) -> Taken {
        let mut state = self.state.lock();
        if state.awaited == 0 && state.closed.is_none() {
            self.work.wait_for(&mut state, patience);
        }
        let mut operations = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(operation) = state.operations.pop_front()
        {
            bytes += operation.bytes();
            state.awaited -= usize::from(operation.is_awaited());
            operations.push(operation);
        }
        state.bytes -= bytes;
        let closed = state.closed.is_some() && state.operations.is_empty();
        self.room.notify_all();
        Taken { operations, closed }
    }

    /// Takes no more; what is queued is still taken by the writer. The first cause stays.
    pub(super) fn close(&self, error: LogError) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(error);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Why the queue takes no more, if it does not.
    pub(super) fn closed(&self) -> Option<LogError> {
        self.state.lock().closed.clone()
    }
}
