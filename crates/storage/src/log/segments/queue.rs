//! What waits for the writer: one bounded queue for all groups, taken in order. Not here: what the operations do (`batch`, `apply`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use warren_types::{LogId, LogIndex, Vote};

use super::group::Group;
use crate::log::contract::{Done, LogError, LogRecord};

/// Counted for an operation beside its records, so that the bound on bytes also bounds their number.
const OPERATION_BYTES: usize = 256;
const RECORD_BYTES: usize = 64;

pub(super) struct Operation {
    pub(super) group: Arc<Group>,
    pub(super) change: Change,
    /// Whoever waits for it to be on disk. Without, it keeps its order but wakes nobody.
    pub(super) done: Option<Done>,
}

pub(super) enum Change {
    Append(Vec<LogRecord>),
    Vote(Vote),
    /// Removes everything after `kept`; `last` is the log's last id then.
    Truncate {
        kept: LogIndex,
        last: Option<LogId>,
    },
    Committed(Option<LogId>),
    Purge(LogId),
    Create,
    Remove,
}

impl Operation {
    fn bytes(&self) -> usize {
        match &self.change {
            Change::Append(records) => records
                .iter()
                .map(|record| record.bytes.len() + RECORD_BYTES)
                .sum::<usize>(),
            Change::Vote(_)
            | Change::Truncate { .. }
            | Change::Committed(_)
            | Change::Purge(_)
            | Change::Create
            | Change::Remove => 0,
        }
        .saturating_add(OPERATION_BYTES)
    }

    pub(super) fn answer(self, result: Result<(), LogError>) {
        if let Some(done) = self.done {
            done(result);
        }
    }
}

#[derive(Default)]
struct State {
    operations: VecDeque<Operation>,
    bytes: usize,
    awaited: usize,
    /// The writer sleeps until it is woken, whatever comes.
    asleep: bool,
    closed: Option<LogError>,
}

pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
    bytes_max: usize,
}

/// How long the writer may wait while nobody waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// It has work of its own.
    None,
    /// It has something to do later.
    Some(Duration),
    /// It has nothing to do.
    Endless,
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
            operation.answer(Err(error));
            return;
        }
        state.bytes += bytes;
        let awaited = operation.done.is_some();
        state.operations.push_back(operation);
        state.awaited += usize::from(awaited);
        if awaited || state.asleep || state.bytes > self.bytes_max / 2 {
            state.asleep = false;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Takes what is queued, in order, up to about `bytes_max` bytes. Waits while nobody waits for anything.
    pub(super) fn take(&self, bytes_max: usize, patience: Patience) -> Taken {
        let mut state = self.state.lock();
        let idle = state.awaited == 0 && state.closed.is_none();
        match patience {
            Patience::None => {}
            Patience::Some(patience) if idle => {
                self.work.wait_for(&mut state, patience);
            }
            Patience::Endless if idle && state.operations.is_empty() => {
                state.asleep = true;
                self.work.wait(&mut state);
                state.asleep = false;
            }
            Patience::Some(_) | Patience::Endless => {}
        }
        let mut operations = Vec::with_capacity(state.operations.len().min(256));
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(operation) = state.operations.pop_front()
        {
            bytes += operation.bytes();
            state.awaited -= usize::from(operation.done.is_some());
            operations.push(operation);
        }
        state.bytes -= bytes;
        let closed = state.closed.is_some() && state.operations.is_empty();
        drop(state);
        self.room.notify_all();
        Taken { operations, closed }
    }

    /// Takes no more; what is queued is still taken by the writer. The first cause stays.
    pub(super) fn close(&self, error: LogError) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(error);
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Why the queue takes no more, if it does not.
    pub(super) fn closed(&self) -> Option<LogError> {
        self.state.lock().closed.clone()
    }
}
