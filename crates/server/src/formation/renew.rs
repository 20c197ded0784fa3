//! Keeps the record in the data directory as the cluster is: nodes come, go and come back with other directories, and a node that
//! starts must know whose word counts before it has read the topology. Not here: the first record (`form`, `join`).

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use warren_shard::Broker;
use warren_types::{GroupId, Member};

use super::{Formation, Record, join};
use crate::identity::Identity;

/// Returns when the node stops.
pub(crate) async fn renew(broker: Broker, formation: Arc<Formation>, stop: CancellationToken) {
    let mut view = broker.topology().watch();
    loop {
        let now = join::record(&view.borrow_and_update(), broker.node());
        if let Some(record) = now.and_then(|now| {
            let kept = formation.record()?;
            changed(&kept, now, formation.us())
        }) {
            let formation = formation.clone();
            let written = tokio::task::spawn_blocking(move || formation.renew(record)).await;
            match written {
                Ok(Ok(())) => info!("the members of the cluster are written down anew"),
                Ok(Err(error)) => warn!(%error, "the members of the cluster are not written down"),
                Err(error) => warn!(%error, "the members of the cluster are not written down"),
            }
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// What is to be written: only while this node is a member as it is, and its replica of the topology is the one it runs.
pub(super) fn changed(kept: &Record, mut now: Record, us: &Identity) -> Option<Record> {
    let is_us = |it: &warren_topology::Node| it.id == us.node && it.incarnation == us.incarnation;
    let own = |record: &Record| -> Option<Member> {
        let mut members = record.cluster.topology_members.iter();
        members.find(|it| it.node == us.node).copied()
    };
    debug_assert_eq!(GroupId::TOPOLOGY, GroupId(0));
    if !now.cluster.nodes.iter().any(is_us) || own(&now) != own(kept) {
        return None;
    }
    now.former = kept.former;
    // The copy of a start may be of the past; what was finalised never goes back.
    now.cluster.version = now.cluster.version.max(kept.cluster.version);
    // Addresses are the topology's to tell; they are not worth a write.
    let essence = |record: &Record| -> Vec<_> {
        let nodes = record.cluster.nodes.iter();
        nodes.map(|it| (it.id, it.incarnation)).collect()
    };
    // A start with older software ends before anything is read that it does not know.
    let same = essence(&now) == essence(kept)
        && now.cluster.version == kept.cluster.version
        && now.cluster.topology_members == kept.cluster.topology_members;
    (!same).then_some(now)
}
