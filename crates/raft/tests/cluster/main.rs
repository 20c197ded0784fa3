//! Nodes in one process over real loopback connections. One binary, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod common;
mod replication;
mod snapshots;
mod supervision;
mod throughput;
