//! A shard's leader: takes frames of all nodes, proposes facts, drives dispatch, tells the nodes what came of it.
//! Not here: applying (`replica`), the nodes' side (`uplink`).

mod acks;
mod away;
mod batcher;
mod batches;
mod cancels;
mod dead_letter;
mod dying;
mod facts;
mod lifecycle;
mod links;
mod mover;
#[cfg(feature = "next-version")]
mod next_note;
mod parked;
mod perform;
mod redrive;
mod rooms;
mod settings;
mod settles;
pub(crate) mod task;
mod work;
