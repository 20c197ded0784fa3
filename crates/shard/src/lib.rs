//! One replica at work: the leader's batcher and dispatch, the apply loop, and the links between sessions' nodes and leaders.
//! Not here: client protocols (`gateway`), Raft itself (`raft`), the rules of queues (`queue`) and of the topology (`topology`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod api;
mod attempts;
mod audit;
mod broker;
mod cancel;
mod dead;
mod group;
mod handover;
mod jobs;
mod leader;
mod link;
mod open;
mod order;
mod peek;
mod reaper;
mod redrive;
mod replica;
mod session;
mod surplus;
mod time;
mod topology;
mod uplink;

pub use attempts::AttemptKeeper;
pub use audit::AuditView;
pub use broker::{
    AsideView, Broker, BrokerError, BrokerParts, CopiesError, HandOverError, PlacementOptions,
};
pub use handover::{HandOverRequest, HandedOver, Keeper};
pub use jobs::JobsKeeper;
pub use link::reply::DirectReply;
pub use link::service::LinkService;
pub use order::Awaited;
pub use peek::{Look, PEEK_MESSAGES_MAX, PeekPage, PeekState, Peeked, park_cause};
pub use redrive::{Redrive, RedriveOf, RedriveStep, RedriveTo};
pub use session::Session;
pub use topology::handle::{TopologyError, TopologyHandle};
// What sessions say and hear is dispatch's own vocabulary.
pub use warren_queue::attempts::{ATTEMPTS, ATTEMPTS_MAX};
pub use warren_queue::dispatch::io::{
    AttachResult, ConsumerOptions, Credit, Held, HeldState, Refill, SettleResult,
};
pub use warren_queue::entry::{
    AttemptOutcome, ParkCause, PurgeStates, ReturnKind, Said, SettleReason,
};
pub use warren_queue::rows::SaidAt;
// What a replica says of itself, for those who show it.
pub use warren_raft::{GroupStatus, ReplicaHealth, Role};
