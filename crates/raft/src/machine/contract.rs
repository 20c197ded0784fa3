//! What a group's state machine is to this crate. Not here: any machine, or the thread it lives on (`applier`).

use bytes::Bytes;
use thiserror::Error;
use warren_storage::{ReplicaState, RowBatch};
use warren_types::LogId;

use super::waker::MachineWaker;

/// One committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub id: LogId,
    pub payload: Bytes,
}

/// The state machine of one group. Lives on an apply thread, never on the runtime: it may block on reads of rows.
///
/// Calls come in this order: any number of `apply` then `applied` pairs, with `give`, `poll` and `restored` between pairs.
/// A panic stops the replica; the supervisor opens it again from what is stored.
///
/// Rows are written without sync, and a crash loses those that were not flushed anyway: the log makes them again. So a machine
/// may keep changes to itself for a while, as long as they are written all together.
pub trait Machine: Send {
    /// Applies a chunk of committed commands in order. A chunk may be empty: only the applied id moves (a leader's blank
    /// entry, a membership change).
    ///
    /// With [`Changes::Given`] the caller writes `rows`, the applied log id and the membership as one batch: with the changes of
    /// every chunk before that were kept. With [`Changes::Kept`] `rows` is untouched, and nothing is written.
    fn apply(&mut self, entries: &[Committed], rows: &mut RowBatch) -> Changes;

    /// The last `apply` is over, and its batch written if there was one: its effects may be published now.
    fn applied(&mut self, applied: LogId);

    /// Adds all changes that were kept to `rows`, which is written as after `apply`.
    fn give(&mut self, rows: &mut RowBatch);

    /// A snapshot was installed: everything held in memory is void and is to be read again through `state`.
    fn restored(&mut self, state: ReplicaState, applied: LogId);

    /// Runs between chunks when the machine's waker was used: requests that need to read state in order with applies.
    fn poll(&mut self);
}

/// What became of the changes of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changes {
    /// They are to be written now.
    Given,
    /// The machine has them, and shows them wherever it reads rows.
    Kept,
}

/// Why a machine could not be made from its rows. Final for the replica.
#[derive(Debug, Error)]
#[error("state machine refuses its rows: {0}")]
pub struct MachineError(pub String);

/// Why a replica's rows cannot be relied on, in words; unwinds from a machine.
pub(crate) struct Damaged(pub(crate) String);

/// Ends a machine whose rows cannot be read, or are not what was written: its replica stops and is known to be damaged.
pub fn damaged(detail: String) -> ! {
    std::panic::resume_unwind(Box::new(Damaged(detail)))
}

/// Makes the machine when a replica is opened, and again after a rebuild. Called on the apply thread.
pub trait MachineFactory: Send + Sync {
    /// `state` reads this replica's rows as of `applied`.
    ///
    /// # Errors
    /// [`MachineError`] if the rows make no sense.
    fn open(
        &self,
        state: ReplicaState,
        waker: MachineWaker,
        applied: Option<LogId>,
    ) -> Result<Box<dyn Machine>, MachineError>;
}
