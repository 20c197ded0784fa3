//! Log and state of this node, opened and closed together. Not here: what they are (`warren-storage`).

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use tracing::error;
use warren_storage::{
    DataDir, LogEngine, LogEngineKind, LogError, LogOptions, RocksLog, SegmentLog, StateError,
    StateOptions, StateStore,
};

use crate::config::StorageConfig;

/// Of all groups of the node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) log: Arc<dyn LogEngine>,
    pub(crate) state: StateStore,
}

#[derive(Debug, Error)]
pub enum StorageError {
    #[error("the log in {path} cannot be opened: {source}", path = path.display())]
    Log { path: PathBuf, source: LogError },
    #[error("the state in {path} cannot be opened: {source}", path = path.display())]
    State { path: PathBuf, source: StateError },
}

impl Storage {
    /// Blocks on the disk.
    pub(crate) fn open(dir: &DataDir, config: &StorageConfig) -> Result<Self, StorageError> {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let options = LogOptions {
            tail_cache_bytes: bytes(config.log_tail_cache),
            queue_bytes: bytes(config.log_queue),
            wal_bytes_max: config.log_wal_max,
            segment_bytes: config.log_segment,
            direct: config.log_direct,
            log_bytes_max: config.log_size,
            scrub_every: config.log_scrub_every,
            scrub_bytes_per_second: config.log_scrub_rate,
            ..LogOptions::default()
        };
        let path = dir.log_dir();
        let log: Result<Arc<dyn LogEngine>, LogError> = match config.log_engine {
            LogEngineKind::Segments => {
                SegmentLog::open(&path, options).map(|log| Arc::new(log) as _)
            }
            LogEngineKind::Rocks => RocksLog::open(&path, options).map(|log| Arc::new(log) as _),
        };
        let log = log.map_err(|source| StorageError::Log { path, source })?;
        let options = StateOptions {
            write_buffer_bytes: bytes(config.write_buffers),
            block_cache_bytes: bytes(config.block_cache),
            direct: config.state_direct,
            background_jobs: i32::try_from(config.background_jobs).unwrap_or(2),
            ..StateOptions::default()
        };
        let path = dir.state_dir();
        let state = StateStore::open(&path, options)
            .map_err(|source| StorageError::State { path, source })?;
        Ok(Self { log, state })
    }

    /// The two engines' failures; once one is `Some` the process must exit.
    pub(crate) fn failures(&self) -> [(&'static str, watch::Receiver<Option<Arc<str>>>); 2] {
        [
            ("log", self.log.failed()),
            ("state store", self.state.failed()),
        ]
    }

    /// Makes everything durable and closes. Blocks on the disk.
    pub(crate) fn close(&self) {
        if let Err(error) = self.state.close() {
            // The log has what is missing in it.
            error!(%error, "state not flushed");
        }
        self.log.close();
    }
}
