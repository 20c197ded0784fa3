//! One replica at work: its handle (`handle`), the queue of proposals (`proposer`), and who keeps it alive (`supervisor`).

mod early;
mod handle;
mod lease;
mod membership;
mod open;
mod proposer;
mod shared;
mod supervisor;
mod transfer;

pub use handle::{
    FollowerStatus, Group, GroupStatus, ProposeError, ReadError, ReplicaHealth, Role,
};
pub(crate) use membership::voters_map;
pub use membership::{OtherMembers, ReconfigureError};
pub use open::{GroupSpec, OpenError};
pub use transfer::TransferError;

pub(crate) use early::watch_for_gone_leaders;
pub(crate) use open::Parts;
pub(crate) use shared::{RaftOf, Shared};
pub(crate) use supervisor::Replica;
