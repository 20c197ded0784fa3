//! The pure control plane: cluster members, shard placement, vhosts, exchanges, queues, bindings, users; `apply`, `route` and
//! the one authorisation table (`access`).
//! Not here: IO, clocks, randomness, formats (`codec`), what a queue holds (`queue`), how passwords are hashed (`gateway`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod access;
mod apply;
mod arguments;
mod binding;
mod cluster;
mod command;
mod dead_letter_queues;
pub mod definitions;
mod delays;
mod exchange;
mod in_force;
mod maps;
mod parameter;
mod parts;
mod pattern;
mod permission;
mod placement;
pub mod plan;
mod policy;
mod queue;
mod reply;
mod route;
mod settings;
mod tenants;
mod topology;
mod user;
mod vhost;

pub use access::{Asker, Denied, Need, Operation, Principal, ResourceKind, Right, Rights};
pub use binding::{Binding, BindingKey, Destination};
pub use cluster::{Addresses, Cluster, Node, Software};
pub use command::{
    AdmitNode, Batch, Bind, BindTo, ClearParameter, ClearPermission, ClearTopicPermission,
    CreateUser, CreateVhost, DeclareExchange, DeclareQueue, DeleteExchange, DeletePolicy,
    DeleteQueue, DeleteUser, DeleteVhost, FinaliseVersion, ForgetNode, FormCluster, MoveReplica,
    NewQueueName, NoteConsumer, PasswordChange, PlacementCommand, PlacementSettled, SetCopies,
    SetLeaving, SetParameter, SetPermission, SetPolicy, SetTopicPermission, SetTopologyVoters,
    SetVhostLimits, TenancyCommand, TopologyCommand, Unbind, UndoMove, UpdateNode, UpdateUser,
    UpdateVhost,
};
pub use dead_letter_queues::dead_letter_queue_of;
pub use exchange::{Exchange, ExchangeKind, UnknownExchangeType};
pub use in_force::{EffectiveSetting, SettingSource};
pub use parameter::{Parameter, ParameterKey};
pub use parts::{PartsError, TopologyParts};
pub use pattern::{Pattern, PatternError};
pub use permission::{Permission, TopicPattern, TopicPermission, TopicVariables};
pub use placement::{Copies, Placement};
pub use policy::{ApplyTo, KeyEffect, Policy, PolicyKind};
pub use queue::{Queue, QueueOwner, QueueType};
pub use reply::{ClusterFault, Declared, ObjectKind, PlacementFault, Refusal, TopologyReply};
pub use route::{Published, RouteError, Target, Targets};
pub use topology::Topology;
pub use user::{PasswordHash, PasswordScheme, User, UserLimits, UserTag};
pub use vhost::{Vhost, VhostLimits, VhostSettings};
