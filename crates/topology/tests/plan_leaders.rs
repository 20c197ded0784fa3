//! Laws of the spread of leaders, over random placements and conditions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use warren_topology::plan::{Condition, Observed, next_leader_move, spread};
use warren_topology::{Copies, Placement};
use warren_types::{Generation, GroupId, Member, NodeId, ReplicaId, ShardId};

fn placement(shard: u32, nodes: &[u64]) -> Placement {
    let member = |(place, &node): (usize, &u64)| Member {
        replica: ReplicaId(u64::from(shard) * 10 + u64::try_from(place).unwrap()),
        node: NodeId(node),
    };
    Placement {
        group: ShardId(shard).into(),
        generation: Generation(1),
        members: nodes.iter().enumerate().map(member).collect(),
        learners: Vec::new(),
        former: Vec::new(),
        settled: true,
        copies: Copies::Factor,
    }
}

fn observed(nodes: &[(u64, Condition)], leaders: &[(u32, u64)]) -> Observed {
    Observed {
        nodes: nodes.iter().map(|&(it, how)| (NodeId(it), how)).collect(),
        leaders: leaders
            .iter()
            .map(|&(shard, node)| (GroupId::from(ShardId(shard)), NodeId(node)))
            .collect(),
        ..Observed::default()
    }
}

const UP: Condition = Condition::Up;

#[test]
fn leaders_of_one_node_are_spread_over_three() {
    let placements: Vec<Placement> = (1..=6).map(|it| placement(it, &[1, 2, 3])).collect();
    let all_at_one: Vec<(u32, u64)> = (1..=6).map(|it| (it, 1)).collect();
    let seen = observed(&[(1, UP), (2, UP), (3, UP)], &all_at_one);
    let moves = spread(placements.iter(), &seen, 100);
    assert_eq!(moves.len(), 4, "{moves:?}");
    let to = |node: u64| moves.iter().filter(|it| it.to == NodeId(node)).count();
    assert_eq!((to(2), to(3)), (2, 2));
}

#[test]
fn draining_node_is_given_nothing() {
    let placements: Vec<Placement> = (1..=4).map(|it| placement(it, &[1, 2, 3])).collect();
    let all_at_one: Vec<(u32, u64)> = (1..=4).map(|it| (it, 1)).collect();
    let seen = observed(&[(1, UP), (2, Condition::Draining), (3, UP)], &all_at_one);
    let moves = spread(placements.iter(), &seen, 100);
    assert_eq!(moves.len(), 2);
    assert!(moves.iter().all(|it| it.to == NodeId(3)), "{moves:?}");
}

#[test]
fn leaders_leave_a_node_short_of_memory_and_come_back_when_it_has_enough() {
    let placements: Vec<Placement> = (1..=6).map(|it| placement(it, &[1, 2, 3])).collect();
    let leaders: Vec<(u32, u64)> = (1..=6).map(|it| (it, u64::from(it - 1) / 2 + 1)).collect();
    let mut seen = observed(&[(1, UP), (2, UP), (3, UP)], &leaders);
    assert_eq!(next_leader_move(placements.iter(), &seen), None);
    seen.short_of_memory.insert(NodeId(2));
    let moves = spread(placements.iter(), &seen, 100);
    let went: Vec<(u64, u64)> = moves.iter().map(|it| (it.from.0, it.to.0)).collect();
    assert_eq!(went, [(2, 1), (2, 3)]);
    seen.leaders
        .extend(moves.iter().map(|it| (it.group, it.to)));
    // A leader has nowhere to go when all are short.
    seen.short_of_memory.extend([NodeId(1), NodeId(3)]);
    assert_eq!(next_leader_move(placements.iter(), &seen), None);
    seen.short_of_memory.clear();
    let back = spread(placements.iter(), &seen, 100);
    assert_eq!(back.len(), 2);
    assert!(back.iter().all(|it| it.to == NodeId(2)), "{back:?}");
}

#[test]
fn resting_group_is_left_alone() {
    let placements = [placement(1, &[1, 2]), placement(2, &[1, 2])];
    let mut seen = observed(&[(1, UP), (2, UP)], &[(1, 1), (2, 1)]);
    seen.resting.insert(ShardId(1).into());
    let next = next_leader_move(placements.iter(), &seen).unwrap();
    assert_eq!(next.group, GroupId::from(ShardId(2)));
    seen.resting.insert(ShardId(2).into());
    assert_eq!(next_leader_move(placements.iter(), &seen), None);
}

#[test]
fn leader_goes_over_a_third_node_where_no_group_is_on_both() {
    // Node 1 leads three, node 3 none, and they share no group.
    let placements = [
        placement(1, &[1, 2]),
        placement(2, &[1, 2]),
        placement(3, &[1, 2]),
        placement(4, &[2, 3]),
        placement(5, &[2, 3]),
    ];
    let leaders = [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)];
    let seen = observed(&[(1, UP), (2, UP), (3, UP)], &leaders);
    let moves = spread(placements.iter(), &seen, 100);
    let mut counts = BTreeMap::from([(1, 3_i32), (2, 2), (3, 0)]);
    for it in &moves {
        *counts.get_mut(&it.from.0).unwrap() -= 1;
        *counts.get_mut(&it.to.0).unwrap() += 1;
    }
    assert!(counts.values().all(|it| (1..=2).contains(it)), "{moves:?}");
}

/// Nodes with their conditions, and groups: on which nodes, led by which of them.
fn worlds() -> impl Strategy<Value = (Vec<(u64, Condition)>, Vec<Placement>, Observed)> {
    let condition = prop_oneof![
        6 => Just(UP),
        1 => Just(Condition::Draining),
        1 => Just(Condition::Silent),
        1 => Just(Condition::Lost),
    ];
    let nodes = prop::collection::vec(condition, 1..8);
    (nodes, 1..40_u32, 1..5_usize, any::<u64>()).prop_map(|(nodes, shards, factor, salt)| {
        let nodes: Vec<(u64, Condition)> = (1..).zip(nodes).collect();
        let mut state = salt | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut leaders = Vec::new();
        let mut placements = Vec::new();
        for shard in 1..=shards {
            let mut on: Vec<u64> = nodes.iter().map(|it| it.0).collect();
            for at in (1..on.len()).rev() {
                let with = usize::try_from(random() % u64::try_from(at + 1).unwrap()).unwrap();
                on.swap(at, with);
            }
            on.truncate(factor);
            if !random().is_multiple_of(8) {
                let at = usize::try_from(random() % u64::try_from(on.len()).unwrap()).unwrap();
                leaders.push((shard, on[at]));
            }
            placements.push(placement(shard, &on));
        }
        let mut seen = observed(&nodes, &leaders);
        let short = nodes.iter().filter(|_| random().is_multiple_of(5));
        seen.short_of_memory = short.map(|it| NodeId(it.0)).collect();
        (nodes, placements, seen)
    })
}

proptest! {
    /// Ends; only voters of the group that are up are given anything, one group at a time; the fullest node never gets fuller by evening out.
    #[test]
    fn spread_ends_and_gives_only_to_voters_that_are_up((nodes, placements, seen) in worlds()) {
        let moves = spread(placements.iter(), &seen, 10_000);
        prop_assert!(moves.len() < 10_000, "it does not end");
        let up = |node: NodeId| nodes.contains(&(node.0, UP)) && !seen.short_of_memory.contains(&node);
        let count = |seen: &Observed, node: NodeId| seen.leaders.values().filter(|it| **it == node).count();
        let most = |seen: &Observed| nodes.iter().filter(|it| it.1 == UP).map(|it| count(seen, NodeId(it.0))).max();
        let mut then = seen.clone();
        for it in &moves {
            let before = most(&then);
            prop_assert_eq!(then.leader(it.group), Some(it.from));
            prop_assert!(up(it.to) && it.from != it.to);
            let placement = placements.iter().find(|placement| placement.group == it.group).unwrap();
            prop_assert!(placement.members.iter().any(|member| member.node == it.to));
            then.leaders.insert(it.group, it.to);
            // Whoever takes from a node that is short of memory may get fuller than anyone was.
            prop_assert!(seen.short_of_memory.contains(&it.from) || most(&then) <= before);
        }
        prop_assert_eq!(next_leader_move(placements.iter(), &then), None);
    }

    /// Where every node has a replica of every group, nodes that are up differ by one at most.
    #[test]
    fn spread_is_even_where_all_have_all(nodes in 1..7_u64, shards in 1..60_u32, salt in any::<u64>()) {
        let all: Vec<u64> = (1..=nodes).collect();
        let placements: Vec<Placement> = (1..=shards).map(|it| placement(it, &all)).collect();
        let leaders: Vec<(u32, u64)> = (1..=shards)
            .map(|shard| (shard, 1 + (salt.rotate_left(shard) % nodes)))
            .collect();
        let conditions: Vec<(u64, Condition)> = all.iter().map(|&it| (it, UP)).collect();
        let mut then = observed(&conditions, &leaders);
        for it in spread(placements.iter(), &then.clone(), 10_000) {
            then.leaders.insert(it.group, it.to);
        }
        let count = |node: u64| then.leaders.values().filter(|it| it.0 == node).count();
        let counts: Vec<usize> = all.iter().map(|&it| count(it)).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
    }
}
