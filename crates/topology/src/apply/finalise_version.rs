//! `FinaliseVersion`, and who fits a cluster that has finalised one. Not here: what needs which version (`command`), when it is
//! finalised (the cluster's reconciler, or an operator).

use std::sync::Arc;

use warren_types::{ClusterVersion, KnownVersions, NodeId};

use crate::{
    command::FinaliseVersion,
    reply::{Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn apply(
    topology: &mut Topology,
    command: FinaliseVersion,
) -> Result<TopologyReply, Refusal> {
    let FinaliseVersion { version } = command;
    let finalised = topology.finalised_version()?;
    if version < finalised {
        return Err(Refusal::VersionGoesBack { version, finalised });
    }
    for node in topology.nodes() {
        let knows = node.software.versions;
        if !knows.knows(version) {
            return Err(Refusal::VersionNotKnown {
                version,
                node: node.id,
                knows,
            });
        }
    }
    let changed = version != finalised;
    if let Some(cluster) = &mut topology.cluster {
        Arc::make_mut(cluster).finalised_version = version;
    }
    Ok(TopologyReply::Done { changed })
}

impl Topology {
    /// The version up to which features may be used; before there is a cluster, the first.
    #[must_use]
    pub fn version(&self) -> ClusterVersion {
        self.cluster()
            .map_or(ClusterVersion::FIRST, |it| it.finalised_version)
    }

    /// The newest version that all members know, if it is later than the finalised one: it waits to be finalised.
    #[must_use]
    pub fn version_to_finalise(&self) -> Option<ClusterVersion> {
        let cluster = self.cluster()?;
        let newest = self.nodes().map(|it| it.software.versions.newest).min()?;
        let mut nodes = self.nodes();
        let known = nodes.all(|it| it.software.versions.knows(newest));
        (known && newest > cluster.finalised_version).then_some(newest)
    }

    /// A node whose software does not know the finalised version is no member: it could not read what the others write.
    pub(super) fn fits(&self, node: NodeId, knows: KnownVersions) -> Result<(), Refusal> {
        let finalised = self.finalised_version()?;
        if knows.knows(finalised) {
            return Ok(());
        }
        Err(Refusal::SoftwareNotFit {
            node,
            knows,
            finalised,
        })
    }

    fn finalised_version(&self) -> Result<ClusterVersion, Refusal> {
        self.formed()?;
        Ok(self.version())
    }
}
