//! A node whose data directory is damaged as a whole (ADR 0082): it asks the others whether they go on without what is in it, and only then
//! begins anew, as a node with a blank directory does. Not here: moving files (`warren-storage`), being taken in (`formation`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use tokio::sync::watch as channel;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use warren_proto::internal_v1::node_service_client::NodeServiceClient;
use warren_proto::internal_v1::{StandWithoutRequest, StandWithoutResponse};
use warren_raft::{Lane, Peers};
use warren_shard::Broker;
use warren_storage::{Damaged, DataDir, DataDirError};
use warren_topology::Addresses;
use warren_types::NodeId;

use crate::config::Config;
use crate::failure::{Failure, StartError, fail};
use crate::formation::{FormationError, Record};
use crate::identity::{Identity, id_bytes};
use crate::options::peers;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Groups that this node led elect another leader meanwhile.
const ASK_FOR: Duration = Duration::from_secs(20);
/// A disk that damages everything is not to be filled again and again.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Opens the data directory. One that an earlier run found damaged is begun anew if the others go on without it, and used as it is if not.
///
/// # Errors
/// It cannot be opened, or the start was interrupted.
pub(crate) async fn open_dir(
    config: &Config,
    stop: &CancellationToken,
) -> Result<DataDir, StartError> {
    let dir = open(config).await?;
    let Some(damaged) = dir.damaged()? else {
        return Ok(dir);
    };
    match begin_anew(config, dir, damaged, stop).await? {
        Begun::Anew(dir) => Ok(dir),
        Begun::NotYet(dir, why) => {
            warn!(why, "the data directory is damaged and used as it is");
            Ok(dir)
        }
    }
}

/// What was found damaged when it was opened is begun anew if the others go on without it.
///
/// # Errors
/// Why the start had failed, if it is not begun anew.
pub(crate) async fn after_damage(
    config: &Config,
    failed: StartError,
    stop: &CancellationToken,
) -> Result<DataDir, StartError> {
    let cause = failed.damage().unwrap_or_default();
    error!(cause, "the data directory is damaged");
    let dir = open(config).await?;
    let damaged = now(cause);
    dir.note_damaged(damaged.clone())?;
    match begin_anew(config, dir, damaged, stop).await? {
        Begun::Anew(dir) => Ok(dir),
        Begun::NotYet(_, why) => {
            error!(why, "the node does not begin anew");
            Err(failed)
        }
    }
}

/// Remembers damage for the next start.
pub(crate) async fn note(dir: Arc<DataDir>, cause: String) {
    let noted = tokio::task::spawn_blocking(move || dir.note_damaged(now(cause))).await;
    match noted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "damage is forgotten when the node ends"),
        Err(error) => debug!(%error, "damage was not noted"),
    }
}

/// Ends the node when its replica of the topology is damaged and the others go on without it: that is replaced with the whole node only.
pub(crate) async fn watch(
    broker: Broker,
    dir: Arc<DataDir>,
    question: Question,
    failure: channel::Sender<Option<Failure>>,
) {
    let mut told = String::new();
    loop {
        if let Some(cause) = broker.damage() {
            let Err(why) = question.ask().await else {
                note(dir, cause.to_string()).await;
                return fail(&failure, Failure::Damaged { cause });
            };
            if why != told {
                error!(
                    cause = &*cause,
                    why, "the topology's replica is damaged, and this node is needed as it is"
                );
                told = why;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn open(config: &Config) -> Result<DataDir, StartError> {
    let (path, id) = (config.node.data_dir.clone(), config.node.id);
    let engine = config.storage.log_engine;
    blocking(move || DataDir::open_with(&path, id, engine)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DataDirError> + Send + 'static,
) -> Result<T, StartError> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

fn now(cause: String) -> Damaged {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let at_ms = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    Damaged { cause, at_ms }
}

/// What became of a damaged directory.
enum Begun {
    /// It is blank now.
    Anew(DataDir),
    /// Nothing was changed.
    NotYet(DataDir, String),
}

async fn begin_anew(
    config: &Config,
    dir: DataDir,
    damaged: Damaged,
    stop: &CancellationToken,
) -> Result<Begun, StartError> {
    let record = match Record::read(dir.path()) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(Begun::NotYet(dir, "it is part of no cluster".to_owned())),
        Err(error) => return Ok(Begun::NotYet(dir, error.to_string())),
    };
    let at = now(damaged.cause);
    let before = match dir.left_behind_at_ms() {
        Ok(before) => before,
        // What it says is not known: nothing is put in its place.
        Err(error) => return Ok(Begun::NotYet(dir, error.to_string())),
    };
    if let Some(before) = before {
        let ago = Duration::from_millis(at.at_ms.saturating_sub(before));
        if ago < AGAIN_AFTER {
            let why = format!("that was done {} s ago: is the disk broken?", ago.as_secs());
            return Ok(Begun::NotYet(dir, why));
        }
    }
    if !dir.is_on_one_file_system()? {
        let why = "a part of it lies on another file system".to_owned();
        return Ok(Begun::NotYet(dir, why));
    }
    if let Err(why) = ask(config, &dir, &record, stop).await? {
        return Ok(Begun::NotYet(dir, why));
    }
    warn!(cause = at.cause, path = %dir.path().display(), "all of the damaged data directory is moved to its directory damaged; the node joins anew");
    Ok(Begun::Anew(blocking(move || dir.begin_anew(at)).await?))
}

/// Whether the others go on without this node.
pub(crate) struct Question {
    peers: Peers,
    others: BTreeSet<NodeId>,
    /// Blank, it knows nobody but those it is configured with.
    doors: BTreeSet<NodeId>,
    request: StandWithoutRequest,
}

impl Question {
    /// The addresses of all members are known to `peers`.
    pub(crate) fn new(peers: Peers, us: &Identity, record: &Record) -> Self {
        let others = record.cluster.nodes.iter().map(|it| it.id);
        let others: BTreeSet<NodeId> = others.filter(|it| *it != us.node).collect();
        Self {
            peers,
            doors: us.peers.intersection(&others).copied().collect(),
            others,
            request: StandWithoutRequest {
                cluster_id: id_bytes(record.cluster.cluster.0),
                node_id: us.node.0,
            },
        }
    }

    /// The error: what is missing.
    async fn ask(&self) -> Result<(), String> {
        let asked = self.others.iter();
        let asked = asked.map(|node| ask_one(&self.peers, *node, &self.request));
        let answers: BTreeMap<NodeId, StandWithoutResponse> =
            join_all(asked).await.into_iter().flatten().collect();
        judge(&answers, &self.doors)
    }
}

/// Asks until all groups go on without this node, for a while. The inner error: what is missing.
async fn ask(
    config: &Config,
    dir: &DataDir,
    record: &Record,
    stop: &CancellationToken,
) -> Result<Result<(), String>, StartError> {
    let nowhere = Addresses {
        node: "".into(),
        grpc: "".into(),
        amqp: "".into(),
    };
    let us = Identity::new(config, dir, nowhere);
    let peers = peers(config, &us);
    for node in record.cluster.nodes.iter().filter(|it| it.id != us.node) {
        if !us.peers.contains(&node.id) {
            peers.set_address(node.id, node.addresses.node.to_string());
        }
    }
    let question = Question::new(peers, &us, record);
    info!(nodes = ?question.others, "asking whether the others go on without this node");
    let deadline = Instant::now() + ASK_FOR;
    loop {
        let Err(why) = question.ask().await else {
            return Ok(Ok(()));
        };
        debug!(why, "not now");
        if Instant::now() >= deadline {
            return Ok(Err(why));
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return Err(FormationError::Stopped.into()),
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}

async fn ask_one(
    peers: &Peers,
    node: NodeId,
    request: &StandWithoutRequest,
) -> Option<(NodeId, StandWithoutResponse)> {
    let channel = peers.channel(node, Lane::Control)?;
    let mut client = NodeServiceClient::new(channel);
    match timeout(ANSWER_WITHIN, client.stand_without(request.clone())).await {
        Ok(Ok(response)) => Some((node, response.into_inner())),
        // One of the version before does not know the question.
        Ok(Err(status)) => {
            debug!(node_id = %node, error = status.message(), "no answer");
            None
        }
        Err(_) => None,
    }
}

/// Every group has said by its leader that it goes on, and somebody is there who can take this node in again.
fn judge(
    answers: &BTreeMap<NodeId, StandWithoutResponse>,
    doors: &BTreeSet<NodeId>,
) -> Result<(), String> {
    if !answers.keys().any(|it| doors.contains(it)) {
        return Err("none of the nodes in cluster.peers answers".to_owned());
    }
    let groups: BTreeSet<u32> = answers
        .values()
        .flat_map(|it| it.groups.iter().copied())
        .collect();
    if groups.is_empty() {
        return Err("no other node leads the topology".to_owned());
    }
    let standing = |group: &u32| answers.values().any(|it| it.standing.contains(group));
    let missing: Vec<String> = groups
        .iter()
        .filter(|it| !standing(it))
        .map(u32::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(format!(
        "groups {missing} have no majority of whole copies without this node"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(standing: &[u32], groups: &[u32]) -> StandWithoutResponse {
        StandWithoutResponse {
            standing: standing.to_vec(),
            groups: groups.to_vec(),
        }
    }

    fn judged(answers: &[(u64, StandWithoutResponse)], doors: &[u64]) -> Result<(), String> {
        let answers = answers.iter().cloned();
        let answers = answers.map(|(node, said)| (NodeId(node), said)).collect();
        judge(&answers, &doors.iter().copied().map(NodeId).collect())
    }

    #[test]
    fn directory_is_given_up_only_when_every_group_goes_on_without_it() {
        let one = (1, said(&[0, 1], &[0, 1, 2]));
        let two = (2, said(&[2], &[]));
        assert_eq!(judged(&[one.clone(), two.clone()], &[1, 2]), Ok(()));
        assert_eq!(judged(&[one.clone(), two.clone()], &[2]), Ok(()));
        let why = judged(&[one.clone(), two.clone()], &[5]).unwrap_err();
        assert!(why.contains("cluster.peers"), "{why}");
        let why = judged(std::slice::from_ref(&one), &[1]).unwrap_err();
        assert!(why.starts_with("groups 2 have no majority"), "{why}");
        // The topology's leader has not answered: nobody knows which groups there are.
        let why = judged(std::slice::from_ref(&two), &[2]).unwrap_err();
        assert!(why.contains("topology"), "{why}");
        assert!(judged(&[], &[1]).is_err());
        let no_topology = (1, said(&[1], &[0, 1, 2]));
        assert!(judged(&[no_topology, two], &[1]).is_err());
    }
}
