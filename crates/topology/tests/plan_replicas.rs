//! Laws of the placement of replicas: a cluster whose nodes come, go, are lost and come back blank is played against the planner.
//! Not here: leaders (`plan_leaders.rs`), Raft itself: a membership changes when a majority of the old one and all new ones are up.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use support::*;
use warren_topology::plan::{Condition, Limits, Observed, next_changes};
use warren_topology::{
    AdmitNode, PlacementCommand, PlacementFault, PlacementSettled, Refusal, SetLeaving, Topology,
    TopologyCommand, TopologyReply,
};
use warren_types::{GroupId, Incarnation, Member, NodeId, ReplicaId};

/// A cluster: its topology, and what each group's Raft membership really is.
struct World {
    topology: Topology,
    voters: BTreeMap<GroupId, BTreeSet<Member>>,
    nodes: BTreeMap<NodeId, Condition>,
    used: BTreeSet<ReplicaId>,
}

impl World {
    fn new(nodes: u64, shards: u32) -> Self {
        let mut topology = Topology::new();
        run(
            &mut topology,
            TopologyCommand::FormCluster(form(nodes, shards)),
        );
        let voters = topology.placements();
        let voters = voters.map(|it| (it.group, it.members.iter().copied().collect()));
        let voters: BTreeMap<GroupId, BTreeSet<Member>> = voters.collect();
        let used = voters.values().flatten().map(|it| it.replica).collect();
        Self {
            voters,
            nodes: (1..=nodes).map(|it| (NodeId(it), Condition::Up)).collect(),
            used,
            topology,
        }
    }

    fn is_up(&self, node: NodeId) -> bool {
        matches!(
            self.nodes.get(&node),
            Some(Condition::Up | Condition::Draining)
        )
    }

    /// A majority of the members that the group really has answers.
    fn has_quorum(&self, group: GroupId) -> bool {
        let voters = &self.voters[&group];
        let up = voters.iter().filter(|it| self.answers(**it)).count();
        up > voters.len() / 2
    }

    /// The replica is on a node that is up and has not lost it.
    fn answers(&self, member: Member) -> bool {
        let placed = self.topology.placements().any(|it| {
            it.replicas().any(|known| *known == member)
                || it.former.contains(&member) && self.keeps(member)
        });
        placed && self.is_up(member.node)
    }

    /// A former replica answers unless its node has a newer one of the group: then its disk was replaced.
    fn keeps(&self, member: Member) -> bool {
        let newer = |it: &Member| it.node == member.node && it.replica > member.replica;
        let mut groups = self
            .topology
            .placements()
            .filter(|it| it.former.contains(&member));
        groups.all(|it| !it.replicas().any(newer))
    }

    fn observed(&self) -> Observed {
        let groups = self.topology.placements().map(|it| it.group);
        let led = groups.filter(|group| self.has_quorum(*group)).map(|group| {
            let leader = self.voters[&group].iter().find(|it| self.answers(**it));
            (group, leader.unwrap().node)
        });
        Observed {
            leaders: led.collect(),
            nodes: self.nodes.clone(),
            ..Observed::default()
        }
    }

    fn admit(&mut self, node: u64, incarnation: u128) {
        let id = NodeId(node);
        let mut command = form(node, 1).nodes.pop().unwrap();
        command.incarnation = Incarnation(incarnation);
        let replaces = self.topology.node(id).map(|it| it.incarnation);
        let reply = self.run(PlacementCommand::AdmitNode(AdmitNode {
            node: command,
            replaces,
        }));
        assert!(matches!(reply, TopologyReply::Done { .. }), "{reply:?}");
        self.nodes.insert(id, Condition::Up);
    }

    fn run(&mut self, command: PlacementCommand) -> TopologyReply {
        let reply = run(&mut self.topology, TopologyCommand::Placement(command));
        for member in self.topology.placements().flat_map(|it| it.replicas()) {
            self.used.insert(member.replica);
        }
        reply
    }

    /// Every leader makes its group's membership as it is placed, if that can be done now.
    fn converge(&mut self) {
        let groups: Vec<GroupId> = self.topology.placements().map(|it| it.group).collect();
        for group in groups {
            let placement = self.topology.placement(group).unwrap().clone();
            let wanted: BTreeSet<Member> = placement.members.iter().copied().collect();
            let caught_up = wanted
                .iter()
                .all(|it| self.voters[&group].contains(it) || self.is_up(it.node));
            let majority =
                wanted.iter().filter(|it| self.is_up(it.node)).count() > wanted.len() / 2;
            if placement.settled || !self.has_quorum(group) || !caught_up || !majority {
                continue;
            }
            self.voters.insert(group, wanted);
            let settled = PlacementSettled {
                group,
                generation: placement.generation,
            };
            self.run(PlacementCommand::PlacementSettled(settled));
        }
    }

    fn changing(&self) -> BTreeSet<GroupId> {
        let shards = self.topology.placements();
        let shards = shards.filter(|it| it.group.shard().is_some() && !it.settled);
        shards.map(|it| it.group).collect()
    }

    /// One round: plans, proposes, lets leaders work. False: there was nothing to do.
    fn step(&mut self) -> bool {
        let changes = next_changes(&self.topology, &self.observed(), Limits::default());
        let idle = changes.is_empty();
        let before = self.changing();
        let mut groups = BTreeSet::new();
        for change in changes {
            if let PlacementCommand::MoveReplica(it) = &change {
                assert!(groups.insert(it.group), "two changes of a group at once");
            }
            let reply = self.run(change.clone());
            assert_eq!(reply, TopologyReply::Done { changed: true }, "{change:?}");
        }
        let begun = self.changing().difference(&before).count();
        let room = Limits::default().changes_max.saturating_sub(before.len());
        assert!(
            begun <= room,
            "{begun} groups more, {} change already",
            before.len()
        );
        let busy = self
            .topology
            .placements()
            .any(|it| !it.settled && self.has_quorum(it.group));
        self.converge();
        busy || !idle
    }

    fn settle(&mut self) {
        let had: BTreeSet<GroupId> = self
            .voters
            .keys()
            .copied()
            .filter(|it| self.has_quorum(*it))
            .collect();
        for round in 0.. {
            assert!(round < 1_000, "it does not end");
            let more = self.step();
            for group in &had {
                assert!(self.has_quorum(*group), "group {group} lost its majority");
            }
            if !more {
                return;
            }
        }
    }

    fn staying(&self) -> BTreeSet<NodeId> {
        let nodes = self.topology.nodes().filter(|it| !it.leaving);
        nodes.map(|it| it.id).filter(|it| self.is_up(*it)).collect()
    }

    fn check_whole(&self) {
        let staying = self.staying();
        let factor = staying.len().min(3);
        let mut load: BTreeMap<NodeId, usize> = staying.iter().map(|it| (*it, 0)).collect();
        for placement in self.topology.placements() {
            assert!(
                placement.settled && placement.former.is_empty(),
                "{placement:?}"
            );
            let on: BTreeSet<NodeId> = placement.members.iter().map(|it| it.node).collect();
            assert_eq!(on.len(), placement.members.len());
            assert!(on.is_subset(&staying), "{placement:?}");
            let real: BTreeSet<Member> = placement.members.iter().copied().collect();
            assert_eq!(self.voters[&placement.group], real);
            if placement.group == GroupId::TOPOLOGY {
                assert!(on.len() <= 5);
                assert_eq!(placement.replicas().count(), self.topology.nodes().count());
            } else {
                assert_eq!(placement.members.len(), factor, "{placement:?}");
                on.iter().for_each(|it| *load.get_mut(it).unwrap() += 1);
            }
        }
        let (least, most) = (load.values().min().unwrap(), load.values().max().unwrap());
        assert!(most - least <= 1, "{load:?}");
    }
}

#[test]
fn cluster_grows_to_five_and_shrinks_to_three() {
    let mut world = World::new(3, 16);
    world.settle();
    let before = world.topology.to_parts();
    assert_eq!(
        before.next_replica,
        ReplicaId(3 + 48 + 1),
        "three nodes: nothing moves"
    );
    world.admit(4, 4);
    world.admit(5, 5);
    world.settle();
    world.check_whole();
    let voters = &world.topology.placement(GroupId::TOPOLOGY).unwrap().members;
    assert_eq!(voters.len(), 5);
    for node in [1, 2] {
        let leaving = SetLeaving {
            node: NodeId(node),
            leaving: true,
        };
        world.run(PlacementCommand::SetLeaving(leaving));
        world.settle();
        assert!(
            world.topology.node(NodeId(node)).is_none(),
            "node {node} is not forgotten"
        );
    }
    world.check_whole();
    assert_eq!(world.topology.nodes().count(), 3);
}

#[test]
fn lost_node_is_replaced_when_there_is_another_and_not_before() {
    let mut world = World::new(3, 8);
    world.nodes.insert(NodeId(2), Condition::Lost);
    world.settle();
    let moved = world
        .topology
        .placements()
        .any(|it| it.generation.0 > 1 && it.group.shard().is_some());
    assert!(!moved, "there is nowhere to go");
    let voters = |world: &World| -> Vec<NodeId> {
        let own = world.topology.placement(GroupId::TOPOLOGY).unwrap();
        own.members.iter().map(|it| it.node).collect()
    };
    assert_eq!(voters(&world).len(), 3, "a lost voter is not just dropped");
    world.admit(4, 4);
    world.settle();
    for placement in world
        .topology
        .placements()
        .filter(|it| it.group.shard().is_some())
    {
        assert!(placement.members.iter().all(|it| it.node != NodeId(2)));
        assert_eq!(placement.members.len(), 3);
    }
    assert_eq!(voters(&world), [1, 3, 4].map(NodeId));
}

#[test]
fn silent_node_is_waited_for() {
    let mut world = World::new(4, 8);
    world.nodes.insert(NodeId(2), Condition::Silent);
    let changes = next_changes(&world.topology, &world.observed(), Limits::default());
    let moves = changes
        .iter()
        .any(|it| matches!(it, PlacementCommand::MoveReplica(_)));
    assert!(!moves, "{changes:?}");
}

#[test]
fn copies_get_fewer_only_while_those_that_are_left_are_up() {
    let mut world = World::new(3, 4);
    world.run(PlacementCommand::SetLeaving(SetLeaving {
        node: NodeId(3),
        leaving: true,
    }));
    let moves = |world: &World| {
        let changes = next_changes(&world.topology, &world.observed(), Limits::default());
        let moves = changes.into_iter();
        moves
            .filter(|it| matches!(it, PlacementCommand::MoveReplica(_)))
            .count()
    };
    for condition in [Condition::Silent, Condition::Lost] {
        world.nodes.insert(NodeId(2), condition);
        assert_eq!(moves(&world), 0, "{condition:?}");
    }
    world.nodes.insert(NodeId(2), Condition::Up);
    assert_eq!(moves(&world), 2);
    world.settle();
    assert!(world.topology.node(NodeId(3)).is_none());
    world.check_whole();
}

#[test]
fn node_with_a_new_directory_gets_new_replicas_and_its_old_ones_never_come_back() {
    let mut world = World::new(3, 8);
    let before: BTreeSet<ReplicaId> = world.used.clone();
    let command = AdmitNode {
        node: form(2, 1).nodes.pop().unwrap(),
        replaces: None,
    };
    let mut other = command.clone();
    other.node.incarnation = Incarnation(7);
    let refused = world.run(PlacementCommand::AdmitNode(other));
    assert_eq!(
        refused,
        TopologyReply::Refused(Refusal::OtherIncarnation { node: NodeId(2) })
    );
    world.admit(2, 7);
    for placement in world.topology.placements() {
        let own = placement.on(NodeId(2)).unwrap();
        assert!(!before.contains(&own.replica));
        assert_eq!(placement.former.len(), 1);
    }
    world.settle();
    world.check_whole();
    let mut old = command;
    old.replaces = Some(Incarnation(7));
    let refused = world.run(PlacementCommand::AdmitNode(old));
    assert_eq!(
        refused,
        TopologyReply::Refused(Refusal::OtherIncarnation { node: NodeId(2) })
    );
}

#[test]
fn node_with_replicas_is_not_forgotten() {
    let mut world = World::new(4, 8);
    let node = NodeId(1);
    let forget = PlacementCommand::ForgetNode(warren_topology::ForgetNode { node });
    let fault = |reply| match reply {
        TopologyReply::Refused(Refusal::PlacementRefused { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(world.run(forget.clone())), PlacementFault::NotLeaving);
    world.run(PlacementCommand::SetLeaving(SetLeaving {
        node,
        leaving: true,
    }));
    assert_eq!(fault(world.run(forget)), PlacementFault::HasReplicas);
}

#[derive(Clone, Debug)]
enum Event {
    Add,
    Leave(usize),
    Stay(usize),
    Lose(usize),
    Wipe(usize),
    Back(usize),
    Steps(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => Just(Event::Add),
        2 => any::<usize>().prop_map(Event::Leave),
        1 => any::<usize>().prop_map(Event::Stay),
        2 => any::<usize>().prop_map(Event::Lose),
        2 => any::<usize>().prop_map(Event::Wipe),
        1 => any::<usize>().prop_map(Event::Back),
        4 => (1..6_usize).prop_map(Event::Steps),
    ];
    prop::collection::vec(event, 1..30)
}

impl World {
    fn pick(&self, at: usize) -> NodeId {
        let all: Vec<NodeId> = self.topology.nodes().map(|it| it.id).collect();
        all[at % all.len()]
    }

    /// Whether every group keeps its majority without the node.
    fn spares(&self, node: NodeId) -> bool {
        self.voters.values().all(|voters| {
            let up = voters
                .iter()
                .filter(|it| it.node != node && self.answers(**it))
                .count();
            up > voters.len() / 2
        })
    }

    fn happen(&mut self, event: &Event, next: &mut u64) {
        match *event {
            Event::Add if self.topology.nodes().count() < 8 => {
                *next += 1;
                self.admit(*next, u128::from(*next) << 20);
            }
            Event::Add => {}
            Event::Leave(at) | Event::Stay(at) => {
                let leaving = matches!(event, Event::Leave(_)) && self.staying().len() > 3;
                let node = self.pick(at);
                self.run(PlacementCommand::SetLeaving(SetLeaving { node, leaving }));
            }
            Event::Lose(at) => {
                let node = self.pick(at);
                if self.spares(node) {
                    self.nodes.insert(node, Condition::Lost);
                }
            }
            Event::Wipe(at) => {
                let node = self.pick(at);
                if self.spares(node) {
                    *next += 1;
                    self.admit(node.0, u128::from(*next) << 20);
                }
            }
            Event::Back(at) => {
                let node = self.pick(at);
                self.nodes.insert(node, Condition::Up);
            }
            Event::Steps(count) => {
                for _ in 0..count {
                    self.step();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happened: it ends, no group that had a majority loses it, no replica id comes twice, and when all that stay are
    /// up every group is whole and nodes have as many replicas as others.
    #[test]
    fn cluster_becomes_whole_whatever_happened(nodes in 1..6_u64, shards in 1..12_u32, events in events()) {
        let mut world = World::new(nodes, shards);
        let mut next = 100;
        for event in &events {
            world.happen(event, &mut next);
        }
        let all: Vec<NodeId> = world.topology.nodes().map(|it| it.id).collect();
        for node in all {
            world.nodes.insert(node, Condition::Up);
        }
        world.settle();
        world.check_whole();
        for node in world.topology.nodes() {
            prop_assert!(!node.leaving, "node {} is still leaving", node.id);
        }
    }
}
