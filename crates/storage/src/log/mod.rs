//! The log: what it promises (`contract`), the engine that nodes use (`segments`), and the one on RocksDB (`rocks`) that it is
//! compared with. Not here: applied state (`state`).

mod acked;
mod contract;
pub(crate) mod direct;
mod disk;
mod options;
mod rocks;
mod segments;
mod tail;
#[cfg(test)]
mod test_disk;
#[cfg(test)]
pub(crate) mod tests;

pub use contract::{
    Done, Durable, GroupLog, GroupLogState, LogEngine, LogError, LogRecord, LogSpace,
};
pub use options::{LogDamage, LogOptions, LogStats, ScrubView};
pub use rocks::RocksLog;
pub use segments::{DumpedGroup, SegmentLog};
pub(crate) use segments::{dump as dump_segments, verify as verify_segments};
