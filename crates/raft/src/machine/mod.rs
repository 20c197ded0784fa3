//! State machines: what one is (`contract`), the thread they live on (`applier`, `waker`), and how openraft drives them (`adapter`).

mod adapter;
mod applier;
mod contract;
mod waker;

pub(crate) use adapter::{SnapshotData, SnapshotOf, StateMachine};
pub(crate) use applier::{Appliers, ApplyError, OpenSlot};
pub use contract::{Changes, Committed, Machine, MachineError, MachineFactory, damaged};
pub use waker::MachineWaker;
