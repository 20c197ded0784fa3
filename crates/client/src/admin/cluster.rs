//! The cluster as one node sees it: nodes, shards, leaders, problems.

use std::time::{Duration, SystemTime};

use warren_proto::cluster_v1;
use warren_types::{Level, Watermarks};

use super::{Queue, plain_time};
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// How a node is, as the answering node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    Unknown,
    Up,
    Down,
    Draining,
    Removed,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    pub node_id: u64,
    pub name: String,
    pub client_endpoint: String,
    pub amqp_endpoint: String,
    pub node_endpoint: String,
    pub zone: String,
    pub state: NodeState,
    pub version: String,
    /// The versions of the cluster that its software can work in, from oldest to newest.
    pub cluster_versions: (u32, u32),
    /// Shards it leads.
    pub leaders: u32,
    /// Replicas it has.
    pub replicas: u32,
    pub started_at: Option<SystemTime>,
    /// Publishers are held back for lack of memory.
    pub memory_alarm: bool,
    /// Publishers are held back for lack of disk.
    pub disk_alarm: bool,
}

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaRole {
    Unknown,
    Leader,
    Follower,
    Learner,
}

/// A replica of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub replica_id: u64,
    pub node_id: u64,
    pub role: ReplicaRole,
    /// Index of the last entry it is known to have.
    pub matched_index: u64,
    /// Why it is set aside, as its node says; `None`: it is not.
    pub set_aside: Option<String>,
}

/// A shard, or the topology group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterShard {
    /// 0 = the topology group.
    pub shard: u64,
    pub replicas: Vec<Replica>,
    /// None known during a change of leader.
    pub leader_node_id: Option<u64>,
    pub term: u64,
    /// It can commit, as far as the answering node sees.
    pub has_quorum: bool,
    pub committed_index: u64,
    pub applied_index: u64,
    /// Queues placed in it.
    pub queues: u64,
    /// When the answering node's replica was last wholly compared with the others and found right.
    pub compared_at: Option<SystemTime>,
    /// Replicas differ, and it is not known which are right.
    pub in_doubt: bool,
    /// Copies it is to have; fewer if there are fewer nodes. Of the topology group 0: it is on every node.
    pub wanted_copies: u32,
    /// On nodes that were named: none is moved only so that nodes have as many as others.
    pub placed: bool,
    /// Its replicas are not known to be as they are to be yet.
    pub changing: bool,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    /// Empty = not formed yet.
    pub cluster_id: String,
    pub answering_node_id: u64,
    pub nodes: Vec<ClusterNode>,
    /// The topology group first.
    pub shards: Vec<ClusterShard>,
    pub topology_index: u64,
    pub finalized_version: u32,
    /// A later version that every node knows, and that waits to be finalised.
    pub upgrade_version: Option<u32>,
    /// In words, worst first.
    pub problems: Vec<String>,
    /// Made in the data directory of the answering node, oldest first.
    pub recoveries: Vec<Recovery>,
}

/// A recovery without a majority: one node's copies became the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    pub at: Option<SystemTime>,
    /// Who ran the command, as the operating system says.
    pub by: String,
    /// The node whose copies were kept.
    pub node_id: u64,
    /// Declared lost.
    pub lost_nodes: Vec<u64>,
    pub groups: Vec<KeptGroup>,
}

/// What a recovery kept of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptGroup {
    /// 0 = the topology group.
    pub shard: u64,
    /// Later entries are lost.
    pub last_index: u64,
    pub last_term: u64,
    /// The last entry that was known to be confirmed; 0 = none.
    pub committed_index: u64,
}

impl Cluster {
    /// It is formed, and every shard has a leader and a majority.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.cluster_id.is_empty()
            && !self.shards.is_empty()
            && self
                .shards
                .iter()
                .all(|it| it.leader_node_id.is_some() && it.has_quorum)
    }

    /// The node that leads a queue's shard: as the queue says, else as this node sees it.
    #[must_use]
    pub fn leader_of(&self, queue: &Queue) -> Option<u64> {
        let hinted = self.nodes.iter().find(|it| {
            (!queue.leader_endpoint.is_empty() && it.client_endpoint == queue.leader_endpoint)
                || (!queue.leader.is_empty() && it.name == queue.leader)
        });
        let by_shard = self.shards.iter().find(|it| it.shard == queue.shard);
        hinted
            .map(|it| it.node_id)
            .or_else(|| by_shard.and_then(|it| it.leader_node_id))
    }
}

impl Connection {
    /// Nodes, shards and health, as the answering node sees them.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.cluster_within(self.options().request_timeout).await
    }

    /// As [`Self::cluster`], with a time of its own.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn cluster_within(&self, within: Duration) -> Result<Cluster, Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::GetClusterRequest::default());
            async move { attempt.cluster().get_cluster(request).await }
        };
        let wire = self
            .call_within("reading the cluster", within, call)
            .await?;
        Ok(Cluster {
            name: wire.cluster_name,
            cluster_id: wire.cluster_id,
            answering_node_id: wire.answering_node_id,
            nodes: wire.nodes.into_iter().map(plain_node).collect(),
            shards: wire.shards.into_iter().map(plain_shard).collect(),
            topology_index: wire.topology_index,
            finalized_version: wire.finalized_version,
            upgrade_version: (wire.upgrade_version != 0).then_some(wire.upgrade_version),
            problems: wire.problems,
            recoveries: wire.recoveries.into_iter().map(plain_recovery).collect(),
        })
    }

    /// The shards that would commit nothing without the node that is asked: most other replicas that vote are down, or have not caught up. As
    /// the nodes say that lead them; one that says nothing is not told. None from a node of an earlier version.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn shards_needing_node(&self, within: Duration) -> Result<Vec<u64>, Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::GetClusterRequest { ask_needing: true });
            async move { attempt.cluster().get_cluster(request).await }
        };
        let wire = self
            .call_within("asking who needs the node", within, call)
            .await?;
        Ok(wire.needing)
    }

    /// Has the node that is asked give its leaderships away; [`Self::cluster`] tells how many are left. Again changes nothing.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn drain_node(&self) -> Result<(), Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::DrainNodeRequest::default());
            async move { attempt.cluster().drain_node(request).await }
        };
        self.call("draining the node", call).await.map(drop)
    }

    /// Has a node removed for good; [`Self::cluster`] tells what is left of it. Again changes nothing.
    ///
    /// # Errors
    /// There is no such node, or no node answers in time.
    pub async fn remove_node(&self, node: u64) -> Result<(), Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::RemoveNodeRequest {
                node_id: node,
                ..cluster_v1::RemoveNodeRequest::default()
            });
            async move { attempt.cluster().remove_node(request).await }
        };
        self.call("removing the node", call).await.map(drop)
    }

    /// Has a node stay that was to be removed.
    ///
    /// # Errors
    /// There is no such node, or no node answers in time.
    pub async fn keep_node(&self, node: u64) -> Result<(), Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::ReviveNodeRequest {
                node_id: node,
                ..cluster_v1::ReviveNodeRequest::default()
            });
            async move { attempt.cluster().revive_node(request).await }
        };
        self.call("keeping the node", call).await.map(drop)
    }

    /// Hands the leadership of a shard (0 = the topology group) to a node; answers the node that leads then, and its term.
    /// Again changes nothing.
    ///
    /// # Errors
    /// Nothing was done, or the outcome is unknown: the error says which.
    pub async fn transfer_leader(&self, shard: u64, node: u64) -> Result<(u64, u64), Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::TransferLeaderRequest {
                shard,
                node_id: node,
            });
            async move { attempt.cluster().transfer_leader(request).await }
        };
        let wire = self.call("handing the leadership over", call).await?;
        Ok((wire.node_id, wire.term))
    }

    /// Has leaders spread evenly, one per second; answers what is to move, in words. With `dry_run` it only says so.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn rebalance(&self, dry_run: bool) -> Result<Vec<String>, Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::RebalanceRequest {
                dry_run,
                ..cluster_v1::RebalanceRequest::default()
            });
            async move { attempt.cluster().rebalance(request).await }
        };
        let wire = self.call("spreading leaders", call).await?;
        Ok(wire.moves)
    }

    /// Allows the features of a version (`None`: the newest that every node knows); answers the version that is allowed then, and the one
    /// that was meant. With `dry_run` it only says what it would do. Again changes nothing.
    ///
    /// # Errors
    /// A node does not know the version, a later one is finalised, or no node answers in time.
    pub async fn finalize_upgrade(
        &self,
        version: Option<u32>,
        dry_run: bool,
    ) -> Result<(u32, u32), Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::FinalizeUpgradeRequest {
                version: version.unwrap_or(0),
                validate_only: dry_run,
                ..cluster_v1::FinalizeUpgradeRequest::default()
            });
            async move { attempt.cluster().finalize_upgrade(request).await }
        };
        let wire = self.call("finalising the upgrade", call).await?;
        Ok((wire.finalized_version, wire.target_version))
    }

    /// Changes where the node that is asked holds publishers back, until it is started again; `None`: stays as it is. What counts then.
    ///
    /// # Errors
    /// A level cannot be, or no node answers in time.
    pub async fn set_watermarks(
        &self,
        memory: Option<Level>,
        disk_free: Option<Level>,
    ) -> Result<Watermarks, Error> {
        let level = |it: Level| cluster_v1::Level {
            bytes: it.bytes,
            percent: u32::from(it.percent),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::SetWatermarksRequest {
                memory: memory.map(level),
                disk_free: disk_free.map(level),
                ..cluster_v1::SetWatermarksRequest::default()
            });
            async move { attempt.cluster().set_watermarks(request).await }
        };
        let answer = self.call("changing the watermarks", call).await?;
        let level = |it: Option<cluster_v1::Level>| {
            let it = it.unwrap_or_default();
            Level {
                bytes: it.bytes,
                percent: u8::try_from(it.percent).unwrap_or(100),
            }
        };
        Ok(Watermarks {
            memory: level(answer.memory),
            disk_free: level(answer.disk_free),
        })
    }

    /// Ends the drain of the node that is asked.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn revive_node(&self) -> Result<(), Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(cluster_v1::ReviveNodeRequest::default());
            async move { attempt.cluster().revive_node(request).await }
        };
        self.call("reviving the node", call).await.map(drop)
    }
}

fn plain_node(wire: cluster_v1::Node) -> ClusterNode {
    ClusterNode {
        node_id: wire.node_id,
        state: match cluster_v1::NodeState::try_from(wire.state) {
            Ok(cluster_v1::NodeState::Up) => NodeState::Up,
            Ok(cluster_v1::NodeState::Down) => NodeState::Down,
            Ok(cluster_v1::NodeState::Draining) => NodeState::Draining,
            Ok(cluster_v1::NodeState::Removed) => NodeState::Removed,
            Ok(cluster_v1::NodeState::Unspecified) | Err(_) => NodeState::Unknown,
        },
        name: wire.name,
        client_endpoint: wire.client_endpoint,
        amqp_endpoint: wire.amqp_endpoint,
        node_endpoint: wire.node_endpoint,
        zone: wire.zone,
        version: wire.version,
        cluster_versions: (wire.min_version, wire.max_version),
        leaders: wire.leaders,
        replicas: wire.replicas,
        started_at: plain_time(wire.started_at),
        memory_alarm: wire.memory_alarm,
        disk_alarm: wire.disk_alarm,
    }
}

fn plain_recovery(wire: cluster_v1::Recovery) -> Recovery {
    let groups = wire.groups.into_iter().map(|it| KeptGroup {
        shard: it.shard,
        last_index: it.last_index,
        last_term: it.last_term,
        committed_index: it.committed_index,
    });
    Recovery {
        at: plain_time(wire.at),
        by: wire.by,
        node_id: wire.node_id,
        lost_nodes: wire.lost_node_ids,
        groups: groups.collect(),
    }
}

fn plain_shard(wire: cluster_v1::Shard) -> ClusterShard {
    ClusterShard {
        shard: wire.shard,
        replicas: wire.replicas.into_iter().map(plain_replica).collect(),
        leader_node_id: (wire.leader_node_id != 0).then_some(wire.leader_node_id),
        term: wire.term,
        has_quorum: wire.has_quorum,
        committed_index: wire.committed_index,
        applied_index: wire.applied_index,
        queues: wire.queues,
        compared_at: plain_time(wire.compared_at),
        in_doubt: wire.in_doubt,
        wanted_copies: wire.wanted_copies,
        placed: wire.placed,
        changing: wire.changing,
    }
}

fn plain_replica(wire: cluster_v1::Replica) -> Replica {
    Replica {
        replica_id: wire.replica_id,
        node_id: wire.node_id,
        role: match cluster_v1::ReplicaRole::try_from(wire.role) {
            Ok(cluster_v1::ReplicaRole::Leader) => ReplicaRole::Leader,
            Ok(cluster_v1::ReplicaRole::Follower) => ReplicaRole::Follower,
            Ok(cluster_v1::ReplicaRole::Learner) => ReplicaRole::Learner,
            Ok(cluster_v1::ReplicaRole::Unspecified) | Err(_) => ReplicaRole::Unknown,
        },
        matched_index: wire.matched_index,
        set_aside: (!wire.set_aside.is_empty()).then_some(wire.set_aside),
    }
}
