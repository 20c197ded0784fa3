//! What other nodes ask of this one about the topology; `server` puts it on the node-to-node listener. Not here: asking (`handle`).

use std::time::Duration;

use warren_codec::{CodecError, decode_topology_entry, encode_reply};
use warren_proto::internal_v1::{
    AppliedTopologyRequest, AppliedTopologyResponse, ProposeTopologyRequest,
    ProposeTopologyResponse, ReadTopologyIndexResponse, TopologyRefusal,
};
use warren_types::{GroupId, NodeId, TopologyIndex};

use super::handle::{Attempt, GIVE_UP_AFTER, TopologyHandle};

impl TopologyHandle {
    pub async fn serve_propose(&self, request: ProposeTopologyRequest) -> ProposeTopologyResponse {
        let entry = match decode_topology_entry(&request.entry) {
            Ok(entry) => entry,
            Err(CodecError::UnknownCommand { .. }) => {
                return propose_refusal(TopologyRefusal::UnknownCommand, None);
            }
            Err(_) => return propose_refusal(TopologyRefusal::BadRequest, None),
        };
        // The caller's copy may be ahead of this one.
        if self.check_version(&entry.command).is_err() {
            return propose_refusal(TopologyRefusal::NotFinalized, None);
        }
        let proposal = entry.proposal;
        match self.propose_here(request.entry, proposal).await {
            Attempt::Done((index, reply)) => ProposeTopologyResponse {
                leader_node: self.node().0,
                refusal: 0,
                topology_index: index.0,
                reply: encode_reply(&reply),
            },
            Attempt::Elsewhere(_) => propose_refusal(TopologyRefusal::NotLeader, self.leader()),
            Attempt::Unknown => propose_refusal(TopologyRefusal::OutcomeUnknown, None),
        }
    }

    pub async fn serve_read_index(&self) -> ReadTopologyIndexResponse {
        match self.read_here().await {
            Attempt::Done(index) => ReadTopologyIndexResponse {
                topology_index: index.0,
                ..Default::default()
            },
            Attempt::Elsewhere(_) | Attempt::Unknown => ReadTopologyIndexResponse {
                leader_node: self.leader().map_or(0, |node| node.0),
                refusal: TopologyRefusal::NotLeader.into(),
                topology_index: 0,
            },
        }
    }

    pub async fn serve_applied(&self, request: AppliedTopologyRequest) -> AppliedTopologyResponse {
        let within = Duration::from_millis(request.wait_ms).min(GIVE_UP_AFTER);
        // The answer says how far the copy is either way.
        let _reached = self
            .wait_applied(TopologyIndex(request.topology_index), within)
            .await;
        AppliedTopologyResponse {
            topology_index: self.current().index().0,
        }
    }

    /// The group whose leader is asked.
    pub const GROUP: GroupId = GroupId::TOPOLOGY;
}

fn propose_refusal(refusal: TopologyRefusal, leader: Option<NodeId>) -> ProposeTopologyResponse {
    ProposeTopologyResponse {
        leader_node: leader.map_or(0, |node| node.0),
        refusal: refusal.into(),
        ..Default::default()
    }
}
