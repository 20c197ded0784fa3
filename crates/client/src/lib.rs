//! The Rust client of Warren: connection, publisher with confirms, consumer stream, administration. Any node serves every
//! call. Not here: the server side, command lines, JSON.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod address;
mod admin;
mod backoff;
mod connection;
mod consumer;
mod error;
mod message;
mod publisher;

pub use address::{AddressError, ServerAddress, parse_addresses};
pub use admin::{
    AttemptRecord, Binding, BindingDestination, BindingFilter, Cancellation, Cluster, ClusterNode,
    ClusterShard, CopiesChange, CopiesMode, CopiesOf, DeadLetter, DeadLetterOptions,
    DeadLetterPage, EffectiveSetting, Exchange, Import, Job, JobList, JobState, KeptGroup,
    NodeState, PeekOptions, PeekState, Peeked, PeekedPage, Permission, Policy, PolicySubject,
    PolicyTarget, PriorityStats, Queue, QueueDeletion, QueueDetails, QueueRound, QueueSpec,
    QueueStats, QueueWatch, ReceiveOptions, Received, Recovery, RedriveOptions, Redriven, Replica,
    ReplicaRole, SelectionOptions, TopicPermission, User, UserChange, Vhost, VhostLimits, WhoAmI,
};
pub use connection::{Connection, ConnectionOptions, Credentials};
pub use consumer::{
    Consumer, ConsumerOptions, Delivery, Disposition, Requeue, SettleOutcome, Settler, Settling,
};
pub use error::{Error, ErrorKind, Refusal, RetryAdvice};
pub use message::{Message, Target};
pub use publisher::{
    Confirm, Outcome, OutcomeSink, Publication, PublishResult, Publisher, PublisherOptions,
    PublisherStats, Room,
};
