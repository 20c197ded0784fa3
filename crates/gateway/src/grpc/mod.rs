//! The gRPC front: one server for the client services, health and reflection. Not here: what calls do (one file per call).

// Errors are built when something fails, and their way is short; a status of tonic is no smaller.
#![allow(clippy::result_large_err)]

mod attempts;
mod batch;
mod cluster;
mod cluster_view;
mod confirms;
mod connection;
mod consume;
mod consumer_credit;
mod copies;
mod dead_letters;
mod deadline;
mod deliveries;
mod entry;
mod error;
mod filter;
mod held;
mod leases;
mod login;
mod messaging;
mod named_errors;
mod open;
mod operations;
mod outputs;
mod outputs_first;
mod peek;
mod permit;
mod policies;
mod publish_credit;
mod publish_open;
mod publish_pause;
mod publish_stream;
mod publish_unary;
mod quorum;
mod receipt;
mod receive;
mod redrive;
mod redrive_job;
mod resume;
mod schedule;
mod server;
mod settle;
mod settle_plan;
mod streams;
mod topology;
mod users;

pub(crate) use attempts::answer as answer_attempt;
pub(crate) use leases::Leases;
pub(crate) use resume::Parked;
pub use server::{ServeError, serve_grpc};
