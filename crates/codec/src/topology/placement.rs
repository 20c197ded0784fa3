//! Commands about nodes and replicas. Not here: what the commands do (`warren-topology`).

use bytes::Bytes;
use warren_proto::stored_v1 as pb;
use warren_proto::stored_v1::placement_command::Kind;
use warren_topology::{
    AdmitNode, ForgetNode, MoveReplica, PlacementCommand, PlacementSettled, SetCopies, SetLeaving,
    SetTopologyVoters, UndoMove,
};
use warren_types::{Generation, GroupId, NodeId, ReplicaId};

use super::command::there;
use super::objects;
use crate::{entry::incarnation, error::CodecError};

pub(super) fn encode(command: &PlacementCommand) -> pb::PlacementCommand {
    let kind = match command {
        PlacementCommand::AdmitNode(it) => Kind::AdmitNode(pb::AdmitNode {
            node: Some(objects::node(&it.node)),
            replaces: it
                .replaces
                .map_or_else(Bytes::new, |it| Bytes::copy_from_slice(&it.0.to_be_bytes())),
        }),
        PlacementCommand::SetLeaving(it) => Kind::SetLeaving(pb::SetLeaving {
            node: it.node.0,
            leaving: it.leaving,
        }),
        PlacementCommand::ForgetNode(it) => Kind::ForgetNode(pb::ForgetNode { node: it.node.0 }),
        PlacementCommand::MoveReplica(it) => Kind::MoveReplica(pb::MoveReplica {
            group: it.group.0,
            generation: it.generation.0,
            add_node: it.add.map_or(0, |it| it.0),
            remove_replica: it.remove.map_or(0, |it| it.0),
        }),
        PlacementCommand::SetTopologyVoters(it) => Kind::SetTopologyVoters(pb::SetTopologyVoters {
            generation: it.generation.0,
            nodes: it.voters.iter().map(|it| it.0).collect(),
        }),
        PlacementCommand::PlacementSettled(it) => Kind::PlacementSettled(pb::PlacementSettled {
            group: it.group.0,
            generation: it.generation.0,
        }),
        PlacementCommand::SetCopies(it) => {
            let (copies, placed) = objects::copies(it.copies);
            Kind::SetCopies(pb::SetCopies {
                group: it.group.0,
                generation: it.generation.0,
                copies,
                placed,
                add_node: it.add.map_or(0, |it| it.0),
                remove_replica: it.remove.map_or(0, |it| it.0),
            })
        }
        PlacementCommand::UndoMove(it) => Kind::UndoMove(pb::UndoMove {
            group: it.group.0,
            generation: it.generation.0,
            gone_replica: it.gone.0,
            back_replica: it.back.0,
        }),
    };
    pb::PlacementCommand { kind: Some(kind) }
}

pub(super) fn decode(command: pb::PlacementCommand) -> Result<PlacementCommand, CodecError> {
    Ok(match there(command.kind)? {
        Kind::AdmitNode(it) => PlacementCommand::AdmitNode(AdmitNode {
            node: objects::decode_node(there(it.node)?)?,
            replaces: if it.replaces.is_empty() {
                None
            } else {
                Some(incarnation(&it.replaces)?)
            },
        }),
        Kind::SetLeaving(it) => PlacementCommand::SetLeaving(SetLeaving {
            node: NodeId(it.node),
            leaving: it.leaving,
        }),
        Kind::ForgetNode(it) => PlacementCommand::ForgetNode(ForgetNode {
            node: NodeId(it.node),
        }),
        Kind::MoveReplica(it) => PlacementCommand::MoveReplica(MoveReplica {
            group: GroupId(it.group),
            generation: Generation(it.generation),
            add: (it.add_node != 0).then_some(NodeId(it.add_node)),
            remove: (it.remove_replica != 0).then_some(ReplicaId(it.remove_replica)),
        }),
        Kind::SetTopologyVoters(it) => PlacementCommand::SetTopologyVoters(SetTopologyVoters {
            generation: Generation(it.generation),
            voters: it.nodes.into_iter().map(NodeId).collect(),
        }),
        Kind::PlacementSettled(it) => PlacementCommand::PlacementSettled(PlacementSettled {
            group: GroupId(it.group),
            generation: Generation(it.generation),
        }),
        Kind::SetCopies(it) => PlacementCommand::SetCopies(SetCopies {
            group: GroupId(it.group),
            generation: Generation(it.generation),
            copies: objects::decode_copies(it.copies, it.placed),
            add: (it.add_node != 0).then_some(NodeId(it.add_node)),
            remove: (it.remove_replica != 0).then_some(ReplicaId(it.remove_replica)),
        }),
        Kind::UndoMove(it) => PlacementCommand::UndoMove(UndoMove {
            group: GroupId(it.group),
            generation: Generation(it.generation),
            gone: ReplicaId(it.gone_replica),
            back: ReplicaId(it.back_replica),
        }),
    })
}
