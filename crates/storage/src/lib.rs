//! Log engine and applied state on disk; the only crate that names RocksDB. Speaks bytes: not here: Raft's rules (`warren-raft`), what the bytes mean (`warren-codec`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod data_dir;
mod files;
mod log;
mod manifest;
mod set_aside;
mod state;
#[cfg(test)]
mod test_files;
mod verify;

pub use data_dir::{
    DataDir, DataDirError, DiskId, DiskSpace, FORMAT_VERSION, LogEngineKind, disk_space, free_bytes,
};
pub use log::{
    Done, DumpedGroup, Durable, GroupLog, GroupLogState, LogEngine, LogError, LogOptions,
    LogRecord, LogSpace, LogStats, RocksLog, SegmentLog,
};
pub use set_aside::{AsideReplica, SetAside};
pub use state::{
    Installer, ReplicaState, RowBatch, RowsLife, SnapshotChunks, StateError, StateOptions,
    StateSnapshot, StateStore, Table,
};
pub use verify::{DumpError, Finding, Grade, Verified, dump_log, verify};
