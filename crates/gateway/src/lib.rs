//! Client sessions over gRPC and AMQP: services, admission, routing of what is published, outboxes, errors as clients see them.
//! Not here: replicas and leaders (`shard`), the rules of the topology (`topology`), wire formats (`proto`, `amqp`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod admission;
mod alarms;
mod amqp;
mod auth;
mod ceilings;
mod clock;
mod copies;
mod counters;
mod definitions;
mod draining;
mod gateway;
mod grpc;
mod jobs;
mod loading;
mod message;
mod operations;
mod options;
mod places;
mod publish;
mod quota;
mod rates;
mod replies;
mod usage;

pub use alarms::AlarmedNodes;
pub use amqp::serve_amqp;
pub use auth::{FirstUser, FirstUserError, HashError, Password, make_first_user};
pub use ceilings::Ceilings;
pub use counters::{Counter, Counters, FrontCounters};
pub use gateway::Gateway;
pub use grpc::{ServeError, serve_grpc};
pub use loading::{DefinitionsFile, LoadError};
pub use options::{AmqpOptions, GatewayOptions};
