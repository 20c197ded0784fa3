//! Log engine and applied state on disk; the only crate that names RocksDB. Speaks bytes: not here: Raft's rules (`warren-raft`), what the bytes mean (`warren-codec`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod damaged;
mod data_dir;
mod disk_space;
mod files;
mod log;
mod manifest;
mod recoveries;
mod set_aside;
mod state;
#[cfg(test)]
mod test_files;
mod verify;

pub use damaged::Damaged;
pub use data_dir::{DataDir, DataDirError, DiskId, FORMAT_VERSION, LogEngineKind};
pub use disk_space::{DiskSpace, disk_space, free_bytes};
pub use log::{
    Done, DumpedGroup, Durable, GroupLog, GroupLogState, LogDamage, LogEngine, LogError,
    LogOptions, LogRecord, LogSpace, LogStats, RocksLog, ScrubView, SegmentLog,
};
pub use recoveries::{KeptGroup, RecoveryRecord};
pub use set_aside::{AsideReplica, SetAside};
pub use state::{
    Installer, ReplicaState, RowBatch, RowsLife, SnapshotChunks, StateError, StateOptions,
    StateSnapshot, StateStore, Table,
};
pub use verify::{DumpError, Finding, Grade, Verified, dump_log, verify};
