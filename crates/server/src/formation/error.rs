//! Why a node does not become part of a cluster, with what to do about it. Not here: what is only waited for.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use warren_storage::DataDirError;
use warren_types::{ClusterId, ClusterVersion, KnownVersions, NodeId};

#[derive(Debug, Error)]
pub enum FormationError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {detail}", path = path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error(
        "{path} is missing, but the directory's manifest says that it is part of cluster {cluster}: restore the directory",
        path = path.display()
    )]
    Missing { path: PathBuf, cluster: ClusterId },
    #[error(
        "{path} is missing or empty, but the node is part of a cluster: restore the data directory; a node never starts afresh under an old identity",
        path = path.display()
    )]
    StorageMissing { path: PathBuf },
    #[error(
        "data directory {path} belongs to the cluster named {found:?}, not to {expected:?} (cluster.name)",
        path = path.display()
    )]
    OtherName {
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("node {by} does not take node {node} into the cluster: {why}")]
    NotTaken {
        node: NodeId,
        by: NodeId,
        why: String,
    },
    #[error(
        "the data directory says cluster {cluster}, but the nodes {others} do not belong to it with the directories they have now: there is no majority left. Is this the directory of another cluster?"
    )]
    Outnumbered { cluster: ClusterId, others: String },
    #[error(
        "node {node} was removed from cluster {cluster}, says node {by}: its data directory is of no use any more; empty the directory to add the node again"
    )]
    Left {
        node: NodeId,
        cluster: ClusterId,
        by: NodeId,
    },
    #[error(
        "cluster {cluster} has finalised version {finalised}, and this software knows {knows} only: start the node with software that knows version {finalised}"
    )]
    Version {
        cluster: ClusterId,
        finalised: ClusterVersion,
        knows: KnownVersions,
    },
    #[error("the node is stopping")]
    Stopped,
}

impl FormationError {
    /// Whether the node can only start with another data directory, or other software.
    #[must_use]
    pub fn cannot_start_so(&self) -> bool {
        match self {
            Self::OtherName { .. }
            | Self::NotTaken { .. }
            | Self::Left { .. }
            | Self::Version { .. }
            | Self::Outnumbered { .. } => true,
            Self::DataDir(_)
            | Self::Io { .. }
            | Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::StorageMissing { .. }
            | Self::Stopped => false,
        }
    }
}
