//! Copies that somebody asks for: they come and go one by one, the cluster does not undo them, and what cannot be is refused. Not here:
//! what the cluster does by itself (`plan_replicas.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;
use warren_topology::plan::{
    Condition, CopiesRefused, CopiesWish, Limits, Observed, copies_change, next_changes,
};
use warren_topology::{
    Copies, PlacementCommand, PlacementFault, Refusal, SetCopies, SetLeaving, TopologyCommand,
    TopologyReply,
};
use warren_types::{ClusterVersion, GroupId, NodeId, ShardId};
use world::World;

fn count(count: u32) -> CopiesWish {
    CopiesWish::Count(Some(count))
}

/// A node on which shard 1 is not placed.
fn other(world: &World) -> u64 {
    let on = world.on(1);
    let nodes = world.topology.nodes().map(|it| it.id.0);
    nodes.into_iter().find(|it| !on.contains(it)).unwrap()
}

#[test]
fn shard_has_as_many_copies_as_asked_for_and_the_others_are_left_alone() {
    let mut world = World::new(5, 8);
    world.settle();
    for copies in [5, 3, 1, 2, 3] {
        assert_eq!(world.wish(1, count(copies)), Ok(true));
        assert_eq!(world.wish(1, count(copies)), Ok(false), "it is so already");
        world.settle();
        world.check_whole();
        assert_eq!(world.on(1).len(), usize::try_from(copies).unwrap());
        assert!((2..=8).all(|shard| world.on(shard).len() == 3));
    }
    assert_eq!(world.wish(1, CopiesWish::Count(None)), Ok(true));
    assert_eq!(world.wish(1, CopiesWish::Count(None)), Ok(false));
}

#[test]
fn change_is_never_more_than_one_copy_of_a_shard_at_a_time() {
    let mut world = World::new(5, 1);
    world.wish(1, count(5)).unwrap();
    let mut before = world.on(1).len();
    while world.step() {
        let now = world.on(1).len();
        assert!(now.abs_diff(before) <= 1, "{before} to {now}");
        before = now;
    }
    assert_eq!(before, 5);
}

#[test]
fn copy_stays_where_it_was_asked_for_and_is_replaced_when_its_node_is_lost() {
    let mut world = World::new(4, 6);
    world.settle();
    let there = other(&world);
    assert_eq!(world.wish(1, CopiesWish::Add(NodeId(there))), Ok(true));
    assert_eq!(world.wish(1, CopiesWish::Add(NodeId(there))), Ok(false));
    world.settle();
    assert_eq!(world.on(1), BTreeSet::from([1, 2, 3, 4]));
    // Nodes that have fewer take copies of other shards.
    world.admit(5, 5);
    world.admit(6, 6);
    world.settle();
    assert_eq!(world.on(1), BTreeSet::from([1, 2, 3, 4]));
    assert!((2..=6).any(|shard| world.on(shard).contains(&6)));
    world.nodes.insert(NodeId(there), Condition::Lost);
    world.settle();
    let now = world.on(1);
    assert!(now.len() == 4 && !now.contains(&there), "{now:?}");
    let leaving = |node| SetLeaving {
        node: NodeId(node),
        leaving: true,
    };
    for node in [there, 5] {
        world.nodes.insert(NodeId(node), Condition::Up);
        world.run(PlacementCommand::SetLeaving(leaving(node)));
        world.settle();
        assert!(world.topology.node(NodeId(node)).is_none());
    }
    assert_eq!(world.on(1).len(), 4);
}

#[test]
fn copy_that_was_removed_does_not_come_back_to_its_node() {
    let mut world = World::new(5, 5);
    world.settle();
    let node = *world.on(1).first().unwrap();
    assert_eq!(world.wish(1, CopiesWish::Remove(NodeId(node))), Ok(true));
    assert_eq!(world.wish(1, CopiesWish::Remove(NodeId(node))), Ok(false));
    world.settle();
    let now = world.on(1);
    assert!(now.len() == 2 && !now.contains(&node), "{now:?}");
    // Until the cluster is told to place it again.
    world.wish(1, CopiesWish::Count(None)).unwrap();
    world.settle();
    world.check_whole();
}

#[test]
fn what_is_away_goes_first_and_only_while_most_of_the_rest_answer() {
    let mut world = World::new(5, 1);
    world.wish(1, count(5)).unwrap();
    world.settle();
    for node in [2, 4] {
        world.nodes.insert(NodeId(node), Condition::Silent);
    }
    world.wish(1, count(3)).unwrap();
    world.settle();
    assert_eq!(world.on(1), BTreeSet::from([1, 3, 5]));
    world.nodes.insert(NodeId(3), Condition::Silent);
    let refused = world.wish(1, CopiesWish::Remove(NodeId(1)));
    let group = ShardId(1).into();
    let (left, up) = (2, 1);
    assert_eq!(refused, Err(CopiesRefused::NoMajority { group, left, up }));
    assert_eq!(world.wish(1, CopiesWish::Remove(NodeId(3))), Ok(true));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = World::new(5, 2);
    world.settle();
    let group = GroupId::from(ShardId(1));
    let there = *world.on(1).first().unwrap();
    let free = other(&world);
    let ask = |world: &World, observed: &Observed, group, wish| {
        copies_change(&world.topology, observed, group, wish)
            .map(drop)
            .unwrap_err()
    };
    let add = |node| CopiesWish::Add(NodeId(node));
    let remove = |node| CopiesWish::Remove(NodeId(node));
    let now = world.observed();
    for (wanted, told) in [
        (add(9), CopiesRefused::NoSuchNode(NodeId(9))),
        (remove(9), CopiesRefused::NoSuchNode(NodeId(9))),
        (count(0), CopiesRefused::Count { count: 0, nodes: 5 }),
        (count(6), CopiesRefused::Count { count: 6, nodes: 5 }),
    ] {
        assert_eq!(ask(&world, &now, group, wanted), told);
    }
    let nowhere = GroupId::from(ShardId(9));
    let told = CopiesRefused::NoSuchShard(nowhere);
    assert_eq!(ask(&world, &now, nowhere, add(free)), told);
    let told = CopiesRefused::Topology;
    assert_eq!(ask(&world, &now, GroupId::TOPOLOGY, add(free)), told);

    let mut doubtful = now.clone();
    doubtful.in_doubt.insert(group);
    let mut headless = now.clone();
    headless.leaders.clear();
    for wanted in [add(free), remove(there), count(5)] {
        let told = CopiesRefused::InDoubt(group);
        assert_eq!(ask(&world, &doubtful, group, wanted), told);
        let told = CopiesRefused::NoLeader(group);
        assert_eq!(ask(&world, &headless, group, wanted), told);
    }
    let node = NodeId(free);
    for (condition, told) in [
        (Condition::Draining, CopiesRefused::Draining(node)),
        (Condition::Silent, CopiesRefused::NotUp(node)),
        (Condition::Lost, CopiesRefused::NotUp(node)),
    ] {
        world.nodes.insert(node, condition);
        assert_eq!(world.wish(1, add(free)), Err(told));
    }
    world.nodes.insert(node, Condition::Up);
    let leaving = |leaving| PlacementCommand::SetLeaving(SetLeaving { node, leaving });
    world.run(leaving(true));
    assert_eq!(world.wish(1, add(free)), Err(CopiesRefused::Leaving(node)));
    world.run(leaving(false));

    world.wish(1, remove(there)).unwrap();
    let told = Err(CopiesRefused::Changing(group));
    assert_eq!(world.wish(1, add(free)), told);
    let next = *world.on(1).first().unwrap();
    assert_eq!(world.wish(1, remove(next)), told);
    world.wish(1, count(1)).unwrap();
    world.settle();
    let last = *world.on(1).first().unwrap();
    assert_eq!(
        world.wish(1, remove(last)),
        Err(CopiesRefused::LastCopy(group))
    );
}

#[test]
fn copy_on_its_way_is_taken_back_by_hand_or_when_its_node_is_lost_for_good() {
    for by_hand in [true, false] {
        let mut world = World::new(4, 1);
        world.settle();
        let (before, there) = (world.on(1), other(&world));
        world.wish(1, CopiesWish::Add(NodeId(there))).unwrap();
        world.nodes.insert(NodeId(there), Condition::Silent);
        for _ in 0..5 {
            world.step();
        }
        assert_eq!(world.on(1).len(), 4, "it is waited for");
        if by_hand {
            let back = world.wish(1, CopiesWish::Remove(NodeId(there)));
            assert_eq!(back, Ok(true));
        } else {
            world.nodes.insert(NodeId(there), Condition::Lost);
        }
        world.settle();
        assert_eq!(world.on(1), before);
        let placement = world.topology.placement(ShardId(1).into()).unwrap();
        assert!(placement.settled);
    }
}

#[test]
fn command_that_was_decided_by_another_placement_or_asks_for_nonsense_is_refused() {
    let mut world = World::new(4, 1);
    let group = ShardId(1).into();
    let placement = world.topology.placement(group).unwrap().clone();
    let fault = |world: &mut World, copies, generation, remove| {
        let reply = world.run(PlacementCommand::SetCopies(SetCopies {
            group,
            generation,
            copies,
            add: None,
            remove,
        }));
        if let TopologyReply::Refused(Refusal::PlacementRefused { reason }) = reply {
            return Some(reason);
        }
        None
    };
    let now = placement.generation;
    for copies in [Copies::Count(0), Copies::Placed(33)] {
        let told = fault(&mut world, copies, now, None);
        assert_eq!(told, Some(PlacementFault::Copies));
    }
    let first = placement.members[0].replica;
    assert_eq!(fault(&mut world, Copies::Placed(2), now, Some(first)), None);
    let told = fault(&mut world, Copies::Count(3), now, None);
    assert_eq!(told, Some(PlacementFault::Stale));
    let now = world.topology.placement(group).unwrap().generation;
    let second = placement.members[1].replica;
    let told = fault(&mut world, Copies::Placed(1), now, Some(second));
    assert_eq!(told, Some(PlacementFault::Changing));
    // How many there are to be may be said at any time.
    assert_eq!(fault(&mut world, Copies::Count(3), now, None), None);
}

#[test]
fn command_needs_version_2_and_older_clusters_plan_none() {
    let mut topology = support::formed();
    let mut observed = Observed {
        nodes: (1..=4).map(|it| (NodeId(it), Condition::Up)).collect(),
        leaders: topology
            .placements()
            .map(|it| (it.group, NodeId(1)))
            .collect(),
        ..Observed::default()
    };
    let group = ShardId(1).into();
    let change = copies_change(&topology, &observed, group, count(2));
    let change = PlacementCommand::SetCopies(change.unwrap().unwrap());
    let change = TopologyCommand::Placement(change);
    assert_eq!(change.since(), ClusterVersion(2));
    // A replica of an older cluster is on its way to a node that is lost.
    let admit = |id: u64| {
        let node = support::form(id, 1).nodes.pop().unwrap();
        PlacementCommand::AdmitNode(warren_topology::AdmitNode {
            node,
            replaces: None,
        })
    };
    let add = PlacementCommand::MoveReplica(warren_topology::MoveReplica {
        group,
        generation: warren_types::Generation(1),
        add: Some(NodeId(4)),
        remove: None,
    });
    for command in [admit(4), add] {
        let reply = support::run(&mut topology, TopologyCommand::Placement(command));
        assert_eq!(reply, TopologyReply::Done { changed: true });
    }
    observed.nodes.insert(NodeId(4), Condition::Lost);
    let planned = next_changes(&topology, &observed, Limits::default());
    let old = |it: &PlacementCommand| {
        TopologyCommand::Placement(it.clone()).since() == ClusterVersion::FIRST
    };
    assert!(planned.iter().all(old), "{planned:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// In a cluster that is whole: what was asked for comes about, one copy at a time, and stays so while nodes come.
    #[test]
    fn what_was_asked_for_comes_about_and_stays(
        nodes in 2..7_u64,
        shards in 1..9_u32,
        wishes in prop::collection::vec((any::<u32>(), any::<u8>(), any::<u64>()), 1..8),
    ) {
        let mut world = World::new(nodes, shards);
        world.settle();
        for (shard, what, at) in wishes {
            let (shard, node) = (1 + shard % shards, 1 + at % nodes);
            let copies = 1 + u32::try_from(at % nodes).unwrap();
            let wish = match what % 3 {
                0 => CopiesWish::Add(NodeId(node)),
                1 => CopiesWish::Remove(NodeId(node)),
                _ => count(copies),
            };
            let before = world.on(shard);
            if world.wish(shard, wish).is_err() {
                prop_assert_eq!(wish, CopiesWish::Remove(NodeId(node)), "only a last copy cannot go");
                prop_assert_eq!(before.len(), 1);
                continue;
            }
            world.settle();
            let now = world.on(shard);
            match wish {
                CopiesWish::Add(_) => prop_assert!(now.contains(&node) && now.is_superset(&before)),
                CopiesWish::Remove(_) => prop_assert!(!now.contains(&node) && now.is_subset(&before)),
                CopiesWish::Count(_) => prop_assert_eq!(now.len(), usize::try_from(copies).unwrap()),
            }
        }
        world.check_whole();
        let named = |world: &World| -> Vec<BTreeSet<u64>> {
            let shards = world.topology.placements();
            let named = shards.filter(|it| matches!(it.copies, Copies::Placed(_)));
            named.map(|it| it.members.iter().map(|it| it.node.0).collect()).collect()
        };
        let before = named(&world);
        world.admit(50, 50);
        world.settle();
        world.check_whole();
        prop_assert_eq!(named(&world), before);
    }
}
