//! Has the topology say what the record says, where this node listens now, and what it runs. Not here: applying it (`warren-topology`).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};
use warren_shard::{Broker, TopologyHandle};
use warren_topology::{Topology, TopologyCommand, TopologyReply, UpdateNode};

use super::Record;
use crate::identity::Identity;

const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// The cluster itself does it, not a user.
const NO_USER: &str = "";

/// Returns when the topology names the cluster, and this node as it is, or the node stops.
pub(crate) async fn announce(
    broker: Broker,
    record: Arc<Record>,
    us: Arc<Identity>,
    stop: CancellationToken,
) {
    let topology = broker.topology();
    loop {
        let todo = match command(&topology.current(), &record, &us) {
            Next::Nothing => return,
            // The leader does it; proposals of all would be taken, too, but once is enough.
            Next::Form(command) if leads(topology) => Some(command),
            Next::Form(_) => None,
            Next::Update(command) => Some(command),
        };
        if let Some(command) = todo {
            let proposed = tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                proposed = topology.propose(command, NO_USER) => proposed,
            };
            match proposed {
                Ok(TopologyReply::Refused(refusal)) => {
                    error!(%refusal, "the topology does not take this node as it is");
                    return;
                }
                Ok(reply) => info!(?reply, "told the topology"),
                Err(error) => debug!(%error, "the topology could not be told yet"),
            }
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}

enum Next {
    Nothing,
    Form(TopologyCommand),
    Update(TopologyCommand),
}

fn command(topology: &Topology, record: &Record, us: &Identity) -> Next {
    if topology.cluster().is_none() {
        return Next::Form(TopologyCommand::FormCluster(record.cluster.clone()));
    }
    let own = us.as_node();
    match topology.node(us.node) {
        Some(known)
            if known.addresses == own.addresses
                && known.zone == own.zone
                && known.software == own.software =>
        {
            Next::Nothing
        }
        Some(_) | None => Next::Update(TopologyCommand::UpdateNode(UpdateNode {
            node: us.node,
            incarnation: us.incarnation,
            addresses: own.addresses,
            zone: own.zone,
            software: own.software,
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
