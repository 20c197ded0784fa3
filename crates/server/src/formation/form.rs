//! A blank node waits until it is part of a cluster, and forms one if that falls to it. Not here: telling others (`spread`).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};
use uuid::Uuid;
use warren_proto::internal_v1::node_service_client::NodeServiceClient;
use warren_proto::internal_v1::{HelloRequest, NodeHello};
use warren_raft::{HandshakeError, Lane, Peers};
use warren_topology::{Addresses, FormCluster, Node, Software};
use warren_types::{
    ClusterId, ClusterVersion, Incarnation, KnownVersions, Member, NodeId, ReplicaId,
};

use super::join::{self, Joining};
use super::{Formation, FormationError, Record};
use crate::config::ClusterConfig;
use crate::identity::id_of;

const ASK_EVERY: Duration = Duration::from_millis(200);
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What is waited for is told again after this time, even if it has not changed.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// What was said last, so that it is not said all the time.
#[derive(Default)]
struct Told(Option<(String, Instant)>);

impl Told {
    fn tell(&mut self, waiting: String) {
        let known = self.0.as_ref();
        if known.is_none_or(|(said, at)| *said != waiting || at.elapsed() >= TELL_EVERY) {
            info!(%waiting, "not part of a cluster yet");
            self.0 = Some((waiting, Instant::now()));
        }
    }
}

/// What another node answered.
enum Answer {
    /// Its directory is blank, too.
    Blank(Box<NodeHello>),
    Formed {
        cluster: ClusterId,
    },
    /// It knows this node under another incarnation.
    KnowsAnother {
        known: Incarnation,
    },
    Unreached(String),
}

/// Returns when this node's record is on disk: it was there, it was sent by another node, or this node formed the cluster.
///
/// # Errors
/// [`FormationError::NotTaken`]: waiting is no use. [`FormationError::Stopped`].
pub(crate) async fn wait_formed(
    formation: &Arc<Formation>,
    peers: &Peers,
    config: &ClusterConfig,
    stop: &CancellationToken,
) -> Result<Arc<Record>, FormationError> {
    let mut watched = formation.watch();
    let mut told = Told::default();
    loop {
        if let Some(record) = formation.record() {
            return Ok(record);
        }
        let others: Vec<NodeId> = formation
            .us()
            .peers
            .iter()
            .copied()
            .filter(|node| *node != formation.us().node)
            .collect();
        let asked = others
            .into_iter()
            .map(|node| async move { (node, ask(formation, peers, node).await) });
        let answers: BTreeMap<NodeId, Answer> = tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return Err(FormationError::Stopped),
            answers = join_all(asked) => answers.into_iter().collect(),
        };
        let waiting = waiting_for(formation, &answers);
        let formed = answers
            .iter()
            .find(|(_, answer)| matches!(answer, Answer::Formed { .. }));
        if let Some((&by, _)) = formed {
            tokio::select! {
                biased; // stopping comes first; the member may tell by itself, too
                () = stop.cancelled() => return Err(FormationError::Stopped),
                _ = watched.changed() => {}
                joined = join(formation, peers, by, &mut told) => joined?,
            }
        } else if waiting.is_empty() {
            adopt(formation, form(formation, config, &answers)).await?;
            continue;
        } else {
            told.tell(waiting.join(", "));
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return Err(FormationError::Stopped),
            // Both lead back to the top; the sender lives in `formation`.
            _ = watched.changed() => {}
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}

async fn ask(formation: &Formation, peers: &Peers, node: NodeId) -> Answer {
    let Some(channel) = peers.channel(node, Lane::Control) else {
        return Answer::Unreached("it has no address".to_owned());
    };
    let from = formation.us().hello(None, &formation.us().peers);
    let mut client = NodeServiceClient::new(channel);
    let answer = timeout(
        ANSWER_WITHIN,
        client.hello(HelloRequest { from: Some(from) }),
    )
    .await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
    peers.report(node, Lane::Control, answer.is_ok());
    let hello = match answer {
        Ok(response) => response.into_inner().from.unwrap_or_default(),
        Err(status) => {
            return match handshake_error(&status) {
                Some(HandshakeError::KnownOtherwise { known, .. }) => {
                    Answer::KnowsAnother { known: *known }
                }
                Some(other) => Answer::Unreached(other.to_string()),
                None => Answer::Unreached(root_cause(&status)),
            };
        }
    };
    if hello.node_id != node.0 {
        return Answer::Unreached(format!("node {} answered", hello.node_id));
    }
    match id_of(&hello.formed_cluster_id) {
        Some(cluster) => Answer::Formed {
            cluster: ClusterId(cluster),
        },
        None => Answer::Blank(Box::new(hello)),
    }
}

/// Asks a node that is part of a cluster to be taken in.
async fn join(
    formation: &Arc<Formation>,
    peers: &Peers,
    by: NodeId,
    told: &mut Told,
) -> Result<(), FormationError> {
    match join::ask(formation, peers, by).await {
        Joining::Taken(record) => adopt(formation, *record).await,
        Joining::NotYet(why) => {
            told.tell(format!("node {by} to take this one in ({why})"));
            Ok(())
        }
        Joining::Refused(why) => Err(FormationError::NotTaken {
            node: formation.us().node,
            by,
            why,
        }),
    }
}

/// What keeps this node from forming the cluster now; empty: nothing.
fn waiting_for(formation: &Formation, answers: &BTreeMap<NodeId, Answer>) -> Vec<String> {
    let us = formation.us();
    let mut waiting = Vec::new();
    for (node, answer) in answers {
        match answer {
            Answer::Unreached(why) => waiting.push(format!("node {node} ({why})")),
            Answer::KnowsAnother { known } => waiting.push(format!(
                "node {node}, which knows this node as incarnation {known}: the directory is another now, and it is taken in with \
                 new replicas when the old one has been silent for some seconds"
            )),
            Answer::Formed { cluster } => {
                waiting.push(format!(
                    "node {node} to take this one into cluster {cluster}"
                ));
            }
            Answer::Blank(hello) => {
                let theirs: BTreeSet<NodeId> =
                    hello.peer_node_ids.iter().copied().map(NodeId).collect();
                if theirs != us.peers {
                    let (theirs, ours) = (show(&theirs), show(&us.peers));
                    waiting.push(format!(
                        "node {node} to be configured alike: its cluster.peers are {theirs}, here they are {ours}"
                    ));
                } else if id_of(&hello.incarnation).is_none() {
                    waiting.push(format!("node {node} to say which incarnation it is"));
                }
            }
        }
    }
    let lowest = us.peers.first().copied().unwrap_or(us.node);
    if waiting.is_empty() && lowest != us.node {
        waiting.push(format!("node {lowest} to form the cluster"));
    }
    waiting
}

pub(super) fn show(nodes: &BTreeSet<NodeId>) -> String {
    nodes
        .iter()
        .map(NodeId::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The cluster of all who answered and this node.
fn form(
    formation: &Formation,
    config: &ClusterConfig,
    answers: &BTreeMap<NodeId, Answer>,
) -> Record {
    let us = formation.us();
    let others = answers.values().filter_map(|answer| match answer {
        Answer::Blank(hello) => node_of(hello),
        Answer::Formed { .. } | Answer::KnowsAnother { .. } | Answer::Unreached(_) => None,
    });
    let mut nodes: Vec<Node> = others.chain([us.as_node()]).collect();
    nodes.sort_by_key(|node| node.id);
    // Who does not know it says so when it is told of the cluster.
    let newest = nodes.iter().map(|it| it.software.versions.newest).min();
    let numbered = nodes.iter().zip(1..);
    let topology_members = numbered
        .map(|(node, number)| Member {
            replica: ReplicaId(number),
            node: node.id,
        })
        .collect();
    let cluster = ClusterId(Uuid::new_v4().as_u128());
    info!(%cluster, nodes = %show(&us.peers), "forming the cluster");
    Record {
        former: us.node,
        cluster: FormCluster {
            cluster,
            name: us.cluster_name.as_str().into(),
            version: newest.unwrap_or(ClusterVersion::FIRST),
            nodes,
            topology_members,
            shards: config.shards,
            replication_factor: config.replication_factor,
        },
    }
}

fn version(told: u32) -> ClusterVersion {
    ClusterVersion(told).max(ClusterVersion::FIRST)
}

pub(super) fn node_of(hello: &NodeHello) -> Option<Node> {
    Some(Node {
        id: NodeId(hello.node_id),
        incarnation: Incarnation(id_of(&hello.incarnation)?),
        addresses: Addresses {
            node: hello.node_endpoint.as_str().into(),
            grpc: hello.client_endpoint.as_str().into(),
            amqp: hello.amqp_endpoint.as_str().into(),
        },
        zone: hello.zone.as_str().into(),
        leaving: false,
        former: Vec::new(),
        software: Software {
            versions: KnownVersions {
                oldest: version(hello.min_version),
                newest: version(hello.max_version),
            },
            name: hello.software.as_str().into(),
        },
    })
}

/// Writes the record down, off the runtime.
async fn adopt(formation: &Arc<Formation>, record: Record) -> Result<(), FormationError> {
    let formation = formation.clone();
    let adopted = tokio::task::spawn_blocking(move || formation.adopt(record));
    match adopted.await {
        Ok(adopted) => adopted.map(|_| ()),
        Err(error) => {
            warn!(%error, "the record was not written");
            Err(FormationError::Stopped)
        }
    }
}

/// Why the two nodes did not talk, if it was the handshake that failed.
pub(super) fn handshake_error(status: &Status) -> Option<&HandshakeError> {
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<HandshakeError>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// The innermost error, which is what people look for.
fn root_cause(status: &Status) -> String {
    let mut cause = status.message().to_owned();
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        cause = error.to_string();
        source = error.source();
    }
    cause
}
