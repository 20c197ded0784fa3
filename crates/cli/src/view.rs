//! What is printed as JSON: the stable keys of this program's output. Not here: text for people (`command`).

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use warren_client::{
    Binding, BindingDestination, Cluster, ClusterNode, ClusterShard, Exchange, NodeState, Queue,
    QueueDetails, QueueStats, Recovery, ReplicaRole,
};

use crate::arguments;

/// A queue with everything that is known about it.
#[derive(Debug, Serialize)]
pub(crate) struct QueueView {
    pub(crate) name: String,
    pub(crate) vhost: String,
    pub(crate) queue_id: u64,
    pub(crate) shard: u64,
    /// Number of the node that leads it; null while there is none.
    pub(crate) leader_node: Option<u64>,
    pub(crate) leader_endpoint: String,
    pub(crate) leader_term: u64,
    pub(crate) replicas: Vec<String>,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: serde_json::Value,
    pub(crate) durability: String,
    pub(crate) policy: String,
    pub(crate) created_at_ms: Option<u64>,
    #[serde(flatten)]
    pub(crate) stats: StatsView,
}

/// Figures of a queue; null while they are not known, never 0 instead.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StatsView {
    pub(crate) messages: Option<u64>,
    pub(crate) messages_ready: Option<u64>,
    pub(crate) messages_unacked: Option<u64>,
    pub(crate) messages_scheduled: Option<u64>,
    pub(crate) messages_delayed: Option<u64>,
    pub(crate) messages_parked: Option<u64>,
    pub(crate) messages_dead_lettering: Option<u64>,
    pub(crate) messages_retained: Option<u64>,
    pub(crate) message_bytes: Option<u64>,
    pub(crate) message_bytes_ready: Option<u64>,
    pub(crate) consumers: Option<u32>,
    pub(crate) oldest_ready_age_seconds: Option<f64>,
    pub(crate) published_total: Option<u64>,
    pub(crate) delivered_total: Option<u64>,
    pub(crate) redelivered_total: Option<u64>,
    pub(crate) acked_total: Option<u64>,
    pub(crate) otherwise_settled_total: Option<u64>,
    pub(crate) rejected_total: Option<u64>,
    pub(crate) expired_total: Option<u64>,
    pub(crate) dropped_total: Option<u64>,
    pub(crate) dead_lettered_total: Option<u64>,
    pub(crate) purged_total: Option<u64>,
    /// Confirmed, but not stored again.
    pub(crate) duplicates_total: Option<u64>,
    /// By priority, the highest first; only those with messages.
    pub(crate) priorities: Option<Vec<PriorityView>>,
}

/// What a queue holds of one priority.
#[derive(Debug, Serialize)]
pub(crate) struct PriorityView {
    pub(crate) priority: u32,
    pub(crate) messages: u64,
    pub(crate) messages_scheduled: u64,
    pub(crate) messages_parked: u64,
}

impl From<QueueStats> for StatsView {
    fn from(it: QueueStats) -> Self {
        let messages =
            it.ready + it.unacked + it.scheduled + it.delayed + it.parked + it.dead_lettering;
        let priorities = it.priorities.iter().map(|it| PriorityView {
            priority: it.priority,
            messages: it.messages,
            messages_scheduled: it.scheduled,
            messages_parked: it.parked,
        });
        Self {
            messages: Some(messages),
            messages_ready: Some(it.ready),
            messages_unacked: Some(it.unacked),
            messages_scheduled: Some(it.scheduled),
            messages_delayed: Some(it.delayed),
            messages_parked: Some(it.parked),
            messages_dead_lettering: Some(it.dead_lettering),
            messages_retained: Some(it.retained),
            message_bytes: Some(it.bytes),
            message_bytes_ready: Some(it.ready_bytes),
            consumers: Some(it.consumers),
            oldest_ready_age_seconds: it.oldest_ready_age.map(|it| it.as_secs_f64()),
            published_total: Some(it.published_total),
            delivered_total: Some(it.delivered_total),
            redelivered_total: Some(it.redelivered_total),
            acked_total: Some(it.acked_total),
            otherwise_settled_total: Some(it.otherwise_settled_total),
            rejected_total: Some(it.rejected_total),
            expired_total: Some(it.expired_total),
            dropped_total: Some(it.dropped_total),
            dead_lettered_total: Some(it.dead_lettered_total),
            purged_total: Some(it.purged_total),
            duplicates_total: Some(it.duplicates_total),
            priorities: Some(priorities.collect()),
        }
    }
}

impl QueueView {
    pub(crate) fn new(queue: Queue, stats: Option<QueueStats>, leader_node: Option<u64>) -> Self {
        Self {
            name: queue.name,
            vhost: queue.vhost,
            queue_id: queue.queue_id,
            shard: queue.shard,
            leader_node,
            leader_endpoint: queue.leader_endpoint,
            leader_term: queue.leader_term,
            replicas: queue.replicas,
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            exclusive: queue.exclusive,
            arguments: arguments::to_json(&queue.arguments),
            durability: queue.durability,
            policy: queue.policy,
            created_at_ms: queue.created_at.and_then(unix_ms),
            stats: stats.map(StatsView::from).unwrap_or_default(),
        }
    }
}

impl From<QueueDetails> for QueueView {
    fn from(it: QueueDetails) -> Self {
        Self::new(it.queue, it.stats, it.leader_node)
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ExchangeView {
    pub(crate) name: String,
    pub(crate) vhost: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: serde_json::Value,
}

impl From<Exchange> for ExchangeView {
    fn from(it: Exchange) -> Self {
        Self {
            name: it.name,
            vhost: it.vhost,
            kind: it.kind,
            durable: it.durable,
            auto_delete: it.auto_delete,
            internal: it.internal,
            arguments: arguments::to_json(&it.arguments),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct BindingView {
    pub(crate) source: String,
    pub(crate) vhost: String,
    pub(crate) destination: String,
    /// "queue" or "exchange".
    pub(crate) destination_type: &'static str,
    pub(crate) routing_key: String,
    pub(crate) arguments: serde_json::Value,
}

impl From<Binding> for BindingView {
    fn from(it: Binding) -> Self {
        let (destination, destination_type) = match it.destination {
            BindingDestination::Queue(name) => (name, "queue"),
            BindingDestination::Exchange(name) => (name, "exchange"),
        };
        Self {
            source: it.source,
            vhost: it.vhost,
            destination,
            destination_type,
            routing_key: it.routing_key,
            arguments: arguments::to_json(&it.arguments),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ClusterView {
    /// The asked node serves: the cluster is formed and every shard has a leader and a majority.
    pub(crate) ready: bool,
    pub(crate) cluster_name: String,
    pub(crate) cluster_id: String,
    pub(crate) answering_node: u64,
    pub(crate) topology_index: u64,
    pub(crate) finalised_version: u32,
    /// All nodes know it, and it waits to be finalised.
    pub(crate) upgrade_version: Option<u32>,
    pub(crate) problems: Vec<String>,
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) shards: Vec<ShardView>,
    /// Made in the asked node's data directory.
    pub(crate) recoveries: Vec<RecoveryView>,
}

/// A recovery without a majority.
#[derive(Debug, Serialize)]
pub(crate) struct RecoveryView {
    pub(crate) at_ms: Option<u64>,
    pub(crate) by: String,
    /// The node whose copies were kept.
    pub(crate) node: u64,
    pub(crate) lost: Vec<u64>,
    pub(crate) groups: Vec<KeptView>,
}

/// What a recovery kept of a group.
#[derive(Debug, Serialize)]
pub(crate) struct KeptView {
    /// 0 is the topology group.
    pub(crate) shard: u64,
    pub(crate) last_index: u64,
    pub(crate) last_term: u64,
    pub(crate) committed_index: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct NodeView {
    pub(crate) node_id: u64,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) client_endpoint: String,
    pub(crate) amqp_endpoint: String,
    pub(crate) node_endpoint: String,
    pub(crate) zone: String,
    pub(crate) version: String,
    pub(crate) oldest_version: u32,
    pub(crate) newest_version: u32,
    pub(crate) leaders: u32,
    pub(crate) replicas: u32,
    pub(crate) started_at_ms: Option<u64>,
    pub(crate) memory_alarm: bool,
    pub(crate) disk_alarm: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ShardView {
    /// 0 is the topology group.
    pub(crate) shard: u64,
    pub(crate) leader_node: Option<u64>,
    pub(crate) term: u64,
    pub(crate) has_quorum: bool,
    pub(crate) committed_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) queues: u64,
    /// When the answering node's replica was last wholly compared with the others and found right.
    pub(crate) compared_at_ms: Option<u64>,
    /// Replicas differ, and it is not known which are right.
    pub(crate) in_doubt: bool,
    /// Copies it is to have; of the topology group 0: it is on every node.
    pub(crate) wanted_copies: u32,
    /// Its replicas are not known to be as they are to be yet.
    pub(crate) changing: bool,
    pub(crate) replicas: Vec<ReplicaView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReplicaView {
    pub(crate) replica_id: u64,
    pub(crate) node_id: u64,
    pub(crate) role: &'static str,
    pub(crate) matched_index: u64,
    /// Why it is set aside, as its node says.
    pub(crate) set_aside: Option<String>,
}

impl From<Cluster> for ClusterView {
    fn from(it: Cluster) -> Self {
        Self {
            ready: it.is_ready(),
            cluster_name: it.name,
            cluster_id: it.cluster_id,
            answering_node: it.answering_node_id,
            topology_index: it.topology_index,
            finalised_version: it.finalized_version,
            upgrade_version: it.upgrade_version,
            problems: it.problems,
            nodes: it.nodes.into_iter().map(NodeView::from).collect(),
            shards: it.shards.into_iter().map(ShardView::from).collect(),
            recoveries: it.recoveries.into_iter().map(RecoveryView::from).collect(),
        }
    }
}

impl From<Recovery> for RecoveryView {
    fn from(it: Recovery) -> Self {
        let groups = it.groups.into_iter().map(|it| KeptView {
            shard: it.shard,
            last_index: it.last_index,
            last_term: it.last_term,
            committed_index: it.committed_index,
        });
        Self {
            at_ms: it.at.and_then(unix_ms),
            by: it.by,
            node: it.node_id,
            lost: it.lost_nodes,
            groups: groups.collect(),
        }
    }
}

impl From<ClusterNode> for NodeView {
    fn from(it: ClusterNode) -> Self {
        Self {
            node_id: it.node_id,
            name: it.name,
            state: match it.state {
                NodeState::Unknown => "unknown",
                NodeState::Up => "up",
                NodeState::Down => "down",
                NodeState::Draining => "draining",
                NodeState::Removed => "removed",
            },
            client_endpoint: it.client_endpoint,
            amqp_endpoint: it.amqp_endpoint,
            node_endpoint: it.node_endpoint,
            zone: it.zone,
            version: it.version,
            oldest_version: it.cluster_versions.0,
            newest_version: it.cluster_versions.1,
            leaders: it.leaders,
            replicas: it.replicas,
            started_at_ms: it.started_at.and_then(unix_ms),
            memory_alarm: it.memory_alarm,
            disk_alarm: it.disk_alarm,
        }
    }
}

impl From<ClusterShard> for ShardView {
    fn from(it: ClusterShard) -> Self {
        let replica = |it: warren_client::Replica| ReplicaView {
            replica_id: it.replica_id,
            node_id: it.node_id,
            role: match it.role {
                ReplicaRole::Unknown => "unknown",
                ReplicaRole::Leader => "leader",
                ReplicaRole::Follower => "follower",
                ReplicaRole::Learner => "learner",
            },
            matched_index: it.matched_index,
            set_aside: it.set_aside,
        };
        Self {
            shard: it.shard,
            leader_node: it.leader_node_id,
            term: it.term,
            has_quorum: it.has_quorum,
            committed_index: it.committed_index,
            applied_index: it.applied_index,
            queues: it.queues,
            compared_at_ms: it.compared_at.and_then(unix_ms),
            in_doubt: it.in_doubt,
            wanted_copies: it.wanted_copies,
            changing: it.changing,
            replicas: it.replicas.into_iter().map(replica).collect(),
        }
    }
}

fn unix_ms(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}
