//! What the configuration says to the layer of Raft: the other nodes, and the groups' timing. Not here: the configuration (`config`).

use std::time::Duration;

use warren_raft::{ClusterSecret, CompactionOptions, PeerOptions, Peers, RaftOptions};
use warren_types::ClusterId;

use crate::config::Config;
use crate::identity::Identity;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn peers(config: &Config, us: &Identity) -> Peers {
    let secret = config
        .cluster
        .secret
        .as_ref()
        .map_or(&[][..], |secret| secret.expose());
    Peers::new(PeerOptions {
        node: us.node,
        incarnation: us.incarnation,
        cluster_name: us.cluster_name.clone(),
        secret: ClusterSecret::new(secret),
        addresses: config
            .cluster
            .peers
            .iter()
            .map(|peer| (peer.id, peer.address.clone()))
            .collect(),
        connect_within: CONNECT_WITHIN,
    })
}

pub(crate) fn raft_options(config: &Config, cluster: ClusterId) -> RaftOptions {
    let raft = &config.raft;
    RaftOptions {
        heartbeat: raft.heartbeat,
        election_timeout: raft.election_timeout_min..raft.election_timeout_max,
        early_election: raft.early_election,
        compaction: CompactionOptions {
            every: raft.compaction_interval,
            applied_bytes: raft.compaction_bytes,
            ..CompactionOptions::default()
        },
        ..RaftOptions::new(config.node.id, cluster)
    }
}
