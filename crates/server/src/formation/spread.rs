//! Tells every member of the cluster that it is one, until each has written it down. Every node that holds the record does so at
//! each start: the node that formed the cluster may be gone by then. Not here: making the record (`form`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, error, info};
use warren_proto::internal_v1::FormClusterOutcome as Outcome;
use warren_proto::internal_v1::node_service_client::NodeServiceClient;
use warren_raft::{HandshakeError, Lane, Peers};
use warren_topology::Node;
use warren_types::NodeId;

use super::form::{ANSWER_WITHIN, handshake_error, show};
use super::{FormationError, Record};
use crate::identity::Identity;

const LOOK_WITHIN: Duration = Duration::from_millis(500);
const AGAIN_FIRST: Duration = Duration::from_millis(200);
const AGAIN_LAST: Duration = Duration::from_secs(5);

enum Told {
    Holds,
    /// It has another directory than the one the cluster was formed with, or belongs to another cluster.
    Conflict(String),
    /// This node was removed from the cluster.
    Left,
    Later,
}

/// Asks every member once, and waits no longer than a restart may take: a directory of another cluster is found before its
/// replicas run, with the configured addresses, not with those that it remembers.
///
/// # Errors
/// As [`spread`].
pub(crate) async fn look_round(
    record: &Record,
    us: &Identity,
    peers: &Peers,
) -> Result<(), FormationError> {
    let others: Vec<&Node> = record
        .cluster
        .nodes
        .iter()
        .filter(|node| node.id != us.node)
        .collect();
    let mut asked: FuturesUnordered<_> = others
        .into_iter()
        .map(async |node| (node.id, tell(record, peers, node).await))
        .collect();
    let mut conflicts = BTreeSet::new();
    let mut left = None;
    let conflicting = async {
        while let Some((node, told)) = asked.next().await {
            match told {
                Told::Conflict(_) => {
                    conflicts.insert(node);
                }
                Told::Left => left = Some(node),
                Told::Holds | Told::Later => {}
            }
        }
    };
    // Who has not answered by then is asked again by `spread`.
    let _all_answered = timeout(LOOK_WITHIN, conflicting).await;
    refuse_if_left(record, us, left)?;
    refuse_if_outnumbered(record, &conflicts)
}

/// Returns when every member holds the record.
///
/// # Errors
/// [`FormationError::Outnumbered`]: so many members are others now that no majority is left. [`FormationError::Left`]: this node was
/// removed from the cluster.
pub(crate) async fn spread(
    record: Arc<Record>,
    us: Arc<Identity>,
    peers: Peers,
    stop: CancellationToken,
) -> Result<(), FormationError> {
    let mut pending: Vec<Node> = record
        .cluster
        .nodes
        .iter()
        .filter(|node| node.id != us.node)
        .cloned()
        .collect();
    let mut conflicts = BTreeSet::new();
    let mut again = AGAIN_FIRST;
    while !pending.is_empty() {
        let asked = pending.iter().map(|node| tell(&record, &peers, node));
        let told = tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return Ok(()),
            told = join_all(asked) => told,
        };
        for (node, told) in pending.iter().zip(&told) {
            note(node, told, &mut conflicts);
        }
        let mut all = pending.iter().zip(&told);
        let left = all.find(|(_, told)| matches!(told, Told::Left));
        refuse_if_left(&record, &us, left.map(|(node, _)| node.id))?;
        refuse_if_outnumbered(&record, &conflicts)?;
        let mut told = told.into_iter();
        pending.retain(|_| !matches!(told.next(), Some(Told::Holds)));
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(again) => {}
        }
        again = (again * 2).min(AGAIN_LAST);
    }
    debug!(cluster = %record.cluster.cluster, "every member holds the record");
    Ok(())
}

fn note(node: &Node, told: &Told, conflicts: &mut BTreeSet<NodeId>) {
    match told {
        Told::Holds => {
            if conflicts.remove(&node.id) {
                info!(node_id = %node.id, "the node has its own directory again");
            }
        }
        Told::Conflict(why) => {
            if conflicts.insert(node.id) {
                error!(node_id = %node.id, %why, "the node does not belong to this cluster with the directory it has");
            }
        }
        Told::Left | Told::Later => {}
    }
}

/// A node that was removed is told so by any member that has asked a majority.
fn refuse_if_left(
    record: &Record,
    us: &Identity,
    by: Option<NodeId>,
) -> Result<(), FormationError> {
    by.map_or(Ok(()), |by| {
        Err(FormationError::Left {
            node: us.node,
            cluster: record.cluster.cluster,
            by,
        })
    })
}

fn refuse_if_outnumbered(
    record: &Record,
    conflicts: &BTreeSet<NodeId>,
) -> Result<(), FormationError> {
    let all = record.cluster.nodes.len();
    let majority = all / 2 + 1;
    if all - conflicts.len() >= majority {
        return Ok(());
    }
    Err(FormationError::Outnumbered {
        cluster: record.cluster.cluster,
        others: show(conflicts),
    })
}

async fn tell(record: &Record, peers: &Peers, node: &Node) -> Told {
    let Some(channel) = peers.channel(node.id, Lane::Control) else {
        return Told::Later;
    };
    let request = record.to_request(node.incarnation);
    let mut client = NodeServiceClient::new(channel);
    let answer = timeout(ANSWER_WITHIN, client.form_cluster(request)).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
    peers.report(node.id, Lane::Control, answer.is_ok());
    match answer {
        Ok(response) => match response.into_inner().outcome() {
            Outcome::Joined | Outcome::AlreadyJoined => Told::Holds,
            Outcome::OtherCluster => Told::Conflict("it belongs to another cluster".to_owned()),
            Outcome::OtherNode => Told::Conflict("its data directory was replaced".to_owned()),
            Outcome::CallerLeft => Told::Left,
            Outcome::Unspecified => Told::Later,
        },
        Err(status) => match handshake_error(&status) {
            Some(HandshakeError::KnownOtherwise { .. }) => {
                Told::Conflict("it knows this node under another identity".to_owned())
            }
            Some(HandshakeError::Refused) => {
                Told::Conflict("its data directory was replaced".to_owned())
            }
            Some(_) | None => {
                debug!(node_id = %node.id, reason = status.message(), "member not reached");
                Told::Later
            }
        },
    }
}
