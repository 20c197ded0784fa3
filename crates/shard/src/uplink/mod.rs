//! A node's side of one shard: numbers its publishes, holds its consumers, finds the leader, and attaches everything again
//! after a change of leader. Not here: the leader (`leader`), client protocols (`gateway`).

mod attachments;
pub(crate) mod door;
pub(crate) mod encode;
mod leadership;
mod outputs;
pub(crate) mod pending;
mod questions;
mod state;
pub(crate) mod task;
mod waiting;
mod window;
