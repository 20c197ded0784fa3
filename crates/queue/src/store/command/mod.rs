//! One file per command: what it does to the store, and its reply. Not here: their order and their batches (`apply`).

pub(super) mod activate;
pub(super) mod arrived;
pub(super) mod cancel;
pub(super) mod create;
pub(super) mod delete;
pub(super) mod drop_parked;
pub(super) mod enqueue;
pub(super) mod hand_out;
pub(super) mod move_out;
#[cfg(feature = "next-version")]
pub(super) mod note;
pub(super) mod outputs;
pub(super) mod park;
pub(super) mod purge;
pub(super) mod rearm;
pub(super) mod release;
pub(super) mod remark;
pub(super) mod requeue;
pub(super) mod settle;
pub(super) mod settle_together;
pub(super) mod together;
