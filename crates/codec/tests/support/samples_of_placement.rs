//! One of every command about nodes and replicas, in an order in which none is refused. Not here: other commands (`samples`).
#![allow(unreachable_pub)]

use warren_topology::{
    Addresses, AdmitNode, Copies, ForgetNode, MoveReplica, Node, PlacementCommand,
    PlacementSettled, SetCopies, SetLeaving, SetTopologyVoters, Software, Topology,
    TopologyCommand, TopologyReply, UndoMove,
};
use warren_types::{Generation, Incarnation, NodeId, ReplicaId, ShardId, TopologyIndex};

pub fn commands() -> Vec<(&'static str, TopologyCommand)> {
    let admit = |id, replaces| {
        PlacementCommand::AdmitNode(AdmitNode {
            node: node(id),
            replaces,
        })
    };
    let commands = [
        ("admit_node", admit(4, None)),
        ("admit_node_again", admit(4, Some(Incarnation(4)))),
        ("admit_another", admit(5, None)),
        (
            "move_replica",
            PlacementCommand::MoveReplica(MoveReplica {
                group: ShardId(1).into(),
                generation: Generation(1),
                add: Some(NodeId(4)),
                remove: Some(ReplicaId(4)),
            }),
        ),
        (
            "placement_settled",
            PlacementCommand::PlacementSettled(PlacementSettled {
                group: ShardId(1).into(),
                generation: Generation(2),
            }),
        ),
        (
            "set_topology_voters",
            PlacementCommand::SetTopologyVoters(SetTopologyVoters {
                generation: Generation(3),
                voters: vec![NodeId(2), NodeId(3), NodeId(4)],
            }),
        ),
        (
            "set_leaving",
            PlacementCommand::SetLeaving(SetLeaving {
                node: NodeId(5),
                leaving: true,
            }),
        ),
        (
            "forget_node",
            PlacementCommand::ForgetNode(ForgetNode { node: NodeId(5) }),
        ),
    ];
    let wrapped = commands.into_iter();
    wrapped
        .map(|(name, it)| (name, TopologyCommand::Placement(it)))
        .collect()
}

/// What version 2 adds; not refused by the cluster of the other samples when it has finalised that.
pub fn later() -> Vec<(&'static str, TopologyCommand)> {
    let set = |shard, generation, copies, add, remove| {
        TopologyCommand::Placement(PlacementCommand::SetCopies(SetCopies {
            group: ShardId(shard).into(),
            generation: Generation(generation),
            copies,
            add,
            remove,
        }))
    };
    let (node, replica) = (Some(NodeId(1)), Some(ReplicaId(8)));
    vec![
        ("set_copies", set(2, 1, Copies::Count(2), None, None)),
        ("set_copies_add", set(1, 2, Copies::Placed(4), node, None)),
        (
            "set_copies_remove",
            set(2, 1, Copies::Placed(2), None, replica),
        ),
        ("set_copies_factor", set(2, 2, Copies::Factor, None, None)),
        (
            "undo_move",
            TopologyCommand::Placement(PlacementCommand::UndoMove(UndoMove {
                group: ShardId(2).into(),
                generation: Generation(2),
                gone: ReplicaId(7),
                back: ReplicaId(8),
            })),
        ),
    ]
}

/// The upgraded cluster, after the first of `later`: those after them take back what they say.
pub fn with_copies(mut topology: Topology) -> Topology {
    let first = topology.index().0 + 1;
    let later = later().into_iter().take(3);
    for (at, (name, command)) in (first..).zip(later) {
        let reply = topology.apply(TopologyIndex(at), command);
        let done = TopologyReply::Done { changed: true };
        assert_eq!(reply, done, "{name}");
    }
    topology
}

pub fn node(id: u64) -> Node {
    Node {
        id: NodeId(id),
        incarnation: Incarnation(u128::from(id)),
        addresses: Addresses {
            node: "h:1".into(),
            grpc: "h:2".into(),
            amqp: "h:3".into(),
        },
        zone: "z".into(),
        leaving: false,
        former: Vec::new(),
        software: Software::default(),
    }
}
