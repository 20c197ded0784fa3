//! What is known of damage and of replicas that differ, and told from node to node with their pulses: groups in doubt, and replicas that are
//! set aside; and what was recovered on this node. Not here: finding it (`audit`), what is done about it (`aside`, `reconcile`).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use warren_proto::internal_v1 as wire;
use warren_storage::{RecoveryRecord, ScrubView};
use warren_types::{GroupId, NodeId, ReplicaId};

use super::Broker;
use super::aside::AsideView;
use crate::audit::AuditView;

/// What a node that is silent for so long has said does not count any more.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// More of a cause is not told to other nodes, which hear it many times a second.
const CAUSE_CHARACTERS: usize = 200;
const ASIDE_MAX: usize = 256;

/// One node's word.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Wrong {
    in_doubt: BTreeSet<GroupId>,
    aside: Vec<AsideView>,
}

impl Broker {
    /// Says what this node knows of its replicas; the others hear it with their next beat.
    pub(super) fn tell_wrong(&self) {
        self.inner.peers.set_wrong(encode(&self.own_wrong()));
    }

    fn own_wrong(&self) -> Wrong {
        let doubtful = self.inner.audits.views().into_iter();
        let doubtful = doubtful.chain(self.topology_audit());
        let doubtful = doubtful.filter(|it| it.in_doubt);
        Wrong {
            in_doubt: doubtful.map(|it| it.shard.into()).collect(),
            aside: self.set_aside(),
        }
    }

    /// What this node and those that were just heard from say.
    fn all_wrong(&self) -> Vec<Wrong> {
        let peers = &self.inner.peers;
        let others = peers.live(HEARD_WITHIN).into_iter();
        let others = others.filter(|it| *it != self.inner.me.node);
        let others = others.map(|node| decode(node, &peers.wrong(node)));
        others.chain([self.own_wrong()]).collect()
    }

    /// Groups whose replicas differ, where it is not known which are right, by any node that is there.
    #[must_use]
    pub fn in_doubt(&self) -> BTreeSet<GroupId> {
        self.all_wrong()
            .into_iter()
            .flat_map(|it| it.in_doubt)
            .collect()
    }

    /// What audits found of this node's replicas.
    #[must_use]
    pub fn audits(&self) -> Vec<AuditView> {
        self.inner.audits.views()
    }

    /// What reading this node's log in the background has brought.
    #[must_use]
    pub fn log_scrub(&self) -> ScrubView {
        self.inner.raft.log_scrub()
    }

    /// Audits that this node's replicas have carried out.
    #[must_use]
    pub fn audit_count(&self) -> u64 {
        self.inner.audits.count()
    }

    /// How the topology's replica of this node was compared; under the shard 0, which no shard is.
    #[must_use]
    pub fn topology_audit(&self) -> Option<AuditView> {
        self.inner.topology_audits.view()
    }

    /// The topology's leader asks what this node has of it, or tells it what came of that.
    pub async fn serve_compare_topology(
        &self,
        request: wire::CompareTopologyRequest,
    ) -> wire::CompareTopologyResponse {
        self.inner.topology_audits.serve(request).await
    }

    /// Copies of other replicas' rows that did not match their checksums when they came here, since this node started.
    #[must_use]
    pub fn snapshots_refused(&self) -> u64 {
        self.inner.raft.snapshots_refused()
    }

    /// The recoveries without a majority that were made in this node's data directory, oldest first.
    #[must_use]
    pub fn recoveries(&self) -> &[RecoveryRecord] {
        &self.inner.recoveries
    }

    /// Replicas that are set aside and not replaced yet, on this node and on others that are there.
    #[must_use]
    pub fn set_aside_anywhere(&self) -> Vec<AsideView> {
        self.all_wrong()
            .into_iter()
            .flat_map(|it| it.aside)
            .collect()
    }
}

fn encode(wrong: &Wrong) -> Bytes {
    let aside = wrong.aside.iter().take(ASIDE_MAX);
    let aside = aside.map(|it| wire::AsideReplica {
        group: it.group.0,
        replica: it.replica.0,
        cause: it.cause.chars().take(CAUSE_CHARACTERS).collect(),
        at_ms: it.at_ms,
    });
    let told = wire::WrongReplicas {
        in_doubt: wrong.in_doubt.iter().map(|it| it.0).collect(),
        aside: aside.collect(),
    };
    told.encode_to_vec().into()
}

/// What cannot be read says nothing: it is another version's.
fn decode(node: NodeId, bytes: &Bytes) -> Wrong {
    let told = wire::WrongReplicas::decode(bytes.clone()).unwrap_or_default();
    let aside = told.aside.into_iter().map(|it| AsideView {
        node,
        group: GroupId(it.group),
        replica: ReplicaId(it.replica),
        cause: it.cause,
        at_ms: it.at_ms,
    });
    Wrong {
        in_doubt: told.in_doubt.into_iter().map(GroupId).collect(),
        aside: aside.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let aside = AsideView {
            node: NodeId(2),
            group: GroupId(3),
            replica: ReplicaId(7),
            cause: "\u{e4}".repeat(CAUSE_CHARACTERS),
            at_ms: 5,
        };
        let wrong = Wrong {
            in_doubt: [GroupId(1), GroupId(9)].into(),
            aside: vec![aside.clone(); ASIDE_MAX],
        };
        assert_eq!(decode(NodeId(2), &encode(&wrong)), wrong);
        let longer = AsideView {
            cause: format!("{}x", aside.cause),
            ..aside.clone()
        };
        let more = Wrong {
            aside: vec![longer; ASIDE_MAX + 1],
            ..wrong.clone()
        };
        assert_eq!(decode(NodeId(2), &encode(&more)), wrong);
        let nothing = Wrong::default();
        assert!(encode(&nothing).is_empty());
        assert_eq!(decode(NodeId(2), &Bytes::new()), nothing);
        assert_eq!(decode(NodeId(2), &Bytes::from_static(&[0xff])), nothing);
    }
}
