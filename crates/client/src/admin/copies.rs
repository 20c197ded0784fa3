//! How many copies a shard has, and on which nodes: asked for here, done by the cluster, which `Connection::cluster` tells of.

use warren_proto::cluster_v1;

use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// The shard that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopiesOf {
    Shard(u64),
    /// The shard of the queue, with all queues in it.
    Queue {
        vhost: String,
        name: String,
    },
}

/// Whether it is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopiesMode {
    Do,
    /// Only say what would be done.
    DryRun,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiesChange {
    pub shard: u64,
    /// False: it was so already.
    pub changed: bool,
    /// Copies the shard is to have.
    pub wanted_copies: u32,
    /// The nodes of its copies after this change, before the cluster has come to the count by itself.
    pub nodes: Vec<u64>,
    /// Queues in the shard, all of which are changed by it.
    pub queues: u64,
}

/// `(shard, vhost, queue)`, as requests name it.
fn named(of: &CopiesOf) -> (u64, String, String) {
    match of {
        CopiesOf::Shard(shard) => (*shard, String::new(), String::new()),
        CopiesOf::Queue { vhost, name } => (0, vhost.clone(), name.clone()),
    }
}

fn plain(wire: Option<cluster_v1::CopiesChange>) -> CopiesChange {
    let wire = wire.unwrap_or_default();
    CopiesChange {
        shard: wire.shard,
        changed: wire.changed,
        wanted_copies: wire.wanted_copies,
        nodes: wire.node_ids,
        queues: wire.queues,
    }
}

impl Connection {
    /// Adds a copy of a shard on a node. Answered when it has begun; again changes nothing.
    ///
    /// # Errors
    /// It cannot be, or not now; or no node answers in time.
    pub async fn add_replica(
        &self,
        of: &CopiesOf,
        node: u64,
        mode: CopiesMode,
    ) -> Result<CopiesChange, Error> {
        let (shard, vhost, queue) = named(of);
        let request = cluster_v1::AddReplicaRequest {
            shard,
            node_id: node,
            request_id: String::new(),
            vhost,
            queue,
            dry_run: mode == CopiesMode::DryRun,
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.cluster().add_replica(request).await }
        };
        Ok(plain(self.call("adding a copy", call).await?.change))
    }

    /// Removes the copy of a shard on a node. Answered when it has begun; again changes nothing.
    ///
    /// # Errors
    /// It cannot be, or not now; or no node answers in time.
    pub async fn remove_replica(
        &self,
        of: &CopiesOf,
        node: u64,
        mode: CopiesMode,
    ) -> Result<CopiesChange, Error> {
        let (shard, vhost, queue) = named(of);
        let request = cluster_v1::RemoveReplicaRequest {
            shard,
            node_id: node,
            request_id: String::new(),
            vhost,
            queue,
            dry_run: mode == CopiesMode::DryRun,
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.cluster().remove_replica(request).await }
        };
        Ok(plain(self.call("removing a copy", call).await?.change))
    }

    /// Has a shard have so many copies, where the cluster places them; `None`: as its replication factor says. Answered when it has begun;
    /// again changes nothing.
    ///
    /// # Errors
    /// It cannot be, or not now; or no node answers in time.
    pub async fn set_copies(
        &self,
        of: &CopiesOf,
        copies: Option<u32>,
        mode: CopiesMode,
    ) -> Result<CopiesChange, Error> {
        let (shard, vhost, queue) = named(of);
        let request = cluster_v1::SetCopiesRequest {
            shard,
            vhost,
            queue,
            copies: copies.unwrap_or(0),
            dry_run: mode == CopiesMode::DryRun,
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.cluster().set_copies(request).await }
        };
        Ok(plain(self.call("setting copies", call).await?.change))
    }
}
