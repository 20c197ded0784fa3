//! Applied state: rows per replica in one RocksDB without WAL, snapshots of them and their installation.
//! Not here: the log (`log`), what rows mean (`warren-codec`), who applies (`warren-raft`).
//!
//! Without a WAL a crash loses what was not flushed. All tables are flushed together, so what is left is the state as of some
//! earlier write of every replica, and the log applies the rest again.

mod chunk;
mod contract;
mod database;
mod deleted;
mod epochs;
mod error;
mod garbage;
mod install;
mod layout;
mod replica;
mod rows_digest;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod verify;

pub use contract::{RowBatch, Table};
pub use database::StateOptions;
pub use error::StateError;
pub use install::Installer;
pub use layout::RowsLife;
pub use replica::ReplicaState;
pub use snapshot::{SnapshotChunks, StateSnapshot};
pub use store::StateStore;
pub(crate) use verify::{group_of_row, verify_epochs, verify_row};
