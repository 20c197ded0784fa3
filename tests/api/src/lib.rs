//! Helpers of the API tests: raw calls of a node, streams frame by frame, and a client beside them that must notice nothing.
//! Not here: the tests (`tests/`), clusters of processes (`warren-testkit`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod bystander;
mod calls;
mod nodes;
pub mod outputs;
mod streams;

pub use bystander::Bystander;
pub use calls::{Call, in_band, message, number, queue_batch, reason_of, retry_of, runtime, text};
pub use nodes::{FIRST, one_node};
pub use streams::{Consuming, Ended, Publishing};
