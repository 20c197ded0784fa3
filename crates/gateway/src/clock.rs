//! The wall clock, for times that clients are told and for absolute schedules. Not here: shard time (`shard`), deadlines (monotonic).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch on this node's wall clock; the one place of this crate that reads it.
#[must_use]
pub(crate) fn wall_clock_ms() -> u64 {
    millis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// Whole milliseconds.
#[must_use]
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
