//! A cluster whose nodes come, go, are lost and come back blank, played against the planner: a membership changes when a majority of the
//! old one and all new ones are up. Not here: what happens to it (`plan_replicas.rs`, `plan_copies.rs`), leaders.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warren_topology::plan::{
    Condition, CopiesRefused, CopiesWish, Limits, Observed, copies_change, next_changes,
};
use warren_topology::{
    AdmitNode, Copies, Node, PlacementCommand, PlacementSettled, SetLeaving, Software, Topology,
    TopologyCommand, TopologyReply,
};
use warren_types::{
    ClusterVersion, GroupId, Incarnation, KnownVersions, Member, NodeId, ReplicaId, ShardId,
};

use super::support::{form, run};

/// A cluster: its topology, and what each group's Raft membership really is.
pub struct World {
    pub topology: Topology,
    pub voters: BTreeMap<GroupId, BTreeSet<Member>>,
    pub nodes: BTreeMap<NodeId, Condition>,
    pub used: BTreeSet<ReplicaId>,
}

impl World {
    pub fn new(nodes: u64, shards: u32) -> Self {
        let mut topology = Topology::new();
        let mut formed = form(nodes, shards);
        formed.version = ClusterVersion(2);
        formed.nodes.iter_mut().for_each(upgrade);
        run(&mut topology, TopologyCommand::FormCluster(formed));
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

    pub fn is_up(&self, node: NodeId) -> bool {
        matches!(
            self.nodes.get(&node),
            Some(Condition::Up | Condition::Draining)
        )
    }

    /// A majority of the members that the group really has answers.
    pub fn has_quorum(&self, group: GroupId) -> bool {
        let voters = &self.voters[&group];
        let up = voters.iter().filter(|it| self.answers(**it)).count();
        up > voters.len() / 2
    }

    /// The replica is on a node that is up and has not lost it.
    pub fn answers(&self, member: Member) -> bool {
        let placed = self.topology.placements().any(|it| {
            it.replicas().any(|known| *known == member)
                || it.former.contains(&member) && self.keeps(member)
        });
        placed && self.is_up(member.node)
    }

    /// A former replica answers unless its node has a newer one of the group: then its disk was replaced.
    pub fn keeps(&self, member: Member) -> bool {
        let newer = |it: &Member| it.node == member.node && it.replica > member.replica;
        let mut groups = self
            .topology
            .placements()
            .filter(|it| it.former.contains(&member));
        groups.all(|it| !it.replicas().any(newer))
    }

    pub fn observed(&self) -> Observed {
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

    pub fn admit(&mut self, node: u64, incarnation: u128) {
        let id = NodeId(node);
        let mut command = form(node, 1).nodes.pop().unwrap();
        command.incarnation = Incarnation(incarnation);
        upgrade(&mut command);
        let replaces = self.topology.node(id).map(|it| it.incarnation);
        let reply = self.run(PlacementCommand::AdmitNode(AdmitNode {
            node: command,
            replaces,
        }));
        assert!(matches!(reply, TopologyReply::Done { .. }), "{reply:?}");
        self.nodes.insert(id, Condition::Up);
    }

    pub fn run(&mut self, command: PlacementCommand) -> TopologyReply {
        let reply = run(&mut self.topology, TopologyCommand::Placement(command));
        for member in self.topology.placements().flat_map(|it| it.replicas()) {
            self.used.insert(member.replica);
        }
        reply
    }

    /// Every leader makes its group's membership as it is placed, if that can be done now.
    pub fn converge(&mut self) {
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

    pub fn changing(&self) -> BTreeSet<GroupId> {
        let shards = self.topology.placements();
        let shards = shards.filter(|it| it.group.shard().is_some() && !it.settled);
        shards.map(|it| it.group).collect()
    }

    /// Plans and proposes. False: there was nothing to do.
    pub fn plan(&mut self) -> bool {
        let changes = next_changes(&self.topology, &self.observed(), Limits::default());
        let idle = changes.is_empty();
        let before = self.changing();
        let mut groups = BTreeSet::new();
        for change in changes {
            let group = match &change {
                PlacementCommand::MoveReplica(it) => Some(it.group),
                PlacementCommand::SetCopies(it) => Some(it.group),
                PlacementCommand::UndoMove(it) => Some(it.group),
                _ => None,
            };
            let first = group.is_none_or(|it| groups.insert(it));
            assert!(first, "two changes of a group at once");
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
        !idle
    }

    /// One round: plans, proposes, lets leaders work. False: there was nothing to do.
    pub fn step(&mut self) -> bool {
        let planned = self.plan();
        let busy = self
            .topology
            .placements()
            .any(|it| !it.settled && self.has_quorum(it.group));
        self.converge();
        busy || planned
    }

    pub fn settle(&mut self) {
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

    pub fn staying(&self) -> BTreeSet<NodeId> {
        let nodes = self.topology.nodes().filter(|it| !it.leaving);
        nodes.map(|it| it.id).filter(|it| self.is_up(*it)).collect()
    }

    pub fn check_whole(&self) {
        let staying = self.staying();
        let mut named = false;
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
                let wanted = usize::try_from(placement.copies.count(3)).unwrap();
                let wanted = wanted.min(staying.len());
                assert_eq!(placement.members.len(), wanted, "{placement:?}");
                named |= matches!(placement.copies, Copies::Placed(_));
                on.iter().for_each(|it| *load.get_mut(it).unwrap() += 1);
            }
        }
        let (least, most) = (load.values().min().unwrap(), load.values().max().unwrap());
        assert!(named || most - least <= 1, "{load:?}");
    }

    /// What an operator asks; true: something changes.
    pub fn wish(&mut self, shard: u32, wish: CopiesWish) -> Result<bool, CopiesRefused> {
        let group = ShardId(shard).into();
        let change = copies_change(&self.topology, &self.observed(), group, wish)?;
        let Some(change) = change else {
            return Ok(false);
        };
        let reply = self.run(PlacementCommand::SetCopies(change.clone()));
        assert_eq!(reply, TopologyReply::Done { changed: true }, "{change:?}");
        Ok(true)
    }

    /// The nodes that a shard is placed on.
    pub fn on(&self, shard: u32) -> BTreeSet<u64> {
        let placement = self.topology.placement(ShardId(shard).into()).unwrap();
        placement.members.iter().map(|it| it.node.0).collect()
    }
}

/// Its software knows version 2.
pub fn upgrade(node: &mut Node) {
    node.software = Software {
        versions: KnownVersions {
            oldest: ClusterVersion::FIRST,
            newest: ClusterVersion(2),
        },
        name: "".into(),
    };
}

#[derive(Clone, Debug)]
pub enum Event {
    Add,
    Leave(usize),
    Stay(usize),
    Lose(usize),
    Wipe(usize),
    Back(usize),
    Steps(usize),
    /// A step is begun, and what comes next comes in the middle of it.
    Begin,
    /// Of a shard: what, and which node or how many.
    Copies(u32, u8, usize),
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => Just(Event::Add),
        2 => any::<usize>().prop_map(Event::Leave),
        1 => any::<usize>().prop_map(Event::Stay),
        2 => any::<usize>().prop_map(Event::Lose),
        2 => any::<usize>().prop_map(Event::Wipe),
        1 => any::<usize>().prop_map(Event::Back),
        4 => (1..6_usize).prop_map(Event::Steps),
        2 => Just(Event::Begin),
        4 => (any::<u32>(), any::<u8>(), any::<usize>()).prop_map(|(shard, what, at)| Event::Copies(shard, what, at)),
    ];
    prop::collection::vec(event, 1..30)
}

impl World {
    pub fn pick(&self, at: usize) -> NodeId {
        let all: Vec<NodeId> = self.topology.nodes().map(|it| it.id).collect();
        all[at % all.len()]
    }

    /// Whether every group keeps its majority without the node.
    pub fn spares(&self, node: NodeId) -> bool {
        self.voters.values().all(|voters| {
            let up = voters
                .iter()
                .filter(|it| it.node != node && self.answers(**it))
                .count();
            up > voters.len() / 2
        })
    }

    pub fn happen(&mut self, event: &Event, next: &mut u64) {
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
            Event::Copies(shard, what, at) => {
                let shards = u32::try_from(self.topology.placements().len() - 1).unwrap();
                let count = u32::try_from(at % 6).unwrap();
                let wish = match what % 4 {
                    0 => CopiesWish::Add(self.pick(at)),
                    1 => CopiesWish::Remove(self.pick(at)),
                    2 => CopiesWish::Count(Some(count)),
                    _ => CopiesWish::Count(None),
                };
                // What is refused changes nothing, and is judged elsewhere.
                let _ = self.wish(1 + shard % shards, wish);
            }
            Event::Begin => {
                self.plan();
            }
            Event::Steps(count) => {
                for _ in 0..count {
                    self.step();
                }
            }
        }
    }
}
