//! Which shards need a node for their majority. Not here: asking the nodes (`replicas`), what is done with it (`drain`).

use warren_client::{Cluster, ClusterShard, NodeState, Replica, ReplicaRole};

/// The replicas that vote, as far as is known.
pub(super) fn voters(shard: &ClusterShard) -> impl Iterator<Item = &Replica> {
    let replicas = shard.replicas.iter();
    replicas.filter(|it| it.role != ReplicaRole::Learner)
}

/// The shards with a vote on `node` that would have no majority of nodes that are up without it. A node that drains is about to go, and
/// does not count. One copy is a majority.
pub(super) fn needing(cluster: &Cluster, node: u64) -> Vec<&ClusterShard> {
    let is_up = |id: u64| {
        cluster
            .nodes
            .iter()
            .any(|it| it.node_id == id && it.state == NodeState::Up)
    };
    let needs = cluster.shards.iter().filter(|shard| {
        let here = voters(shard).any(|it| it.node_id == node);
        let others = voters(shard)
            .filter(|it| it.node_id != node && is_up(it.node_id))
            .count();
        here && others <= voters(shard).count() / 2
    });
    needs.collect()
}

#[cfg(test)]
mod tests {
    use warren_client::ClusterNode;

    use super::*;

    fn node(node_id: u64, state: NodeState) -> ClusterNode {
        ClusterNode {
            node_id,
            state,
            name: String::new(),
            client_endpoint: String::new(),
            amqp_endpoint: String::new(),
            node_endpoint: String::new(),
            zone: String::new(),
            version: String::new(),
            cluster_versions: (1, 1),
            leaders: 0,
            replicas: 0,
            started_at: None,
            memory_alarm: false,
            disk_alarm: false,
        }
    }

    fn shard(shard: u64, on: &[u64]) -> ClusterShard {
        let replica = |node_id: &u64| Replica {
            replica_id: *node_id,
            node_id: *node_id,
            role: ReplicaRole::Follower,
            matched_index: 0,
            set_aside: None,
        };
        ClusterShard {
            shard,
            replicas: on.iter().map(replica).collect(),
            leader_node_id: None,
            term: 1,
            has_quorum: true,
            committed_index: 0,
            applied_index: 0,
            queues: 0,
            compared_at: None,
            in_doubt: false,
            wanted_copies: 3,
            placed: false,
            changing: false,
        }
    }

    fn cluster(third: NodeState) -> Cluster {
        Cluster {
            name: "c".to_owned(),
            cluster_id: "x".to_owned(),
            answering_node_id: 1,
            nodes: vec![
                node(1, NodeState::Up),
                node(2, NodeState::Up),
                node(3, third),
            ],
            shards: vec![shard(0, &[1, 2, 3]), shard(1, &[1]), shard(2, &[2, 3])],
            topology_index: 1,
            finalized_version: 1,
            upgrade_version: None,
            problems: Vec::new(),
            recoveries: Vec::new(),
        }
    }

    fn shards(cluster: &Cluster, node: u64) -> Vec<u64> {
        let needing = needing(cluster, node).into_iter();
        needing.map(|it| it.shard).collect()
    }

    #[test]
    fn node_is_needed_when_another_is_down_or_it_has_the_only_copy() {
        assert_eq!(shards(&cluster(NodeState::Up), 1), [1]);
        assert_eq!(shards(&cluster(NodeState::Up), 3), [2]);
        assert_eq!(shards(&cluster(NodeState::Down), 1), [0, 1]);
        assert_eq!(shards(&cluster(NodeState::Down), 2), [0, 2]);
        // What drains is about to go.
        assert_eq!(shards(&cluster(NodeState::Draining), 2), [0, 2]);
    }

    #[test]
    fn copy_without_a_vote_is_not_needed() {
        let mut cluster = cluster(NodeState::Up);
        cluster.shards = vec![shard(1, &[1, 2, 3])];
        cluster.shards[0].replicas[2].role = ReplicaRole::Learner;
        assert_eq!(shards(&cluster, 1), [1]);
        assert!(shards(&cluster, 3).is_empty());
    }
}
