//! Changes that cannot be finished: the replica that was to go stays after all. Not here: replicas that are only added (`plan_copies.rs`).
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
    MoveReplica, Placement, PlacementCommand, PlacementFault, Refusal, SetLeaving, TopologyReply,
    UndoMove,
};
use warren_types::{GroupId, Member, NodeId, ReplicaId, ShardId};
use world::{World, events};

const SHARD: u32 = 1;

fn shard(world: &World) -> Placement {
    let group = ShardId(SHARD).into();
    world.topology.placement(group).unwrap().clone()
}

/// Begins to move the shard's replica on `from` to `to`; gives that one.
fn begin(world: &mut World, from: u64, to: u64) -> Member {
    let now = shard(world);
    let goes = now.on(NodeId(from)).unwrap();
    let reply = world.run(PlacementCommand::MoveReplica(MoveReplica {
        group: now.group,
        generation: now.generation,
        add: Some(NodeId(to)),
        remove: Some(goes.replica),
    }));
    assert_eq!(reply, TopologyReply::Done { changed: true });
    goes
}

/// Shard 1 on nodes 1 to 3 of four, its copy of node 1 on its way to node 4, which is lost.
fn stuck() -> (World, Member) {
    let mut world = World::new(4, 1);
    world.settle();
    assert_eq!(world.on(SHARD), BTreeSet::from([1, 2, 3]));
    let goes = begin(&mut world, 1, 4);
    world.nodes.insert(NodeId(4), Condition::Lost);
    (world, goes)
}

fn planned(world: &World) -> Vec<PlacementCommand> {
    let changes = next_changes(&world.topology, &world.observed(), Limits::default());
    let own = changes.into_iter();
    own.filter(|it| !matches!(it, PlacementCommand::SetTopologyVoters(_)))
        .collect()
}

#[test]
fn replica_stays_after_all_when_the_node_it_was_to_go_to_is_lost() {
    let (mut world, stays) = stuck();
    world.settle();
    let now = shard(&world);
    assert!(now.settled && now.former.is_empty(), "{now:?}");
    assert!(now.members.contains(&stays), "{now:?}");
    assert_eq!(world.on(SHARD), BTreeSet::from([1, 2, 3]));
}

#[test]
fn only_replica_stays_after_all_when_the_node_it_was_to_go_to_is_lost() {
    let mut world = World::new(2, 1);
    world.wish(SHARD, CopiesWish::Count(Some(1))).unwrap();
    world.settle();
    let from = *world.on(SHARD).first().unwrap();
    let stays = begin(&mut world, from, 3 - from);
    world.nodes.insert(NodeId(3 - from), Condition::Lost);
    world.settle();
    assert_eq!(shard(&world).members, [stays]);
}

#[test]
fn node_that_is_only_silent_is_waited_for() {
    let (mut world, _) = stuck();
    world.nodes.insert(NodeId(4), Condition::Silent);
    assert_eq!(planned(&world), []);
}

#[test]
fn another_node_takes_it_if_there_is_one() {
    let (mut world, _) = stuck();
    world.admit(5, 5);
    let changes = planned(&world);
    assert!(
        matches!(&changes[..], [PlacementCommand::MoveReplica(it)] if it.add == Some(NodeId(5))),
        "{changes:?}"
    );
}

#[test]
fn replica_that_is_set_aside_or_away_does_not_stay() {
    let (mut world, stays) = stuck();
    let mut observed = world.observed();
    observed
        .set_aside
        .insert((ShardId(SHARD).into(), stays.replica));
    let plan = |world: &World, observed: &Observed| {
        let changes = next_changes(&world.topology, observed, Limits::default()).into_iter();
        changes
            .filter(|it| matches!(it, PlacementCommand::UndoMove(_)))
            .count()
    };
    assert_eq!(plan(&world, &world.observed()), 1);
    assert_eq!(plan(&world, &observed), 0);
    world.nodes.insert(NodeId(1), Condition::Silent);
    assert_eq!(plan(&world, &world.observed()), 0);
}

#[test]
fn two_nodes_that_leave_do_not_replace_each_other_for_ever() {
    let mut world = World::new(4, 1);
    world.settle();
    begin(&mut world, 1, 4);
    for node in [1, 4] {
        let node = NodeId(node);
        let leaving = true;
        world.run(PlacementCommand::SetLeaving(SetLeaving { node, leaving }));
    }
    world.settle();
    world.check_whole();
    assert_eq!(world.topology.nodes().count(), 2);
}

#[test]
fn replica_of_an_earlier_directory_and_what_is_not_under_way_is_refused() {
    let undo = |world: &mut World, gone: ReplicaId, back: ReplicaId| {
        let now = shard(world);
        let (group, generation) = (now.group, now.generation);
        let reply = world.run(PlacementCommand::UndoMove(UndoMove {
            group,
            generation,
            gone,
            back,
        }));
        if let TopologyReply::Refused(Refusal::PlacementRefused { reason }) = reply {
            return Some(reason);
        }
        None
    };
    let (mut world, stays) = stuck();
    let coming = shard(&world).on(NodeId(4)).unwrap();
    let told = undo(&mut world, stays.replica, coming.replica);
    assert_eq!(told, Some(PlacementFault::NoSuchReplica));
    // Its node has another disk now: nothing is stored of it.
    world.admit(1, 11);
    world.nodes.insert(NodeId(4), Condition::Lost);
    assert!(!world.topology.is_kept(&stays));
    let told = undo(&mut world, coming.replica, stays.replica);
    assert_eq!(told, Some(PlacementFault::NoSuchReplica));
    assert!(!matches!(
        &planned(&world)[..],
        [PlacementCommand::UndoMove(_)]
    ));

    let (mut world, stays) = stuck();
    assert_eq!(undo(&mut world, coming.replica, stays.replica), None);
    world.settle();
    let told = undo(&mut world, stays.replica, coming.replica);
    assert_eq!(told, Some(PlacementFault::Nothing));
}

#[test]
fn replicas_that_are_set_aside_do_not_count() {
    let mut world = World::new(3, 1);
    world.settle();
    let now = shard(&world);
    let aside = now.on(NodeId(2)).unwrap();
    let mut observed = world.observed();
    observed.set_aside.insert((now.group, aside.replica));
    // Of two that would be left only one works.
    let wish = CopiesWish::Remove(NodeId(1));
    let refused = copies_change(&world.topology, &observed, now.group, wish);
    let (left, up) = (2, 1);
    let group: GroupId = now.group;
    let told = CopiesRefused::NoMajority { group, left, up };
    assert_eq!(refused, Err(told));
    // Where there are to be fewer, it goes first.
    world.wish(SHARD, CopiesWish::Count(Some(2))).unwrap();
    let changes = next_changes(&world.topology, &observed, Limits::default());
    assert!(
        matches!(&changes[..], [PlacementCommand::MoveReplica(it)] if it.remove == Some(aside.replica)),
        "{changes:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happened, and whoever is lost for good: no change of a shard that has a majority waits for a node that is lost while
    /// another is there that could have the replica.
    #[test]
    fn no_change_is_under_way_for_ever(nodes in 2..6_u64, shards in 1..6_u32, events in events()) {
        let mut world = World::new(nodes, shards);
        let mut next = 100;
        for event in &events {
            world.happen(event, &mut next);
        }
        for _ in 0..300 {
            world.step();
        }
        for placement in world.topology.placements().filter(|it| it.group.shard().is_some()) {
            let good = placement.members.iter().filter(|it| world.is_up(it.node)).count();
            let waits = !placement.settled && world.has_quorum(placement.group);
            if !waits || good <= placement.members.len() / 2 {
                continue;
            }
            let free = world.staying().into_iter().filter(|it| placement.on(*it).is_none());
            prop_assert_eq!(free.count(), 0, "{:?}", placement);
        }
    }
}
