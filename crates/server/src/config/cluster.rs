//! `[cluster]`: its name, its secret, its nodes, and how it is formed. Not here: forming it (`formation`).

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use warren_types::NodeId;

use super::Config;
use super::listen::endpoint_fault;
use super::report::Report;
use super::secret::Secret;
use super::setting::{Kind, Setting, whole};
use super::units::{duration, show_duration};

#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Nodes of other names are not spoken to.
    pub name: String,
    pub secret_file: Option<PathBuf>,
    /// What all nodes know, from the file or the environment. `None`: anyone who reaches the node listener is a node.
    pub secret: Option<Secret>,
    /// All nodes that form the cluster, this one too; empty = this one alone.
    pub peers: Vec<Peer>,
    /// Used by the node that forms the cluster, then fixed.
    pub shards: u32,
    /// Used by the node that forms the cluster.
    pub replication_factor: u32,
    /// A shard whose leader has changed is left where it is for so long, before leaders are spread again.
    pub leader_rest: Duration,
    /// The replicas of a node that is silent for so long are replaced on others.
    pub repair_after: Duration,
    /// A version that all nodes have known for so long without interruption is finalised.
    pub finalise_after: Duration,
}

/// One node of the static list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub id: NodeId,
    /// `host:port` of its node listener.
    pub address: String,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: "warren".to_owned(),
            secret_file: None,
            secret: None,
            peers: Vec::new(),
            shards: 16,
            replication_factor: 3,
            leader_rest: Duration::from_secs(30),
            repair_after: Duration::from_secs(600),
            finalise_after: Duration::from_secs(24 * 3_600),
        }
    }
}

const SECRET_BYTES_MIN: usize = 16;
const NAME_BYTES_MAX: usize = 255;
/// Every node votes on the topology.
const PEERS_MAX: usize = 9;
const SHARDS_MAX: u32 = 4_096;

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "cluster.name",
        about: "nodes of another name are not spoken to [default: warren]",
        kind: Kind::Text,
        set: |config, text| {
            config.cluster.name = text.to_owned();
            Ok(())
        },
        show: |config| format!("{:?}", config.cluster.name),
    },
    Setting {
        name: "cluster.secret_file",
        about: "file with the secret that all nodes of the cluster know",
        kind: Kind::Path,
        set: |config, text| {
            config.cluster.secret_file = (!text.is_empty()).then(|| PathBuf::from(text));
            Ok(())
        },
        show: |config| {
            config
                .cluster
                .secret_file
                .as_ref()
                .map_or("none".into(), |path| format!("{path:?}"))
        },
    },
    Setting {
        name: "cluster.secret",
        about: "the secret itself; from the environment only",
        kind: Kind::Secret,
        set: |config, text| {
            config.cluster.secret = Some(Secret::new(text.trim()));
            Ok(())
        },
        show: |config| {
            config
                .cluster
                .secret
                .as_ref()
                .map_or("none".into(), Secret::to_string)
        },
    },
    Setting {
        name: "cluster.peers",
        about: "all nodes that form the cluster, or this one and members of the cluster it is to join [default: this one alone]",
        kind: Kind::Peers,
        set: |config, text| {
            config.cluster.peers = peers(text)?;
            Ok(())
        },
        show: |config| {
            let peers = config
                .cluster
                .peers
                .iter()
                .map(|peer| format!("{}={}", peer.id, peer.address));
            format!("[{}]", peers.collect::<Vec<_>>().join(","))
        },
    },
    Setting {
        name: "cluster.shards",
        about: "shards of a cluster that is formed [default: 16]",
        kind: Kind::Whole,
        set: |config, text| {
            config.cluster.shards = whole(text)?;
            Ok(())
        },
        show: |config| config.cluster.shards.to_string(),
    },
    Setting {
        name: "cluster.replication_factor",
        about: "copies of each shard in a cluster that is formed [default: 3]",
        kind: Kind::Whole,
        set: |config, text| {
            config.cluster.replication_factor = whole(text)?;
            Ok(())
        },
        show: |config| config.cluster.replication_factor.to_string(),
    },
    Setting {
        name: "cluster.leader_rest",
        about: "a shard whose leader changed stays there so long before leaders are spread evenly again [default: 30s]",
        kind: Kind::Duration,
        set: |config, text| {
            config.cluster.leader_rest = duration(text)?;
            Ok(())
        },
        show: |config| show_duration(config.cluster.leader_rest),
    },
    Setting {
        name: "cluster.repair_after",
        about: "replicas of a node that is silent for so long are replaced on others, if there are any [default: 10min]",
        kind: Kind::Duration,
        set: |config, text| {
            config.cluster.repair_after = duration(text)?;
            Ok(())
        },
        show: |config| show_duration(config.cluster.repair_after),
    },
    Setting {
        name: "cluster.finalise_after",
        about: "a new version is finalised when all nodes have known it for so long without interruption; until then each can go back [default: 24h]",
        kind: Kind::Duration,
        set: |config, text| {
            config.cluster.finalise_after = duration(text)?;
            Ok(())
        },
        show: |config| show_duration(config.cluster.finalise_after),
    },
];

fn peers(text: &str) -> Result<Vec<Peer>, Option<String>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let peer = |part: &str| {
        let (id, address) = part.split_once('=').ok_or(None)?;
        Ok(Peer {
            id: NodeId(whole(id)?),
            address: address.trim().to_owned(),
        })
    };
    text.split(',').map(peer).collect()
}

/// Takes the secret from its file, unless the environment gave it.
pub(super) fn read_secret(config: &mut Config, report: &mut Report) {
    let cluster = &mut config.cluster;
    let from = if cluster.secret.is_some() {
        "cluster.secret"
    } else if let Some(path) = &cluster.secret_file {
        match read_secret_file(path, report) {
            Ok(secret) => cluster.secret = Some(secret),
            Err(why) => return report.wrong("cluster.secret_file", why),
        }
        "cluster.secret_file"
    } else {
        return;
    };
    let bytes = cluster
        .secret
        .as_ref()
        .map_or(0, |secret| secret.expose().len());
    if bytes < SECRET_BYTES_MIN {
        report.wrong(
            from,
            format!("the secret has {bytes} bytes; it needs at least {SECRET_BYTES_MIN}"),
        );
    }
}

pub(super) fn read_secret_file(path: &Path, report: &mut Report) -> Result<Secret, String> {
    let failed =
        |error: std::io::Error| format!("{}: the secret cannot be read: {error}", path.display());
    let content = std::fs::read(path).map_err(failed)?;
    let mode = std::fs::metadata(path)
        .map_err(failed)?
        .permissions()
        .mode();
    // A mounted secret belongs to root, and its group may read it: that is how a container gets it.
    if mode & 0o037 != 0 {
        let text = format!(
            "others than its owner and group can read the secret in {}: chmod 600",
            path.display()
        );
        report.warnings.push(text);
    }
    Ok(Secret::new(content.trim_ascii()))
}

pub(super) fn check(config: &Config, report: &mut Report) {
    let cluster = &config.cluster;
    let name = &cluster.name;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        report.wrong(
            "cluster.name",
            format!("is 1 to {NAME_BYTES_MAX} bytes without control characters"),
        );
    }
    if !(1..=SHARDS_MAX).contains(&cluster.shards) {
        report.wrong(
            "cluster.shards",
            format!("is {}; allowed are 1 to {SHARDS_MAX}", cluster.shards),
        );
    }
    if !(1..=9).contains(&cluster.replication_factor) {
        let found = cluster.replication_factor;
        report.wrong(
            "cluster.replication_factor",
            format!("is {found}; allowed are 1 to 9"),
        );
    }
    check_peers(config, report);
}

fn check_peers(config: &Config, report: &mut Report) {
    let peers = &config.cluster.peers;
    if peers.is_empty() {
        return;
    }
    if peers.len() > PEERS_MAX {
        report.wrong(
            "cluster.peers",
            format!(
                "names {} nodes; at most {PEERS_MAX} are allowed",
                peers.len()
            ),
        );
    }
    // One that says where it is reached may come later, to a list that was made before it.
    let is_named = peers.iter().any(|peer| peer.id == config.node.id);
    if config.node.id != NodeId(0) && !is_named && config.advertise.node.is_none() {
        let id = config.node.id;
        report.wrong(
            "cluster.peers",
            format!("does not name this node, {id}; one that is to join later needs advertise.node instead"),
        );
    }
    let mut ids = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for peer in peers {
        if peer.id == NodeId(0) {
            report.wrong("cluster.peers", "node ids are numbers from 1 on");
        } else if !ids.insert(peer.id) {
            report.wrong("cluster.peers", format!("names node {} twice", peer.id));
        }
        if let Some(fault) = endpoint_fault(&peer.address) {
            report.wrong(
                "cluster.peers",
                format!("node {}: {:?} {fault}", peer.id, peer.address),
            );
        } else if !addresses.insert(&peer.address) {
            report.wrong(
                "cluster.peers",
                format!("two nodes have the address {}", peer.address),
            );
        }
    }
}
