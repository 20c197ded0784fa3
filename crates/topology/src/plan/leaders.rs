//! Spreads leaders evenly: one transfer at a time until no two nodes that can lead differ by more than one, as far as the
//! placement allows; first those of nodes that are short of memory go to others. The topology group's leader stays where it is and is
//! not counted. Not here: giving a draining node's leaders away (the node does that itself), replicas.

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{GroupId, NodeId};

use super::Observed;
use crate::placement::Placement;

/// One leadership goes from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderMove {
    pub group: GroupId,
    pub from: NodeId,
    pub to: NodeId,
}

/// The next transfer, or none if leaders are spread as evenly as they can be. Counts only what is led by nodes that may lead.
///
/// A move along the shortest chain of groups from a node with too many to one with at least two fewer: the last link first, so
/// that no node ever has more than it had. Each move shortens the chain or evens the counts, so asking again ends.
pub fn next_leader_move<'a>(
    placements: impl Iterator<Item = &'a Placement> + Clone,
    observed: &Observed,
) -> Option<LeaderMove> {
    let counts = counts(placements.clone(), observed);
    let links = links(placements, observed);
    if let Some(relief) = relief(&links, &counts, observed) {
        return Some(relief);
    }
    let mut from_most: Vec<(NodeId, usize)> = counts.iter().map(|(&it, &led)| (it, led)).collect();
    from_most.sort_by_key(|&(node, led)| (std::cmp::Reverse(led), node));
    from_most
        .into_iter()
        .find_map(|(node, led)| last_link(&links, &counts, node, led))
}

/// The transfers that lead from here to an even spread, in order, at most `limit`.
#[must_use]
pub fn spread<'a>(
    placements: impl Iterator<Item = &'a Placement> + Clone,
    observed: &Observed,
    limit: usize,
) -> Vec<LeaderMove> {
    let mut then = observed.clone();
    let mut moves = Vec::new();
    while moves.len() < limit
        && let Some(next) = next_leader_move(placements.clone(), &then)
    {
        then.leaders.insert(next.group, next.to);
        moves.push(next);
    }
    moves
}

/// The transfer that takes a leadership from a node that is short of memory to the node that leads fewest.
fn relief(
    links: &BTreeMap<NodeId, Vec<LeaderMove>>,
    counts: &BTreeMap<NodeId, usize>,
    observed: &Observed,
) -> Option<LeaderMove> {
    let short = links
        .iter()
        .filter(|(node, _)| observed.is_relieved(**node));
    let moves = short.flat_map(|(_, links)| links);
    let moves = moves.filter_map(|link| Some((*counts.get(&link.to)?, *link)));
    moves.min().map(|(_, link)| link)
}

/// Leaders of shards per node that may lead.
fn counts<'a>(
    placements: impl Iterator<Item = &'a Placement>,
    observed: &Observed,
) -> BTreeMap<NodeId, usize> {
    let able = observed.nodes.keys().copied();
    let able = able.filter(|&node| observed.takes_leaders(node));
    let mut counts: BTreeMap<NodeId, usize> = able.map(|node| (node, 0)).collect();
    for placement in placements.filter(|it| it.group.shard().is_some()) {
        let leader = observed.leader(placement.group);
        if let Some(led) = leader.and_then(|leader| counts.get_mut(&leader)) {
            *led += 1;
        }
    }
    counts
}

/// Transfers that could be made, by the node that would give.
fn links<'a>(
    placements: impl Iterator<Item = &'a Placement>,
    observed: &Observed,
) -> BTreeMap<NodeId, Vec<LeaderMove>> {
    let mut links: BTreeMap<NodeId, Vec<LeaderMove>> = BTreeMap::new();
    for placement in placements.filter(|it| it.group.shard().is_some()) {
        let group = placement.group;
        let Some(from) = observed.leader(group) else {
            continue;
        };
        if observed.resting.contains(&group) {
            continue;
        }
        let others = placement.members.iter().map(|it| it.node);
        let others = others.filter(|&it| it != from && observed.takes_leaders(it));
        links
            .entry(from)
            .or_default()
            .extend(others.map(|to| LeaderMove { group, from, to }));
    }
    links
}

/// Breadth first from `start` to the nearest node that leads at least two groups fewer, of several the one that leads fewest; the
/// transfer that reaches it.
fn last_link(
    links: &BTreeMap<NodeId, Vec<LeaderMove>>,
    counts: &BTreeMap<NodeId, usize>,
    start: NodeId,
    led: usize,
) -> Option<LeaderMove> {
    let mut seen = BTreeSet::from([start]);
    let mut level = vec![start];
    while !level.is_empty() {
        let mut next: Vec<LeaderMove> = Vec::new();
        for node in level {
            let links = links.get(&node).into_iter().flatten();
            next.extend(links.filter(|link| seen.insert(link.to)));
        }
        let fewer = next.iter().filter_map(|link| {
            let there = *counts.get(&link.to)?;
            (there + 2 <= led).then_some((there, *link))
        });
        if let Some((_, link)) = fewer.min() {
            return Some(link);
        }
        level = next.iter().map(|link| link.to).collect();
    }
    None
}
