//! Single calls: queues, exchanges, bindings, the cluster, and messages without a stream. Values are plain; the wire stays
//! inside. Each call is tried on one node after the other until its deadline. Not here: streams.

mod binding;
mod cluster;
mod copies;
mod dead_letters;
mod definitions;
mod exchange;
mod job;
mod messages;
mod peek;
mod policy;
mod queue;
mod redrive;
mod schedule;
mod selection;
mod user;
mod vhost;
mod watch;

use std::time::SystemTime;

use prost_types::Timestamp;
use tonic::transport::Channel;
use warren_proto::{
    admin_v1::operation_service_client::OperationServiceClient,
    admin_v1::topology_service_client::TopologyServiceClient,
    admin_v1::user_service_client::UserServiceClient,
    cluster_v1::cluster_service_client::ClusterServiceClient,
    convert::value::{table_from_client, table_to_client},
    v1,
};
use warren_types::Table;

use crate::{
    connection::{Attempt, DECODE_BYTES_MAX},
    error::Error,
};

pub use binding::{Binding, BindingDestination, BindingFilter};
pub use cluster::{
    Cluster, ClusterNode, ClusterShard, KeptGroup, NodeState, Recovery, Replica, ReplicaRole,
};
pub use copies::{CopiesChange, CopiesMode, CopiesOf};
pub use dead_letters::{AttemptRecord, DeadLetter, DeadLetterOptions, DeadLetterPage};
pub use definitions::Import;
pub use exchange::Exchange;
pub use job::{Job, JobList, JobState};
pub use messages::{ReceiveOptions, Received};
pub use peek::{PeekOptions, PeekState, Peeked, PeekedPage};
pub use policy::{EffectiveSetting, Policy, PolicySubject, PolicyTarget};
pub use queue::{PriorityStats, Queue, QueueDeletion, QueueDetails, QueueSpec, QueueStats};
pub use redrive::{RedriveOptions, Redriven};
pub use schedule::Cancellation;
pub use selection::SelectionOptions;
pub use user::{Permission, TopicPermission, User, UserChange, WhoAmI};
pub use vhost::{Vhost, VhostLimits};
pub use watch::{QueueRound, QueueWatch};

/// Entries asked for at once.
const PAGE_SIZE: u32 = 1000;

impl Attempt {
    fn topology(&self) -> TopologyServiceClient<Channel> {
        TopologyServiceClient::new(self.channel.clone()).max_decoding_message_size(DECODE_BYTES_MAX)
    }

    fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel.clone())
    }

    fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel.clone())
    }

    fn operations(&self) -> OperationServiceClient<Channel> {
        OperationServiceClient::new(self.channel.clone())
    }
}

fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn wire_table(table: &Table) -> Option<v1::Table> {
    (!table.is_empty())
        .then(|| table_to_client(table))
        .flatten()
}

fn plain_table(operation: &'static str, table: Option<v1::Table>) -> Result<Table, Error> {
    let table = table_from_client(table.unwrap_or_default());
    table.map_err(|error| Error::BadAnswer {
        operation,
        detail: error.to_string(),
    })
}

fn plain_time(time: Option<Timestamp>) -> Option<SystemTime> {
    time.and_then(|it| SystemTime::try_from(it).ok())
}

/// A field the server must set.
fn present<T>(operation: &'static str, field: Option<T>) -> Result<T, Error> {
    field.ok_or_else(|| Error::BadAnswer {
        operation,
        detail: "a field is missing".to_owned(),
    })
}

fn vhost_or_default(name: String) -> String {
    if name.is_empty() {
        "/".to_owned()
    } else {
        name
    }
}
