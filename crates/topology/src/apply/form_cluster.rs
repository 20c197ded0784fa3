//! `FormCluster`: members and placement, once. Not here: starting the groups (`server`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use warren_types::{GroupId, NodeId, ReplicaId, ShardId};

use crate::{
    cluster::{Cluster, Node},
    command::FormCluster,
    maps::OrdSet,
    placement::{self, Placement},
    reply::{ClusterFault, Declared, Refusal, TopologyReply},
    topology::Topology,
};

/// Group numbers are 32 bits wide and every group costs memory on its nodes.
const SHARDS_MAX: u32 = 4_096;

pub(super) fn apply(
    topology: &mut Topology,
    command: FormCluster,
) -> Result<TopologyReply, Refusal> {
    if let Some(cluster) = topology.cluster() {
        return if cluster.id == command.cluster {
            Ok(TopologyReply::ClusterFormed(Declared::Existed))
        } else {
            Err(Refusal::ClusterFormedOtherwise {
                cluster: cluster.id,
            })
        };
    }
    let nodes = check(&command).map_err(|reason| Refusal::ClusterInvalid { reason })?;

    let highest = command.topology_members.iter().map(|it| it.replica).max();
    topology.next.replica = ReplicaId(highest.unwrap_or_default().0.saturating_add(1));
    let shards = placement::place(
        &nodes,
        command.shards,
        command.replication_factor,
        &mut topology.next.replica,
    );
    let own = Placement::first(GroupId::TOPOLOGY, command.topology_members);
    topology.placements = Arc::new(
        std::iter::once(own)
            .chain(shards)
            .map(|it| (it.group, it))
            .collect(),
    );
    for shard in 1..=command.shards {
        topology
            .shards
            .insert_mut(ShardId(shard), OrdSet::new_sync());
    }
    topology.nodes = Arc::new(nodes);
    topology.cluster = Some(Arc::new(Cluster {
        id: command.cluster,
        name: command.name,
        finalised_version: command.version,
        replication_factor: command.replication_factor,
    }));
    Ok(TopologyReply::ClusterFormed(Declared::Created))
}

fn check(command: &FormCluster) -> Result<BTreeMap<NodeId, Node>, ClusterFault> {
    let nodes: BTreeMap<NodeId, Node> = command
        .nodes
        .iter()
        .map(|node| (node.id, node.clone()))
        .collect();
    if nodes.is_empty() {
        return Err(ClusterFault::NoNodes);
    }
    if nodes.len() != command.nodes.len() || nodes.contains_key(&NodeId(0)) {
        return Err(ClusterFault::NodeNumbers);
    }
    if command.shards == 0 || command.shards > SHARDS_MAX {
        return Err(ClusterFault::Shards);
    }
    if command.replication_factor == 0 {
        return Err(ClusterFault::ReplicationFactor);
    }
    let version = command.version;
    if nodes
        .values()
        .any(|it| !it.software.versions.knows(version))
    {
        return Err(ClusterFault::Version);
    }
    let members = &command.topology_members;
    let replicas: BTreeSet<ReplicaId> = members.iter().map(|it| it.replica).collect();
    let hosts: BTreeSet<NodeId> = members.iter().map(|it| it.node).collect();
    let distinct = replicas.len() == members.len() && hosts.len() == members.len();
    let known = hosts.iter().all(|it| nodes.contains_key(it));
    // Far below the end of the numbers, so that the counter never runs out.
    let in_range = replicas
        .iter()
        .all(|it| (1..u64::from(u32::MAX)).contains(&it.0));
    if members.is_empty() || !distinct || !known || !in_range {
        return Err(ClusterFault::TopologyMembers);
    }
    Ok(nodes)
}
