//! Assembly of one node: configuration, start order, forming the cluster, listeners, telemetry, shutdown.
//! Not here: rules of its own; every decision about messages lies in the crates below.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod clients;
pub mod config;
mod cut;
pub mod data;
mod definitions;
mod failure;
mod first_user;
mod formation;
mod identity;
mod late;
mod listeners;
mod node;
mod node_service;
mod options;
mod pages;
pub mod recover;
mod rejoin;
mod resources;
mod run;
mod storage;
mod telemetry;
mod usage;

pub use failure::{Failure, StartError};
pub use formation::FormationError;
pub use listeners::ListenError;
pub use node::Node;
pub use run::{RunError, run};
