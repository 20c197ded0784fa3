//! The log engine on RocksDB. API first; the bodies follow in the next change.

use std::path::Path;

use tokio::sync::watch;

use super::contract::LogError;

/// Limits of one engine, in bytes.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Records kept in memory for reads; what is not yet durable is kept beyond it.
    pub tail_cache_bytes: usize,
    /// What may be queued for the writer; beyond it `append` blocks its caller until the disk catches up.
    pub queue_bytes: usize,
    /// RocksDB's own log is switched and its memtables flushed beyond this.
    pub wal_bytes_max: u64,
}

/// What the engine has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    pub syncs: u64,
    pub batches: u64,
    pub bytes_written: u64,
    pub records: u64,
}

/// All groups' logs of one data disk in one RocksDB. Implements `LogEngine`.
pub struct RocksLog {}

impl RocksLog {
    /// Opens or creates the engine in `dir`. Blocking.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Self, LogError> {
        unimplemented!("follows")
    }
    /// `Some(cause)` once a write or sync failed: the process must exit.
    pub fn failed(&self) -> watch::Receiver<Option<std::sync::Arc<str>>> {
        unimplemented!("follows")
    }
    pub fn stats(&self) -> LogStats {
        unimplemented!("follows")
    }
}

impl super::contract::LogEngine for RocksLog {
    fn open_group(
        &self,
        _: warren_types::GroupId,
        _: warren_types::ReplicaId,
    ) -> Result<std::sync::Arc<dyn super::contract::GroupLog>, LogError> {
        unimplemented!("follows")
    }
    fn remove_group(&self, _: warren_types::GroupId, _: super::contract::Done) {
        unimplemented!("follows")
    }
    fn close(&self) {
        unimplemented!("follows")
    }
}
