//! A blank node is taken into a cluster that was formed without it, or that knew it with another directory: it asks a member, which
//! has the topology admit it and tells what to write down. Not here: giving it replicas (the cluster's reconciler).

use tokio::time::timeout;
use tracing::debug;
use warren_proto::internal_v1::node_service_client::NodeServiceClient;
use warren_proto::internal_v1::{JoinClusterRequest, JoinClusterResponse, NodeHello};
use warren_raft::{Lane, Peers};
use warren_shard::Broker;
use warren_topology::{FormCluster, Refusal, Topology, TopologyReply};
use warren_types::{GroupId, NodeId};

use super::form::node_of;
use super::{Formation, Record};

/// The topology changes meanwhile, and the new member is told of everywhere.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// What became of the wish to join.
pub(super) enum Joining {
    Taken(Box<Record>),
    /// It may be later.
    NotYet(String),
    Refused(String),
}

/// Asks one member.
pub(super) async fn ask(formation: &Formation, peers: &Peers, node: NodeId) -> Joining {
    let Some(channel) = peers.channel(node, Lane::Control) else {
        return Joining::NotYet("it has no address".to_owned());
    };
    let us = formation.us();
    let request = JoinClusterRequest {
        from: Some(us.hello(None, &us.peers)),
    };
    let mut client = NodeServiceClient::new(channel);
    let answer = timeout(ANSWER_WITHIN, client.join_cluster(request)).await;
    let response = match answer {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Joining::NotYet(status.message().to_owned()),
        Err(_) => return Joining::NotYet("no answer".to_owned()),
    };
    if !response.refusal.is_empty() {
        return Joining::Refused(response.refusal);
    }
    match response.cluster.map(Record::from_request) {
        Some(Ok(record)) => Joining::Taken(Box::new(record)),
        Some(Err(why)) => Joining::NotYet(why),
        None => Joining::NotYet("it is not ready".to_owned()),
    }
}

/// Answers a blank node.
pub(crate) async fn serve(broker: &Broker, from: &NodeHello) -> JoinClusterResponse {
    let Some(node) = node_of(from) else {
        return refusal("it does not say which incarnation it is");
    };
    let (id, incarnation) = (node.id, node.incarnation);
    match broker.admit(node).await {
        Ok(TopologyReply::Refused(Refusal::ClusterNotFormed)) => JoinClusterResponse::default(),
        Ok(TopologyReply::Refused(why)) => refusal(&why.to_string()),
        Ok(reply) => {
            debug!(node_id = %id, ?reply, "node taken in");
            let record = record(&broker.topology().current(), broker.node());
            JoinClusterResponse {
                cluster: record.map(|it| it.to_request(incarnation)),
                refusal: String::new(),
            }
        }
        Err(error) => {
            debug!(node_id = %id, %error, "node not taken in yet");
            JoinClusterResponse::default()
        }
    }
}

fn refusal(why: &str) -> JoinClusterResponse {
    JoinClusterResponse {
        cluster: None,
        refusal: why.to_owned(),
    }
}

/// The cluster as it is now, as what a member keeps of it. `former` initialises nothing: the cluster has begun.
pub(super) fn record(topology: &Topology, former: NodeId) -> Option<Record> {
    let cluster = topology.cluster()?;
    let own = topology.placement(GroupId::TOPOLOGY)?;
    Some(Record {
        former,
        cluster: FormCluster {
            cluster: cluster.id,
            name: cluster.name.clone(),
            version: cluster.finalised_version,
            nodes: topology.nodes().cloned().collect(),
            topology_members: own.replicas().copied().collect(),
            shards: u32::try_from(topology.shards().count()).ok()?,
            replication_factor: cluster.replication_factor,
        },
    })
}
