//! Applied state: rows per replica in one RocksDB without WAL, its snapshots and their installation. API first; the bodies follow in the next change.

mod contract;
pub use contract::{RowBatch, Table};

use std::{ops::ControlFlow, path::Path, sync::Arc};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;
use warren_types::{GroupId, ReplicaId};

#[derive(Clone, Debug)]
pub struct StateOptions {
    /// All memtables together; counted inside `block_cache_bytes`' cache.
    pub write_buffer_bytes: usize,
    pub block_cache_bytes: usize,
    /// Values of this size and more go to blob files.
    pub blob_bytes_min: u64,
    /// `sync` of background IO etc.
    pub background_jobs: i32,
}

#[derive(Debug, Clone, Error)]
pub enum StateError {
    #[error("state store failed: {0}")]
    Failed(Arc<str>),
    #[error("state store is closed")]
    Closed,
    #[error("state is damaged: {0}")]
    Damaged(Arc<str>),
    #[error("state of group {group} belongs to replica {found}, not {expected}")]
    WrongReplica {
        group: GroupId,
        found: ReplicaId,
        expected: ReplicaId,
    },
    #[error("snapshot chunk is damaged: {0}")]
    BadChunk(Arc<str>),
}

/// The node's applied state (cheap clone). All calls block on disk: never from a runtime thread.
#[derive(Clone)]
pub struct StateStore {}

impl StateStore {
    pub fn open(dir: &Path, options: StateOptions) -> Result<Self, StateError> {
        unimplemented!("follows")
    }
    /// Opens (or creates, empty) the rows of `group` for `replica`. Repeatable; handles of one group share what they know.
    pub fn replica(&self, group: GroupId, replica: ReplicaId) -> Result<ReplicaState, StateError> {
        unimplemented!("follows")
    }
    /// Makes everything written before the call durable, atomically over all tables of all groups.
    pub fn flush(&self) -> Result<(), StateError> {
        unimplemented!("follows")
    }
    /// Removes a group's rows for good; durable when it returns.
    pub fn remove_group(&self, group: GroupId) -> Result<(), StateError> {
        unimplemented!("follows")
    }
    /// `Some(cause)` once a write or flush failed: the process must exit.
    pub fn failed(&self) -> watch::Receiver<Option<Arc<str>>> {
        unimplemented!("follows")
    }
    /// Flushes and closes; later calls of any handle fail with `Closed`.
    pub fn close(&self) -> Result<(), StateError> {
        unimplemented!("follows")
    }
}

/// One replica's rows (cheap clone). Writes come from one thread at a time.
#[derive(Clone)]
pub struct ReplicaState {}

impl ReplicaState {
    pub fn group(&self) -> GroupId {
        unimplemented!("follows")
    }
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        unimplemented!("follows")
    }
    /// Visits rows of `[from, to)` in key order until `visit` breaks.
    pub fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        unimplemented!("follows")
    }
    /// Same, from the end backwards.
    pub fn scan_back(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        unimplemented!("follows")
    }
    /// Writes `rows` and `meta` (applied log id and membership, opaque here) as one atomic batch.
    pub fn write(&self, rows: RowBatch, meta: Bytes) -> Result<(), StateError> {
        unimplemented!("follows")
    }
    /// Meta of the last write (or install).
    pub fn meta(&self) -> Option<Bytes> {
        unimplemented!("follows")
    }
    /// Meta that is surely on disk: as of the last completed flush (a lower bound), at open as read.
    pub fn durable_meta(&self) -> Option<Bytes> {
        unimplemented!("follows")
    }
    /// Meta with which a snapshot was last installed, if this replica's rows came from one (explains a log that ends before it: I4).
    pub fn installed_meta(&self) -> Option<Bytes> {
        unimplemented!("follows")
    }
    /// O(1): rows and meta as they are now.
    pub fn snapshot(&self) -> Result<StateSnapshot, StateError> {
        unimplemented!("follows")
    }
    /// Receives a snapshot for this replica beside its rows; nothing changes until `finish`.
    pub fn installer(&self) -> Result<Installer, StateError> {
        unimplemented!("follows")
    }
}

/// A frozen view of one replica. Send + Sync + 'static.
pub struct StateSnapshot {}

impl StateSnapshot {
    /// The meta that matches these rows exactly.
    pub fn meta(&self) -> Option<&Bytes> {
        unimplemented!("follows")
    }
    /// Serialised rows, each chunk checksummed and of about `bytes_max` bytes (a larger row goes alone). Blocking iterator, Send + 'static; several may run.
    pub fn chunks(self: &Arc<Self>, bytes_max: usize) -> SnapshotChunks {
        unimplemented!("follows")
    } // Iterator<Item = Result<Bytes, StateError>>
}

pub struct SnapshotChunks {}

/// Receives chunks in order. Dropped unfinished: leaves nothing behind.
pub struct Installer {}

impl Installer {
    pub fn chunk(&mut self, chunk: &Bytes) -> Result<(), StateError> {
        unimplemented!("follows")
    }
    /// Replaces the replica's rows and meta atomically; durable when it returns. Must not overlap with `write` of the same replica.
    pub fn finish(self, meta: Bytes) -> Result<(), StateError> {
        unimplemented!("follows")
    }
}

impl Iterator for SnapshotChunks {
    type Item = Result<Bytes, StateError>;
    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!("follows")
    }
}
