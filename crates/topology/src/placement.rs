//! Where the replicas of a group are. Not here: moving them (a later reconciler), who leads (`raft`).

use std::collections::BTreeMap;

use warren_types::{Generation, GroupId, Member, NodeId, ReplicaId, ShardId};

use crate::cluster::Node;

/// A group's replicas. The first one is the preferred leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub group: GroupId,
    pub generation: Generation,
    pub members: Vec<Member>,
}

/// Places `shards` shards on `nodes`: distinct zones first, then fewest replicas, then the lowest number. Preferred leaders are spread evenly.
/// Replica ids are taken from `next`, which is left at the first free one.
pub(crate) fn place(
    nodes: &BTreeMap<NodeId, Node>,
    shards: u32,
    replication_factor: u32,
    next: &mut ReplicaId,
) -> Vec<Placement> {
    let mut load: BTreeMap<NodeId, Load> =
        nodes.keys().map(|&node| (node, Load::default())).collect();
    (1..=shards)
        .map(|shard| {
            let mut chosen = choose(nodes, &load, replication_factor);
            chosen.sort_by_key(|node| {
                let load = load.get(node).copied().unwrap_or_default();
                (load.preferred, *node)
            });
            let mut members = Vec::with_capacity(chosen.len());
            for (place, node) in chosen.into_iter().enumerate() {
                let load = load.entry(node).or_default();
                load.replicas += 1;
                load.preferred += u64::from(place == 0);
                members.push(Member {
                    replica: *next,
                    node,
                });
                next.0 += 1;
            }
            Placement {
                group: ShardId(shard).into(),
                generation: Generation(1),
                members,
            }
        })
        .collect()
}

#[derive(Clone, Copy, Default)]
struct Load {
    replicas: u64,
    preferred: u64,
}

fn choose(
    nodes: &BTreeMap<NodeId, Node>,
    load: &BTreeMap<NodeId, Load>,
    replication_factor: u32,
) -> Vec<NodeId> {
    let mut chosen: Vec<&Node> = Vec::new();
    for _ in 0..replication_factor {
        let best = nodes
            .values()
            .filter(|node| !chosen.iter().any(|it| it.id == node.id))
            .min_by_key(|node| {
                let in_zone = chosen.iter().filter(|it| it.zone == node.zone).count();
                let replicas = load.get(&node.id).copied().unwrap_or_default().replicas;
                (in_zone, replicas, node.id)
            });
        match best {
            Some(node) => chosen.push(node),
            None => break,
        }
    }
    chosen.into_iter().map(|node| node.id).collect()
}
