//! Has the topology say what the record says, where this node listens, and what it runs: for as long as the node runs, as the record
//! of it may come from an earlier run whose word was still under way. Not here: applying it (`warren-topology`).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};
use warren_shard::{Broker, TopologyHandle};
use warren_topology::{Node, Topology, TopologyCommand, TopologyReply, UpdateNode};

use super::Record;
use crate::identity::Identity;

const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// The cluster itself does it, not a user.
const NO_USER: &str = "";

/// Returns when the topology does not take this node as it is, or the node stops.
pub(crate) async fn announce(
    broker: Broker,
    record: Arc<Record>,
    us: Arc<Identity>,
    stop: CancellationToken,
) {
    let own = us.as_node();
    tokio::select! {
        biased; // stopping comes first
        () = stop.cancelled() => {}
        () = keep_told(broker.topology(), &record, &own) => {}
    }
}

async fn keep_told(topology: &TopologyHandle, record: &Record, own: &Node) {
    let mut view = topology.watch();
    let mut fresh = false;
    loop {
        let known = view.borrow_and_update().clone();
        let command = match next(&known, fresh, record, own) {
            Next::Look => {
                fresh = topology.fresh().await.is_ok();
                if fresh {
                    continue;
                }
                None
            }
            Next::Nothing => {
                if view.changed().await.is_err() {
                    return;
                }
                continue;
            }
            // The leader does it; proposals of all would be taken, too, but once is enough.
            Next::Form(command) if leads(topology) => Some(command),
            Next::Form(_) => None,
            Next::Update(command) => Some(command),
        };
        if let Some(command) = command {
            match topology.propose(command, NO_USER).await {
                Ok(TopologyReply::Refused(refusal)) => {
                    error!(%refusal, "the topology does not take this node as it is");
                    return;
                }
                Ok(reply) => info!(?reply, "told the topology"),
                Err(error) => debug!(%error, "the topology could not be told yet"),
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

#[derive(PartialEq, Debug)]
enum Next {
    /// The copy says it, but may be one of the past: what an earlier run of this node said last may not be in it yet.
    Look,
    Nothing,
    Form(TopologyCommand),
    Update(TopologyCommand),
}

/// `fresh`: the copy has been as new as the leader's in this run.
fn next(topology: &Topology, fresh: bool, record: &Record, own: &Node) -> Next {
    if topology.cluster().is_none() {
        return Next::Form(TopologyCommand::FormCluster(record.cluster.clone()));
    }
    match topology.node(own.id) {
        Some(known)
            if known.addresses == own.addresses
                && known.zone == own.zone
                && known.software == own.software =>
        {
            if fresh {
                Next::Nothing
            } else {
                Next::Look
            }
        }
        Some(_) | None => Next::Update(TopologyCommand::UpdateNode(UpdateNode {
            node: own.id,
            incarnation: own.incarnation,
            addresses: own.addresses.clone(),
            zone: own.zone.clone(),
            software: own.software.clone(),
        })),
    }
}

fn leads(topology: &TopologyHandle) -> bool {
    let group = topology.group();
    group
        .leadership()
        .borrow()
        .leader
        .is_some_and(|leader| leader.replica == group.replica())
}

#[cfg(test)]
mod tests {
    use warren_topology::{Addresses, FormCluster, Software};
    use warren_types::{
        ClusterId, ClusterVersion, Incarnation, KnownVersions, Member, NodeId, ReplicaId,
        TopologyIndex,
    };

    use super::*;

    fn node(newest: u32) -> Node {
        Node {
            id: NodeId(1),
            incarnation: Incarnation(1 << 90),
            addresses: Addresses::default(),
            zone: "".into(),
            leaving: false,
            former: Vec::new(),
            software: Software {
                versions: KnownVersions {
                    oldest: ClusterVersion::FIRST,
                    newest: ClusterVersion(newest),
                },
                name: format!("0.{newest}.0").into(),
            },
        }
    }

    #[test]
    fn node_tells_what_it_runs_whenever_a_fresh_record_says_otherwise() {
        let record = Record {
            former: NodeId(1),
            cluster: FormCluster {
                cluster: ClusterId(77 << 80),
                name: "test".into(),
                version: ClusterVersion::FIRST,
                nodes: vec![node(1)],
                topology_members: vec![Member {
                    replica: ReplicaId(1),
                    node: NodeId(1),
                }],
                shards: 1,
                replication_factor: 1,
            },
        };
        let mut topology = Topology::new();
        let Next::Form(form) = next(&topology, false, &record, &node(1)) else {
            panic!("there is no cluster");
        };
        topology.apply(TopologyIndex(1), form);
        // The record of a copy of the past says the same: that says nothing.
        assert_eq!(next(&topology, false, &record, &node(1)), Next::Look);
        assert_eq!(next(&topology, true, &record, &node(1)), Next::Nothing);
        // The node was upgraded for a moment, and this comes with the log only after it went back.
        let Next::Update(upgraded) = next(&topology, false, &record, &node(2)) else {
            panic!("it runs something else");
        };
        topology.apply(TopologyIndex(2), upgraded);
        let Next::Update(back) = next(&topology, true, &record, &node(1)) else {
            panic!("the record says what it does not run any more");
        };
        topology.apply(TopologyIndex(3), back);
        assert_eq!(topology.node(NodeId(1)), Some(&node(1)));
        assert_eq!(next(&topology, true, &record, &node(1)), Next::Nothing);
    }
}
