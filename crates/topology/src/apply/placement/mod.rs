//! Commands about nodes and replicas: `nodes` and `replicas`. Not here: which of them are wanted (`plan`), carrying them out.

mod nodes;
mod replicas;

use std::sync::Arc;

use warren_types::{GroupId, Member, NodeId};

use crate::{
    command::PlacementCommand,
    placement::Placement,
    reply::{PlacementFault, Refusal, TopologyReply},
    topology::Topology,
};

/// Every node has a replica of the topology and a stream to every other.
pub(crate) const NODES_MAX: usize = 32;

pub(super) fn apply(
    topology: &mut Topology,
    command: PlacementCommand,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    match command {
        PlacementCommand::AdmitNode(it) => nodes::admit(topology, it),
        PlacementCommand::SetLeaving(it) => nodes::set_leaving(topology, &it),
        PlacementCommand::ForgetNode(it) => nodes::forget(topology, &it),
        PlacementCommand::MoveReplica(it) => replicas::move_replica(topology, &it),
        PlacementCommand::SetTopologyVoters(it) => replicas::set_topology_voters(topology, &it),
        PlacementCommand::PlacementSettled(it) => replicas::settled(topology, &it),
        PlacementCommand::SetCopies(it) => replicas::set_copies(topology, &it),
        PlacementCommand::UndoMove(it) => replicas::undo_move(topology, &it),
    }
}

fn refused(reason: PlacementFault) -> Refusal {
    Refusal::PlacementRefused { reason }
}

fn done(changed: bool) -> TopologyReply {
    TopologyReply::Done { changed }
}

impl Topology {
    fn new_replica(&mut self, node: NodeId) -> Member {
        let replica = self.next.replica;
        self.next.replica.0 += 1;
        Member { replica, node }
    }

    fn placement_mut(&mut self, group: GroupId) -> Result<&mut Placement, Refusal> {
        let placements = Arc::make_mut(&mut self.placements);
        let found = placements.get_mut(&group);
        found.ok_or(refused(PlacementFault::NoSuchGroup))
    }
}
