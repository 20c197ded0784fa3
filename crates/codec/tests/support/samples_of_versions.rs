//! Nodes that know several versions, and what finalises one. Not here: other commands (`samples`).
#![allow(unreachable_pub, clippy::unwrap_used)]

use warren_topology::{
    Addresses, FinaliseVersion, Software, Topology, TopologyCommand, TopologyReply, UpdateNode,
};
use warren_types::{ClusterVersion, Incarnation, KnownVersions, NodeId, TopologyIndex};

/// In an order in which none is refused by the cluster of the other samples.
pub fn commands() -> Vec<(&'static str, TopologyCommand)> {
    let software = Software {
        versions: KnownVersions {
            oldest: ClusterVersion(1),
            newest: ClusterVersion(3),
        },
        name: "0.9.0".into(),
    };
    let update = |node, incarnation| {
        TopologyCommand::UpdateNode(UpdateNode {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            addresses: Addresses::default(),
            zone: "".into(),
            software: software.clone(),
        })
    };
    let version = ClusterVersion(2);
    let finalise = TopologyCommand::FinaliseVersion(FinaliseVersion { version });
    vec![
        ("update_software", update(1, 1)),
        ("update_software_2", update(2, 2)),
        ("update_software_3", update(3, 3)),
        ("update_software_4", update(4, 4)),
        ("finalise_version", finalise),
    ]
}

/// The other samples' cluster, upgraded.
pub fn upgraded(mut topology: Topology) -> Topology {
    let first = topology.index().0 + 1;
    for (at, (name, command)) in (first..).zip(commands()) {
        let reply = topology.apply(TopologyIndex(at), command);
        assert!(
            !matches!(reply, TopologyReply::Refused(_)),
            "{name}: {reply:?}"
        );
    }
    topology
}
