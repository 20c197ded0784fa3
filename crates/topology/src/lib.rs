//! The pure control plane: cluster members, shard placement, vhosts, exchanges, queues, bindings; `apply` and `route`.
//! Not here: IO, clocks, randomness, formats (`codec`), what a queue holds (`queue`), who may do what (later, beside this).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod apply;
mod arguments;
mod binding;
mod cluster;
mod command;
mod exchange;
mod maps;
mod parts;
mod placement;
mod queue;
mod reply;
mod route;
mod settings;
mod topology;
mod vhost;

pub use binding::{Binding, BindingKey, Destination};
pub use cluster::{Addresses, Cluster, Node};
pub use command::{
    Bind, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue, FormCluster, NewQueueName,
    TopologyCommand, Unbind, UpdateNode,
};
pub use exchange::{Exchange, ExchangeKind, UnknownExchangeType};
pub use parts::{PartsError, TopologyParts};
pub use placement::Placement;
pub use queue::{Queue, QueueOwner, QueueType};
pub use reply::{ClusterFault, Declared, ObjectKind, Refusal, TopologyReply};
pub use route::{RouteError, Target, Targets};
pub use topology::Topology;
pub use vhost::Vhost;
