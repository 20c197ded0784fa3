//! A node whose software does not know the version that its cluster has finalised does not run: it could not read what the others write.
//! Not here: when a version is finalised (the cluster's reconciler, or an operator).

use tokio_util::sync::CancellationToken;
use warren_codec::KNOWN_VERSIONS;
use warren_shard::Broker;
use warren_types::{ClusterId, ClusterVersion};

use super::FormationError;

/// # Errors
/// [`FormationError::Version`].
pub(super) fn check_version(
    cluster: ClusterId,
    finalised: ClusterVersion,
) -> Result<(), FormationError> {
    if KNOWN_VERSIONS.knows(finalised) {
        return Ok(());
    }
    Err(unknown_version(cluster, finalised))
}

pub(crate) fn unknown_version(cluster: ClusterId, finalised: ClusterVersion) -> FormationError {
    FormationError::Version {
        cluster,
        finalised,
        knows: KNOWN_VERSIONS,
    }
}

/// Returns when the node stops. What was finalised while the node did not run comes with the log.
///
/// # Errors
/// [`FormationError::Version`]: the node must not go on.
pub(crate) async fn watch_version(
    broker: Broker,
    cluster: ClusterId,
    stop: CancellationToken,
) -> Result<(), FormationError> {
    let mut view = broker.topology().watch();
    let unknown = view.wait_for(|topology| !KNOWN_VERSIONS.knows(topology.version()));
    let finalised = tokio::select! {
        biased; // stopping comes first
        () = stop.cancelled() => return Ok(()),
        unknown = unknown => unknown.map(|topology| topology.version()),
    };
    // The replica of the topology has stopped: the node does, too.
    finalised.map_or(Ok(()), |finalised| check_version(cluster, finalised))
}
