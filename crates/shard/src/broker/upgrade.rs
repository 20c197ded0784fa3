//! Finalises a version when all members have known it for long enough, on the node that leads the topology. Until then any node may go
//! back to the software it came from. Not here: what may be finalised (`warren-topology`), an operator's wish (`gateway`).

use std::time::Duration;

use tokio::time::Instant;
use warren_topology::{FinaliseVersion, Topology, TopologyCommand, TopologyReply};
use warren_types::ClusterVersion;

use super::Broker;
use crate::topology::handle::TopologyError;

/// Since when a version has been known to all members, all of them heard from.
#[derive(Default)]
pub(super) struct Upgrade {
    since: Option<(ClusterVersion, Instant)>,
}

impl Upgrade {
    /// This node does not lead the topology: the next leader begins to count.
    pub(super) fn forget(&mut self) {
        self.since = None;
    }

    /// The version to finalise now. `waiting`: what all members know beyond the finalised version; `heard`: all of them.
    pub(super) fn look(
        &mut self,
        waiting: Option<ClusterVersion>,
        heard: bool,
        after: Duration,
        now: Instant,
    ) -> Option<ClusterVersion> {
        let Some(version) = waiting.filter(|_| heard) else {
            self.since = None;
            return None;
        };
        let known = self.since.filter(|(known, _)| *known == version);
        let (_, since) = *self.since.insert(known.unwrap_or((version, now)));
        (now.saturating_duration_since(since) >= after).then_some(version)
    }
}

impl Broker {
    /// Allows what needs versions up to this one. It cannot be taken back. Again changes nothing.
    ///
    /// # Errors
    /// The topology's, and what it refuses: [`TopologyReply::Refused`].
    pub async fn finalise(&self, version: ClusterVersion) -> Result<TopologyReply, TopologyError> {
        let fresh = self.inner.topology.fresh().await?;
        match next(&fresh, version) {
            Next::Propose(command) => self.inner.topology.propose(command, "").await,
            Next::Answer(reply) => Ok(reply),
        }
    }
}

#[derive(PartialEq, Debug)]
enum Next {
    Propose(TopologyCommand),
    Answer(TopologyReply),
}

/// The command itself is one that software from before there were versions does not know: it enters the log only when it changes
/// something, and then all members know more than the first version.
fn next(topology: &Topology, version: ClusterVersion) -> Next {
    let command = TopologyCommand::FinaliseVersion(FinaliseVersion { version });
    let reply = topology.check(command.clone());
    if reply == (TopologyReply::Done { changed: true }) {
        Next::Propose(command)
    } else {
        Next::Answer(reply)
    }
}

#[cfg(test)]
mod tests {
    use warren_topology::Refusal;
    use warren_types::TopologyIndex;

    use super::*;
    use crate::topology::testing::form_cluster;

    fn cluster_that_knows(newest: u32) -> Topology {
        let mut topology = Topology::new();
        topology.apply(TopologyIndex(1), form_cluster(newest));
        topology
    }

    #[test]
    fn only_a_version_that_would_be_taken_and_is_new_enters_the_log() {
        let (one, two) = (ClusterVersion(1), ClusterVersion(2));
        let unchanged = Next::Answer(TopologyReply::Done { changed: false });
        let topology = cluster_that_knows(1);
        assert_eq!(next(&topology, one), unchanged);
        let refused = next(&topology, two);
        assert!(
            matches!(
                refused,
                Next::Answer(TopologyReply::Refused(Refusal::VersionNotKnown { .. }))
            ),
            "{refused:?}"
        );
        let mut topology = cluster_that_knows(2);
        assert_eq!(next(&topology, one), unchanged);
        let Next::Propose(command) = next(&topology, two) else {
            panic!("all know it");
        };
        topology.apply(TopologyIndex(2), command);
        assert_eq!(
            next(&topology, two),
            Next::Answer(TopologyReply::Done { changed: false })
        );
        let back = next(&topology, one);
        assert!(
            matches!(
                back,
                Next::Answer(TopologyReply::Refused(Refusal::VersionGoesBack { .. }))
            ),
            "{back:?}"
        );
    }

    const AFTER: Duration = Duration::from_secs(100);

    #[test]
    fn version_is_finalised_when_all_have_known_it_without_interruption() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let two = Some(ClusterVersion(2));
        let mut upgrade = Upgrade::default();
        assert_eq!(upgrade.look(two, true, AFTER, at(0)), None);
        assert_eq!(upgrade.look(two, true, AFTER, at(99)), None);
        assert_eq!(
            upgrade.look(None, true, AFTER, at(99)),
            None,
            "one went back"
        );
        assert_eq!(upgrade.look(two, true, AFTER, at(101)), None);
        assert_eq!(
            upgrade.look(two, false, AFTER, at(150)),
            None,
            "one is silent"
        );
        assert_eq!(upgrade.look(two, true, AFTER, at(160)), None);
        assert_eq!(upgrade.look(two, true, AFTER, at(259)), None);
        assert_eq!(upgrade.look(two, true, AFTER, at(260)), two);
        let three = Some(ClusterVersion(3));
        assert_eq!(
            upgrade.look(three, true, AFTER, at(260)),
            None,
            "another version"
        );
        upgrade.forget();
        assert_eq!(upgrade.look(two, true, Duration::ZERO, at(300)), two);
    }
}
