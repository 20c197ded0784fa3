//! The vocabulary: ids, names, limits, message values and properties. Not here: IO, clocks, rules.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

mod alarms;
mod filter;
mod ids;
mod keys;
mod message;
mod names;
mod properties;
mod raft;
mod settings;
mod table;
mod version;

pub use alarms::{Alarm, Alarms, Level, Watermarks};
pub use filter::{FILTER_BYTES_MAX, FILTER_TERMS_MAX, Filter, FilterError, Filtered};
pub use ids::{
    Attempt, BatchSequence, ClusterId, ConsumerId, ExchangeId, Generation, GroupId, Incarnation,
    LogIndex, NodeId, Position, PositionRange, Priority, QueueId, ReplicaId, Run, SessionId,
    ShardId, ShardTime, Term, TopologyIndex, VhostId,
};
pub use keys::{key_hash, mix, stable_hash};
pub use message::{Delivered, Facts, Message, NotStored, ProducerId, ProducerSpan};
pub use names::{
    ExchangeName, NAME_BYTES_MAX, NameError, QueueName, RoutingKey, UserName, VhostName,
};
pub use properties::{Properties, PropertiesBuilder, PropertiesError, Property};
pub use raft::{Leader, Leadership, LogId, Member, Vote};
pub use settings::{
    Backoff, DeadLetter, DeadLetterStrategy, MessageGroups, Overflow, QueueSettings, Retry, RetryOn,
};
pub use table::{Decimal, Float32, Float64, TABLE_DEPTH_MAX, Table, TableError, Value};
pub use version::{ClusterVersion, KnownVersions};
