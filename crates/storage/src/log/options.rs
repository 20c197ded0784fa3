//! What a log engine may use, and what it has done. Not here: the engines.

use std::path::PathBuf;
use std::time::Duration;

use warren_types::GroupId;

/// Limits of one engine, in bytes unless the name says otherwise.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Records kept in memory for reads, over all groups; what is not yet durable is kept beyond it.
    pub tail_cache_bytes: usize,
    /// What may be queued for the writer; beyond it `append` blocks its caller until the disk catches up.
    pub queue_bytes: usize,
    /// RocksDB's own log is switched, and its memtables flushed, beyond this. The engine on RocksDB only.
    pub wal_bytes_max: u64,
    /// Size of a segment as it is allocated. The segmented engine only.
    pub segment_bytes: u64,
    /// Segments are written and read past the page cache, where their file system can.
    pub direct: bool,
    /// Retired segments kept for use again instead of being given back.
    pub spare_segments: usize,
    /// Beyond this the oldest segment is emptied by writing what lives in it again, if that frees space at all.
    pub log_bytes_max: u64,
    /// With less than this left on the file system the engine says that space is low.
    pub free_bytes_min: u64,
    /// Files that are written no more are read and checked this often; zero: never. The segmented engine only, as the next.
    pub scrub_every: Duration,
    pub scrub_bytes_per_second: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            tail_cache_bytes: 64 << 20,
            queue_bytes: 256 << 20,
            wal_bytes_max: 128 << 20,
            segment_bytes: 64 << 20,
            direct: true,
            spare_segments: 1,
            log_bytes_max: 1 << 30,
            free_bytes_min: 512 << 20,
            scrub_every: Duration::from_secs(24 * 3_600),
            scrub_bytes_per_second: 8 << 20,
        }
    }
}

/// What the engine has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    pub syncs: u64,
    pub batches: u64,
    /// Bytes given to the engine's write calls. RocksDB writes each once to its own log and, unless purged first, once more to a table.
    pub bytes_written: u64,
    pub records: u64,
    /// Bytes of live records written again so that an old segment could go.
    pub bytes_rewritten: u64,
}

/// What reading the log in the background has brought since the engine was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubView {
    pub bytes_read: u64,
    pub segments_read: u64,
    /// Files that were found damaged, also those that are gone since.
    pub damage_found: u64,
    /// Those that are there still, oldest first.
    pub damaged: Vec<LogDamage>,
}

/// Damage in one of the log's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    pub path: PathBuf,
    /// Of the first byte from which on something does not match.
    pub offset: u64,
    pub detail: String,
    /// Those that need entries in it which cannot be read.
    pub groups: Vec<GroupId>,
}
