//! What a log engine promises, whatever it is built on. Not here: any engine (`segments`, `rocks`), Raft's rules (`warren-raft`).
//!
//! One engine per data disk is shared by all groups of the node: one writer, one sync for what all groups queued meanwhile.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Vote};

use super::options::{LogStats, ScrubView};

/// One entry as the log keeps it: its id, and its encoding, which the engine does not look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub id: LogId,
    pub bytes: Bytes,
}

/// What is known of a group's log when it is opened, and afterwards. `last` equals `purged` when the log is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLogState {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
}

/// How far a group's log is on disk. Truncation lowers it before `truncate_after` returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    pub last: Option<LogId>,
    /// The engine failed: nothing more will become durable.
    pub poisoned: bool,
}

/// Why the log refuses. Every variant is final for the engine: an fsync is never retried.
#[derive(Debug, Clone, Error)]
pub enum LogError {
    #[error("log engine failed: {0}")]
    Failed(Arc<str>),
    /// Told at the opening only, with file and offset: nothing that is there can be used.
    #[error("log is damaged: {0}")]
    Corrupt(Arc<str>),
    #[error("log engine is closed")]
    Closed,
    #[error("group {group} log is damaged: {detail}")]
    Damaged { group: GroupId, detail: Arc<str> },
    /// The system did not give what is there; it may another time.
    #[error("group {group} log was not read: {detail}")]
    Unread { group: GroupId, detail: Arc<str> },
    #[error("group {group} log belongs to replica {found}, not {expected}")]
    WrongReplica {
        group: GroupId,
        found: ReplicaId,
        expected: ReplicaId,
    },
}

/// How much room the log has, in bytes. While it is low nothing should be taken on that only adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSpace {
    /// Taken by the log's files, spare ones too.
    pub used_bytes: u64,
    /// Left on the file system.
    pub free_bytes: u64,
    /// Less is left than should be, or the disk refused to give more.
    pub is_low: bool,
}

/// Called once, when what it was given with is on disk (`Ok`) or never will be. Runs on the engine's writer thread: must not block.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// All groups' logs on one disk.
pub trait LogEngine: Send + Sync {
    /// Opens (or creates) the log of `group` for `replica`. The same group may be opened once at a time.
    ///
    /// # Errors
    /// [`LogError::WrongReplica`] if the log was written by another replica id: it must never vote for this one.
    fn open_group(&self, group: GroupId, replica: ReplicaId)
    -> Result<Arc<dyn GroupLog>, LogError>;

    /// Removes a group's log for good (its replica left the group).
    fn remove_group(&self, group: GroupId, done: Done);

    /// Follows the engine's failure: once it is `Some(cause)` the process must exit, an fsync is never retried.
    fn failed(&self) -> watch::Receiver<Option<Arc<str>>>;

    /// What the engine has done since it was opened.
    fn stats(&self) -> LogStats;

    /// What reading what is written no more has brought. An engine that does not read it has nothing to tell.
    fn scrub(&self) -> ScrubView {
        ScrubView::default()
    }

    /// What the log takes of its disk and what is left there.
    ///
    /// # Errors
    /// The system's, if the disk cannot be asked.
    fn space(&self) -> io::Result<LogSpace>;

    /// Stops the writer after everything queued is on disk.
    fn close(&self);
}

/// One group's log. Calls for one group come from one task, in order; votes, appends and truncations keep that order on disk.
pub trait GroupLog: Send + Sync {
    fn state(&self) -> GroupLogState;

    /// Adds entries that follow `last` without a gap. They are readable when this returns; `done` is called when they are on disk.
    fn append(&self, records: Vec<LogRecord>, done: Done);

    /// `done` is called when the vote is on disk; `state()` shows it only then.
    fn save_vote(&self, vote: Vote, done: Done);

    /// Removes everything after `last_kept` (`None`: everything). Needs no sync of its own, only order.
    fn truncate_after(&self, last_kept: Option<LogId>);

    /// Remembers the commit index. Not synced on its own.
    fn save_committed(&self, committed: Option<LogId>);

    /// Forgets entries up to and including `upto`. Not synced on its own. `upto` may lie beyond `last` (after a snapshot install).
    fn purge(&self, upto: LogId);

    /// Entries of `range` that exist, in order, at least one if the first exists, then no more than `bytes_max` bytes in all.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if a record does not match its checksum; [`LogError::Unread`] if the system fails.
    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<LogRecord>, LogError>;

    /// Log id of one entry, without its bytes where the engine can.
    fn log_id(&self, index: LogIndex) -> Result<Option<LogId>, LogError>;

    /// The first of the newest entries that take at most about so many bytes together; the one behind the last if the last takes more.
    /// An engine that does not know their sizes names the first of all.
    fn newest_within(&self, bytes: u64) -> LogIndex {
        let _sizes_are_not_known = bytes;
        LogIndex(0)
    }

    /// What is wrong with entries that are still needed, as far as reads and the scrub have found, in words.
    fn damage(&self) -> Option<Arc<str>> {
        None
    }

    /// Follows how far the log is on disk.
    fn durable(&self) -> watch::Receiver<Durable>;
}
