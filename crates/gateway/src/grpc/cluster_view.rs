//! The cluster as this node sees it, for clients. What it says of shards without a replica here is what the placement and the link to the
//! leader say. Not here: the service (`cluster`).

use std::time::Duration;

use warren_proto::cluster_v1;
use warren_proto::cluster_v1::{NodeState, ReplicaRole};
use warren_shard::AsideView;
use warren_topology::{Copies, Placement};
use warren_types::{GroupId, Leadership, LogIndex, Member, NodeId, ReplicaId, Term};

use super::quorum::has_quorum;
use crate::gateway::Gateway;

/// A node that was not heard from for so long is down, as far as this one sees.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// A group as this node knows it, from its own replica.
struct Seen {
    group: GroupId,
    leadership: Leadership,
    committed: Option<LogIndex>,
    applied: Option<LogIndex>,
    matched: Vec<(u64, LogIndex)>,
    voters: Vec<ReplicaId>,
    has_quorum: Option<bool>,
}

fn seen(gateway: &Gateway) -> Vec<Seen> {
    let status = gateway.broker().status().into_iter();
    let seen = status.map(|it| Seen {
        group: it.group,
        leadership: it.leadership,
        has_quorum: has_quorum(&it, |node| is_up(gateway, node)),
        committed: it.committed,
        applied: it.applied,
        voters: it.voters.iter().map(|member| member.replica).collect(),
        matched: it
            .followers
            .iter()
            .filter_map(|follower| Some((follower.replica.0, follower.matched?)))
            .collect(),
    });
    seen.collect()
}

fn is_up(gateway: &Gateway, node: NodeId) -> bool {
    if node == gateway.broker().node() {
        return true;
    }
    let health = gateway.broker().peers().heard(node);
    !health.refused
        && health
            .last_heard
            .is_some_and(|at| at.elapsed() < DOWN_AFTER)
}

pub(super) fn nodes(gateway: &Gateway) -> Vec<cluster_v1::Node> {
    let topology = gateway.topology();
    let alarmed = gateway.alarms().borrow().clone();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let nodes = topology.nodes().map(|node| {
        let leads = |it: &&Placement| {
            let leadership = gateway.broker().leadership_of(it.group);
            leadership.is_some_and(|(leader, _)| leader == node.id)
        };
        let has_replica = |it: &&Placement| it.keeps(node.id);
        let own = node.id == gateway.broker().node();
        let draining = if own {
            gateway.is_draining()
        } else {
            gateway.broker().peers().heard(node.id).draining
        };
        let state = match (is_up(gateway, node.id), draining) {
            (true, true) => NodeState::Draining,
            (true, false) => NodeState::Up,
            (false, _) => NodeState::Down,
        };
        cluster_v1::Node {
            node_id: node.id.0,
            name: node.id.to_string(),
            client_endpoint: node.addresses.grpc.to_string(),
            amqp_endpoint: node.addresses.amqp.to_string(),
            node_endpoint: node.addresses.node.to_string(),
            zone: node.zone.to_string(),
            state: state.into(),
            version: node.software.name.to_string(),
            min_version: node.software.versions.oldest.0,
            max_version: node.software.versions.newest.0,
            leaders: count(topology.placements().filter(leads).count()),
            replicas: count(topology.placements().filter(has_replica).count()),
            memory_alarm: alarmed.of(node.id).memory,
            disk_alarm: alarmed.of(node.id).disk,
            ..cluster_v1::Node::default()
        }
    });
    nodes.collect()
}

pub(super) fn shards(gateway: &Gateway) -> Vec<cluster_v1::Shard> {
    let topology = gateway.topology();
    let seen = seen(gateway);
    let mut audits = gateway.broker().audits();
    audits.extend(gateway.broker().topology_audit());
    let aside = gateway.broker().set_aside_anywhere();
    let in_doubt = gateway.broker().in_doubt();
    let shards = topology.placements().map(|placement| {
        let known = seen.iter().find(|it| it.group == placement.group);
        let leadership = gateway.broker().leadership_of(placement.group);
        let queues = placement
            .group
            .shard()
            .map_or(0, |shard| topology.queues_of(shard).count());
        let audit = audits
            .iter()
            .find(|it| GroupId::from(it.shard) == placement.group);
        let compared_at_ms = audit.and_then(|it| it.clean_at_ms);
        let index = |index: Option<LogIndex>| index.map_or(0, |it| it.0);
        cluster_v1::Shard {
            shard: u64::from(placement.group.0),
            placement_generation: placement.generation.0,
            replicas: replicas(placement, known, &aside),
            leader_node_id: leadership.map_or(0, |(node, _)| node.0),
            // Of the named leader; without one, the newest known.
            term: leadership
                .map(|(_, term)| term)
                .or(known.map(|it| it.leadership.term))
                .map_or(0, |it| it.0),
            has_quorum: known
                .and_then(|it| it.has_quorum)
                .unwrap_or_else(|| has_quorum_elsewhere(gateway, placement, leadership)),
            committed_index: index(known.and_then(|it| it.committed)),
            applied_index: index(known.and_then(|it| it.applied)),
            queues: u64::try_from(queues).unwrap_or(u64::MAX),
            compared_at: compared_at_ms.map(timestamp),
            in_doubt: in_doubt.contains(&placement.group),
            wanted_copies: placement
                .group
                .shard()
                .map_or(0, |_| topology.wanted_copies(placement)),
            placed: matches!(placement.copies, Copies::Placed(_)),
            changing: !placement.settled,
        }
    });
    shards.collect()
}

/// Without a vote here: a leader that has lost its majority ends its links (`warren-shard`, `leader/away`), so one that is linked to, and
/// lives, has it. Without a link it is as many of the placed replicas as are up.
fn has_quorum_elsewhere(
    gateway: &Gateway,
    placement: &Placement,
    leadership: Option<(NodeId, Term)>,
) -> bool {
    if let Some((leader, _)) = leadership {
        return is_up(gateway, leader);
    }
    let members = &placement.members;
    let up = members.iter().filter(|it| is_up(gateway, it.node)).count();
    up > members.len() / 2
}

fn replicas(
    placement: &Placement,
    known: Option<&Seen>,
    aside: &[AsideView],
) -> Vec<cluster_v1::Replica> {
    let leader = known.and_then(|it| it.leadership.leader);
    let all = placement.replicas().chain(&placement.former);
    let members = all.map(|member| {
        let votes = known.is_none_or(|it| it.voters.contains(&member.replica));
        let role = match (known, leader) {
            (Some(_), Some(leader)) if leader.replica == member.replica => ReplicaRole::Leader,
            (Some(_), _) if votes => ReplicaRole::Follower,
            (Some(_), _) => ReplicaRole::Learner,
            (None, _) => ReplicaRole::Unspecified,
        };
        let matched = known.and_then(|it| {
            it.matched
                .iter()
                .find(|(replica, _)| *replica == member.replica.0)
        });
        cluster_v1::Replica {
            replica_id: member.replica.0,
            node_id: member.node.0,
            role: role.into(),
            matched_index: matched.map_or(0, |(_, index)| index.0),
            set_aside: aside
                .iter()
                .find(|it| it.replica == member.replica)
                .map(|it| it.cause.clone())
                .unwrap_or_default(),
        }
    });
    members.collect()
}

fn timestamp(ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1_000 * 1_000_000).unwrap_or_default(),
    }
}

/// Shards with too few copies, and changes that are under way.
fn changes(gateway: &Gateway) -> Vec<String> {
    let topology = gateway.topology();
    let staying = topology.nodes().filter(|it| !it.leaving).count();
    let mut told = Vec::new();
    for placement in topology.placements() {
        let group = placement.group;
        let wanted = usize::try_from(topology.wanted_copies(placement)).unwrap_or(usize::MAX);
        let (has, wanted) = (placement.members.len(), wanted.min(staying));
        let up = |it: &&Member| is_up(gateway, it.node);
        let up = placement.members.iter().filter(up).count();
        if up < wanted && group.shard().is_some() {
            told.push(format!("shard {group} has {up} of {wanted} copies"));
        }
        if has > wanted && placement.settled && group.shard().is_some() {
            told.push(format!(
                "the replicas of group {group} change: {has} copies become {wanted}"
            ));
        }
        if !placement.settled {
            let on = |all: &[Member]| -> Vec<String> {
                all.iter().map(|it| it.node.to_string()).collect()
            };
            told.push(format!(
                "the replicas of group {group} change: to nodes {}, away from {}",
                on(&placement.members).join(", "),
                on(&placement.former).join(", ")
            ));
        }
    }
    for node in topology.nodes().filter(|it| it.leaving) {
        let left = topology.placements().filter(|it| it.keeps(node.id)).count();
        told.push(format!(
            "node {} is leaving: {left} replicas are left on it",
            node.id
        ));
    }
    told
}

/// Replicas that are not as the others are, and damage.
fn wrong(gateway: &Gateway) -> Vec<String> {
    let own = gateway.broker().node();
    let aside = gateway.broker().set_aside_anywhere().into_iter();
    let aside = aside.map(|it| {
        if it.group == GroupId::TOPOLOGY {
            return format!(
                "the topology's replica on node {} is wrong; the node begins anew when the others go on without it: {}",
                it.node, it.cause
            );
        }
        format!(
            "the replica of shard {} on node {} is set aside until it is replaced: {}",
            it.group, it.node, it.cause
        )
    });
    let doubtful = gateway.broker().in_doubt().into_iter().map(|group| {
        let of = match group.shard() {
            Some(shard) => format!("shard {shard}"),
            None => "the topology".to_owned(),
        };
        format!(
            "replicas of {of} differ or cannot be read, and it is not known which are right: none of them is moved"
        )
    });
    let damaged = gateway.broker().log_scrub().damaged.into_iter();
    let damaged = damaged.map(|it| {
        let groups: Vec<String> = it.groups.iter().map(ToString::to_string).collect();
        let needed = match groups.is_empty() {
            true => "nothing in it is needed any more".to_owned(),
            false => format!("needed by groups {}", groups.join(", ")),
        };
        let (path, offset) = (it.path.display(), it.offset);
        format!("the log of node {own} is damaged: {path} at offset {offset}; {needed}")
    });
    aside.chain(doubtful).chain(damaged).collect()
}

/// What is wrong, worst first.
pub(super) fn problems(gateway: &Gateway) -> Vec<String> {
    if gateway.topology().cluster().is_none() {
        return vec!["the cluster is not formed yet".to_owned()];
    }
    let mut problems = Vec::new();
    if !gateway.broker().topology().is_recent() {
        problems.push("this node has not heard from the topology's leader lately".to_owned());
    }
    for shard in shards(gateway) {
        if !shard.has_quorum {
            problems.push(format!("group {} has no majority", shard.shard));
        } else if shard.leader_node_id == 0 && shard.term > 0 {
            problems.push(format!(
                "group {} has no leader that this node knows",
                shard.shard
            ));
        }
    }
    problems.extend(wrong(gateway));
    problems.extend(changes(gateway));
    for node in nodes(gateway) {
        let id = node.node_id;
        if node.state() == NodeState::Down {
            problems.push(format!("node {id} does not answer"));
        }
        if node.memory_alarm {
            problems.push(format!(
                "node {id} is short of memory: it holds publishers back"
            ));
        }
        if node.disk_alarm {
            problems.push(format!(
                "node {id} is short of disk: it holds publishers back"
            ));
        }
    }
    problems
}

/// What was done in this node's data directory when most nodes were lost.
pub(super) fn recoveries(gateway: &Gateway) -> Vec<cluster_v1::Recovery> {
    let all = gateway.broker().recoveries().iter();
    let all = all.map(|it| {
        let groups = it.kept.iter().map(|kept| cluster_v1::KeptGroup {
            shard: u64::from(kept.group.0),
            last_index: kept.last_index.0,
            last_term: kept.last_term.0,
            committed_index: kept.committed.0,
        });
        cluster_v1::Recovery {
            at: Some(timestamp(it.at_ms)),
            by: it.by.clone(),
            node_id: it.node.0,
            lost_node_ids: it.lost.iter().map(|node| node.0).collect(),
            groups: groups.collect(),
        }
    });
    all.collect()
}
