//! Queues: declare, look at, list, purge, delete. Not here: their messages (`messages`, streams).

use std::time::{Duration, SystemTime};

use warren_proto::{admin_v1, v1};
use warren_types::Table;

use super::{
    PAGE_SIZE, plain_table, plain_time, present, request_id, vhost_or_default, wire_table,
};
use crate::{connection::Connection, error::Error};

/// A queue to declare.
#[derive(Debug, Clone)]
pub struct QueueSpec {
    /// Empty = "/".
    pub vhost: String,
    /// Empty = made by the server.
    pub name: String,
    /// Declared durable; every queue is replicated all the same.
    pub durable: bool,
    /// Deleted when the last of at least one consumers leaves.
    pub auto_delete: bool,
    /// Belongs to this client.
    pub exclusive: bool,
    /// AMQP arguments.
    pub arguments: Table,
    /// Only check that it exists.
    pub passive: bool,
}

impl QueueSpec {
    /// A durable queue without arguments.
    #[must_use]
    pub fn durable(name: &str) -> Self {
        Self {
            vhost: String::new(),
            name: name.to_owned(),
            durable: true,
            auto_delete: false,
            exclusive: false,
            arguments: Table::new(),
            passive: false,
        }
    }
}

/// A queue's definition and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    pub vhost: String,
    pub name: String,
    /// Never reused.
    pub queue_id: u64,
    pub shard: u64,
    pub durable: bool,
    pub auto_delete: bool,
    pub exclusive: bool,
    pub arguments: Table,
    /// Name of the node that leads its shard; empty = not known.
    pub leader: String,
    /// Client endpoint of that node.
    pub leader_endpoint: String,
    /// Term of that leadership.
    pub leader_term: u64,
    /// Names of the nodes with a copy.
    pub replicas: Vec<String>,
    /// Durability class.
    pub durability: String,
    /// The policy in force; empty = none.
    pub policy: String,
    pub created_at: Option<SystemTime>,
}

/// How a queue is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStats {
    pub vhost: String,
    pub queue: String,
    pub ready: u64,
    pub unacked: u64,
    pub scheduled: u64,
    pub delayed: u64,
    pub parked: u64,
    pub dead_lettering: u64,
    pub retained: u64,
    pub bytes: u64,
    pub ready_bytes: u64,
    pub consumers: u32,
    pub oldest_ready_age: Option<Duration>,
    pub published_total: u64,
    pub delivered_total: u64,
    pub redelivered_total: u64,
    pub acked_total: u64,
    pub otherwise_settled_total: u64,
    /// Of these: rejected, expired and dropped for a limit, with nowhere to go.
    pub rejected_total: u64,
    pub expired_total: u64,
    pub dropped_total: u64,
    /// Stored in another queue.
    pub dead_lettered_total: u64,
    pub purged_total: u64,
    /// Not stored, since the queue has them or had them; confirmed all the same.
    pub duplicates_total: u64,
    /// Highest first; only those with messages.
    pub priorities: Vec<PriorityStats>,
    pub taken_at: Option<SystemTime>,
}

/// What a queue holds of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorityStats {
    pub priority: u32,
    /// In whatever state.
    pub messages: u64,
    pub scheduled: u64,
    pub parked: u64,
}

/// Everything about one queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueDetails {
    pub queue: Queue,
    /// None while they are not known, for example during a change of leader.
    pub stats: Option<QueueStats>,
    /// The node that leads it.
    pub leader_node: Option<u64>,
}

/// Conditions of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDeletion {
    /// Refuse (`IN_USE`) while it has consumers.
    pub if_unused: bool,
    /// Refuse (`NOT_EMPTY`) while it has messages.
    pub if_empty: bool,
}

impl Connection {
    /// Declares a queue: one that exists with equal settings is a success.
    ///
    /// # Errors
    /// `INEQUIVALENT_ARGUMENT` if it exists with other settings; no node answers in time.
    pub async fn declare_queue(&self, spec: &QueueSpec) -> Result<Queue, Error> {
        let request = admin_v1::CreateQueueRequest {
            queue: Some(admin_v1::Queue {
                vhost: spec.vhost.clone(),
                name: spec.name.clone(),
                durable: spec.durable,
                auto_delete: spec.auto_delete,
                exclusive: spec.exclusive,
                arguments: wire_table(&spec.arguments),
                owner: if spec.exclusive {
                    self.options().client_id.clone()
                } else {
                    String::new()
                },
                ..admin_v1::Queue::default()
            }),
            passive: spec.passive,
            validate_only: false,
            request_id: request_id(),
        };
        let call = |attempt: crate::connection::Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().create_queue(request).await }
        };
        let response = self.call("declaring a queue", call).await?;
        plain_queue(present("declaring a queue", response.queue)?)
    }

    /// A queue's definition.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time.
    pub async fn queue(&self, vhost: &str, name: &str) -> Result<Queue, Error> {
        let request = admin_v1::GetQueueRequest {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
        };
        let call = |attempt: crate::connection::Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().get_queue(request).await }
        };
        let response = self.call("reading a queue", call).await?;
        plain_queue(present("reading a queue", response.queue)?)
    }

    /// Every queue of a vhost whose name starts so, with its stats where they are known.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn queues(
        &self,
        vhost: &str,
        name_prefix: &str,
    ) -> Result<Vec<(Queue, Option<QueueStats>)>, Error> {
        let request = admin_v1::ListQueuesRequest {
            vhost: vhost.to_owned(),
            page_size: PAGE_SIZE,
            page_token: String::new(),
            name_prefix: name_prefix.to_owned(),
            with_stats: true,
        };
        let call = |attempt: crate::connection::Attempt, page_token: String| {
            let request = attempt.request(admin_v1::ListQueuesRequest {
                page_token,
                ..request.clone()
            });
            async move { attempt.topology().list_queues(request).await }
        };
        let mut list = Vec::new();
        let take = |page: admin_v1::ListQueuesResponse| {
            let mut stats: Vec<QueueStats> = page.stats.into_iter().map(plain_stats).collect();
            for queue in page.queues {
                let queue = plain_queue(queue)?;
                let at = stats.iter().position(|it| it.queue == queue.name);
                let stats = at.map(|it| stats.swap_remove(it));
                list.push((queue, stats));
            }
            Ok(page.next_page_token)
        };
        self.pages("listing queues", call, take).await?;
        Ok(list)
    }

    /// The stats of queues, at most a second old.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; `DEPTH_UNKNOWN` when they are not known in time.
    pub async fn queue_stats(
        &self,
        vhost: &str,
        names: &[String],
    ) -> Result<Vec<QueueStats>, Error> {
        let request = admin_v1::GetQueueStatsRequest {
            vhost: vhost.to_owned(),
            queues: names.to_vec(),
        };
        let call = |attempt: crate::connection::Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().get_queue_stats(request).await }
        };
        let response = self.call("reading queue stats", call).await?;
        Ok(response.stats.into_iter().map(plain_stats).collect())
    }

    /// Definition, stats and leader of a queue. Stats and leader are missing while they are not known.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time.
    pub async fn queue_details(&self, vhost: &str, name: &str) -> Result<QueueDetails, Error> {
        let queue = self.queue(vhost, name).await?;
        let names = [name.to_owned()];
        let (stats, cluster) = tokio::join!(self.queue_stats(vhost, &names), self.cluster());
        let stats = match stats {
            Ok(list) => list.into_iter().next(),
            Err(error) if error.is_transient() => None,
            Err(error) => return Err(error),
        };
        let leader_node = match cluster {
            Ok(cluster) => cluster.leader_of(&queue),
            Err(error) if error.is_transient() => None,
            Err(error) => return Err(error),
        };
        Ok(QueueDetails {
            queue,
            stats,
            leader_node,
        })
    }

    /// Removes the messages that no consumer holds; answers how many.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time.
    pub async fn purge_queue(&self, vhost: &str, name: &str) -> Result<u64, Error> {
        let request = admin_v1::PurgeQueueRequest {
            vhost: vhost.to_owned(),
            queue: name.to_owned(),
            states: Vec::<i32>::new(),
            validate_only: false,
            request_id: request_id(),
            client_id: self.options().client_id.clone(),
        };
        let call = |attempt: crate::connection::Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().purge_queue(request).await }
        };
        Ok(self.call("purging a queue", call).await?.messages)
    }

    /// Deletes a queue with its messages; answers how many. One that does not exist is a success.
    ///
    /// # Errors
    /// `IN_USE`, `NOT_EMPTY` under these conditions; no node answers in time.
    pub async fn delete_queue(
        &self,
        vhost: &str,
        name: &str,
        conditions: QueueDeletion,
    ) -> Result<u64, Error> {
        let request = admin_v1::DeleteQueueRequest {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            if_unused: conditions.if_unused,
            if_empty: conditions.if_empty,
            etag: String::new(),
            validate_only: false,
            request_id: request_id(),
            client_id: self.options().client_id.clone(),
        };
        let call = |attempt: crate::connection::Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().delete_queue(request).await }
        };
        Ok(self.call("deleting a queue", call).await?.messages)
    }
}

fn plain_queue(wire: admin_v1::Queue) -> Result<Queue, Error> {
    let leader: v1::LeaderHint = wire.leader.unwrap_or_default();
    Ok(Queue {
        vhost: vhost_or_default(wire.vhost),
        name: wire.name,
        queue_id: wire.queue_id,
        shard: wire.shard,
        durable: wire.durable,
        auto_delete: wire.auto_delete,
        exclusive: wire.exclusive,
        arguments: plain_table("reading a queue", wire.arguments)?,
        leader: leader.node,
        leader_endpoint: leader.endpoint,
        leader_term: leader.term,
        replicas: wire.replicas,
        durability: wire.durability,
        policy: wire.policy,
        created_at: plain_time(wire.created_at),
    })
}

pub(super) fn plain_stats(wire: admin_v1::QueueStats) -> QueueStats {
    let priorities = wire.priorities.iter().map(|it| PriorityStats {
        priority: it.priority,
        messages: it.messages,
        scheduled: it.scheduled,
        parked: it.parked,
    });
    QueueStats {
        vhost: vhost_or_default(wire.vhost),
        queue: wire.queue,
        ready: wire.ready,
        unacked: wire.unacked,
        scheduled: wire.scheduled,
        delayed: wire.delayed,
        parked: wire.parked,
        dead_lettering: wire.dead_lettering,
        retained: wire.retained,
        bytes: wire.bytes,
        ready_bytes: wire.ready_bytes,
        consumers: wire.consumers,
        oldest_ready_age: wire
            .oldest_ready_age
            .and_then(|it| Duration::try_from(it).ok()),
        published_total: wire.published_total,
        delivered_total: wire.delivered_total,
        redelivered_total: wire.redelivered_total,
        acked_total: wire.acked_total,
        otherwise_settled_total: wire.otherwise_settled_total,
        rejected_total: wire.rejected_total,
        expired_total: wire.expired_total,
        dropped_total: wire.dropped_total,
        dead_lettered_total: wire.dead_lettered_total,
        purged_total: wire.purged_total,
        duplicates_total: wire.duplicates_total,
        priorities: priorities.collect(),
        taken_at: plain_time(wire.taken_at),
    }
}
