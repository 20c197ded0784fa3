//! The pure data plane of one shard, in two parts: `store`, the replicated state that every replica builds from the log, and
//! `dispatch`, the leader's volatile decisions about who gets which message. Not here: IO, clocks, randomness, logging, tasks, bytes on disk.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod attempts;
pub mod death;
pub mod dispatch;
pub mod entry;
pub mod outcome;
pub mod rows;
pub mod store;
