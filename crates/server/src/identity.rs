//! Who this node is, as it tells others. Not here: the cluster it is part of (`formation`).

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use warren_codec::KNOWN_VERSIONS;
use warren_proto::internal_v1::NodeHello;
use warren_storage::DataDir;
use warren_topology::{Addresses, Node, Software};
use warren_types::{ClusterId, Incarnation, NodeId, Run};

use crate::config::Config;

/// What people call this software.
pub(crate) const SOFTWARE: &str = if cfg!(feature = "next-version") {
    concat!(env!("CARGO_PKG_VERSION"), "+next")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Fixed while the process runs.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) run: Run,
    pub(crate) cluster_name: String,
    pub(crate) zone: String,
    pub(crate) addresses: Addresses,
    /// The nodes it is configured to form a cluster with, itself too.
    pub(crate) peers: BTreeSet<NodeId>,
    disk: u128,
}

impl Identity {
    pub(crate) fn new(config: &Config, dir: &DataDir, addresses: Addresses) -> Self {
        let mut peers: BTreeSet<NodeId> = config.cluster.peers.iter().map(|peer| peer.id).collect();
        peers.insert(config.node.id);
        Self {
            node: config.node.id,
            incarnation: dir.incarnation(),
            run: dir.run(),
            cluster_name: config.cluster.name.clone(),
            zone: config.node.zone.clone(),
            addresses,
            peers,
            disk: dir.disk().0,
        }
    }

    /// As a member of a cluster.
    pub(crate) fn as_node(&self) -> Node {
        Node {
            id: self.node,
            incarnation: self.incarnation,
            addresses: self.addresses.clone(),
            zone: self.zone.as_str().into(),
            leaving: false,
            former: Vec::new(),
            software: Software {
                versions: KNOWN_VERSIONS,
                name: SOFTWARE.into(),
            },
        }
    }

    /// What it says when asked. `members`: those of the cluster it is part of.
    pub(crate) fn hello(&self, formed: Option<ClusterId>, members: &BTreeSet<NodeId>) -> NodeHello {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        NodeHello {
            cluster_name: self.cluster_name.clone(),
            node_id: self.node.0,
            incarnation: id_bytes(self.incarnation.0),
            run: self.run.0,
            zone: self.zone.clone(),
            capacity: 0,
            min_version: KNOWN_VERSIONS.oldest.0,
            max_version: KNOWN_VERSIONS.newest.0,
            formed_cluster_id: formed.map_or_else(Bytes::new, |cluster| id_bytes(cluster.0)),
            name: String::new(),
            node_endpoint: self.addresses.node.to_string(),
            client_endpoint: self.addresses.grpc.to_string(),
            amqp_endpoint: self.addresses.amqp.to_string(),
            software: SOFTWARE.to_owned(),
            disk_id: id_bytes(self.disk),
            peer_node_ids: members.iter().map(|node| node.0).collect(),
            wall_clock_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// An id of 16 bytes as messages carry it.
pub(crate) fn id_bytes(id: u128) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// `None`: not 16 bytes.
pub(crate) fn id_of(bytes: &[u8]) -> Option<u128> {
    bytes.try_into().ok().map(u128::from_be_bytes)
}
