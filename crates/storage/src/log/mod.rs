//! The log: what it promises (`contract`) and the engine on RocksDB (`rocks`). Not here: applied state (`state`).

mod contract;
mod rocks;

pub use contract::{Done, Durable, GroupLog, GroupLogState, LogEngine, LogError, LogRecord};
pub use rocks::{LogOptions, LogStats, RocksLog};
