//! Replicated groups; the only crate that names openraft. Not here: what commands mean (`queue`, `topology`), how a log
//! reaches the disk (`storage`), who dispatches (`shard`).

mod compactor;
mod config;
mod convert;
mod group;
mod log;
mod machine;
mod net;
mod node;
mod options;
#[cfg(test)]
mod suite_test;
mod tasks;

pub use group::{
    FollowerStatus, Group, GroupSpec, GroupStatus, OpenError, OtherMembers, ProposeError,
    ReadError, ReconfigureError, ReplicaHealth, Role, TransferError,
};
pub use machine::{
    Changes, Committed, Machine, MachineError, MachineFactory, MachineWaker, damaged,
};
pub use net::{
    ClusterSecret, HandshakeError, Lane, NodeListener, PeerHealth, PeerIdentity, PeerOptions,
    PeerStream, Peers, RaftService, node_server,
};
pub use node::{InitializeError, RaftNode};
pub use options::{CompactionOptions, RaftOptions, StreamOptions};
