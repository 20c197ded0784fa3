//! Nodes in one process over real loopback connections. One binary, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod replication;
mod snapshots;
mod throughput;
