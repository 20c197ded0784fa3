//! What `server` measures of the process and its disk. Not here: measuring, showing (`metrics`).

use std::time::Duration;

use warren_types::Alarms;

/// One look at the process. A figure the system does not tell is `None`, never 0 instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    pub resident_bytes: Option<u64>,
    /// What the container or the machine gives to this process.
    pub memory_bytes: Option<u64>,
    /// Above it the memory alarm is raised.
    pub memory_watermark_bytes: Option<u64>,
    pub disk_free_bytes: Option<u64>,
    /// Below it the disk alarm is raised.
    pub disk_watermark_bytes: Option<u64>,
    pub alarms: Alarms,
    pub fds_open: Option<u64>,
    pub fds_max: Option<u64>,
    /// User and system time.
    pub cpu: Option<Duration>,
    pub log_syncs: u64,
    pub log_batches: u64,
    pub log_records: u64,
    pub log_bytes: u64,
    pub log_scrubbed_bytes: u64,
    pub log_damage_found: u64,
    /// Those that are there still.
    pub log_damaged_files: u64,
}
