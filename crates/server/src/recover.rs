//! The last resort when most nodes are lost for good: the copies of one that is left become the groups, as its only voters. Works on the
//! directory of a node that does not run. What only the lost nodes had is lost; what is in these copies counts from then on, confirmed or not.
//! Not here: asking whether it is meant (`cli`), new replicas (they are placed as always once the node runs).

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::SystemTime;

use prost::Message as _;
use thiserror::Error;
use warren_proto::stored_v1 as stored;
use warren_proto::stored_v1::stored_entry::Body;
use warren_storage::{
    DataDir, DataDirError, DumpError, GroupLog, GroupLogState, KeptGroup, LogError, LogRecord,
    RecoveryRecord, SetAside, dump_log,
};
use warren_types::{ClusterId, GroupId, LogId, LogIndex, Member, NodeId, ReplicaId, Term, Vote};

use crate::config::Config;
use crate::formation::{FormationError, Record};
use crate::storage::{Storage, StorageError};

/// What would be done, and what is known of what would be lost.
#[derive(Clone, Debug)]
pub struct Recovery {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// The other members, with the addresses that were last known.
    pub lost: Vec<(NodeId, String)>,
    /// The copies that would become the groups, in order; the first is the topology's.
    pub copies: Vec<Copy>,
}

/// One group's copy on this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copy {
    pub group: GroupId,
    pub replica: ReplicaId,
    /// Entries after it are not here.
    pub last: LogId,
    /// Entries after it are here and were not known to be confirmed.
    pub committed: Option<LogIndex>,
}

/// A copy that does not count: it is set aside, and never opened again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsideCopy {
    pub group: GroupId,
    pub replica: ReplicaId,
    /// In words.
    pub cause: String,
}

/// Why nothing was done, or not all of it: then it is to be repeated.
#[derive(Debug, Error)]
pub enum RecoverError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Log(#[from] DumpError),
    #[error(transparent)]
    Formation(#[from] FormationError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("group {group}: {source}")]
    Group { group: GroupId, source: LogError },
    #[error("{path} is not part of a cluster", path = path.display())]
    NoCluster { path: PathBuf },
    #[error("node {node} is the only member: nothing is to be recovered")]
    Alone { node: NodeId },
    #[error(
        "node {node} has no copy of shards {shards:?} that counts: take another node's directory, or all their messages would be lost{}",
        told(.aside)
    )]
    NotWhole {
        node: NodeId,
        shards: Vec<u32>,
        /// Of those shards.
        aside: Vec<AsideCopy>,
    },
    #[error("the writer of the log ended")]
    WriterEnded,
}

/// Looks at a directory and writes nothing. Blocks on the disk.
///
/// # Errors
/// It cannot be recovered from this directory.
pub fn look(config: &Config) -> Result<Recovery, RecoverError> {
    let path = &config.node.data_dir;
    let mut copies = Vec::new();
    let mut note = |it: &warren_storage::DumpedGroup| {
        copies.extend(copy_of(it.group, it.replica, &it.state));
        false
    };
    dump_log(path, &mut note, &mut |_, _| Ok(()))?;
    copies.sort_by_key(|it| it.group);
    let (copies, aside) = without_aside(path, copies)?;
    let record = Record::read(path)?;
    let record = record.ok_or_else(|| RecoverError::NoCluster { path: path.clone() })?;
    let node = config.node.id;
    let others = record.cluster.nodes.iter().filter(|it| it.id != node);
    let lost: Vec<(NodeId, String)> = others
        .map(|it| (it.id, it.addresses.node.to_string()))
        .collect();
    if lost.is_empty() {
        return Err(RecoverError::Alone { node });
    }
    let is_here = |group: u32| copies.iter().any(|it| it.group.0 == group);
    let shards: Vec<u32> = (0..=record.cluster.shards)
        .filter(|group| !is_here(*group))
        .collect();
    if !shards.is_empty() {
        let missing = |it: &AsideCopy| shards.contains(&it.group.0);
        let aside = aside.into_iter().filter(missing).collect();
        return Err(RecoverError::NotWhole {
            node,
            shards,
            aside,
        });
    }
    Ok(Recovery {
        node,
        cluster: record.cluster.cluster,
        lost,
        copies,
    })
}

/// Does it, and writes down first who does, which stays. Can be repeated after any error and any end of the process, and is written down each
/// time. Blocks on the disk.
///
/// # Errors
/// Not all of it is done: repeat it before the node is started.
pub fn recover(config: &Config, recovery: &Recovery, by: &str) -> Result<(), RecoverError> {
    let path = &config.node.data_dir;
    let dir = DataDir::open_with(path, config.node.id, config.storage.log_engine)?;
    dir.note_recovery(record_of(recovery, by))?;
    let storage = Storage::open(&dir, &config.storage)?;
    let done = (|| {
        for copy in &recovery.copies {
            let at = |source| RecoverError::Group {
                group: copy.group,
                source,
            };
            let log = storage.log.open_group(copy.group, copy.replica);
            stand_alone(&*log.map_err(at)?, copy, recovery.node)
                .map_err(|error| error.map_or(RecoverError::WriterEnded, at))?;
        }
        // Last: as long as the others are in it the node does not start against them.
        let record = Record::read(path)?;
        let mut record = record.ok_or_else(|| RecoverError::NoCluster { path: path.clone() })?;
        let is_own = |it: &Member| it.node == recovery.node;
        record.cluster.nodes.retain(|it| it.id == recovery.node);
        record.cluster.topology_members.retain(is_own);
        record.write(&dir)?;
        // Nobody else has it: it is used, damaged or not.
        Ok(dir.forget_damaged()?)
    })();
    storage.close();
    done
}

fn record_of(recovery: &Recovery, by: &str) -> RecoveryRecord {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let at_ms = since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
    let kept = recovery.copies.iter().map(|it| KeptGroup {
        group: it.group,
        last_index: it.last.index,
        last_term: it.last.term,
        committed: it.committed.unwrap_or(LogIndex(0)),
    });
    RecoveryRecord {
        at_ms,
        by: by.to_owned(),
        node: recovery.node,
        lost: recovery.lost.iter().map(|(node, _)| *node).collect(),
        kept: kept.collect(),
    }
}

/// What is set aside is no copy: the node does not open it again.
fn without_aside(
    path: &Path,
    copies: Vec<Copy>,
) -> Result<(Vec<Copy>, Vec<AsideCopy>), RecoverError> {
    let known = SetAside::of(path)?;
    let (bad, good): (Vec<Copy>, Vec<Copy>) = copies
        .into_iter()
        .partition(|it| known.has(it.group, it.replica));
    let aside = bad.into_iter().map(|it| AsideCopy {
        group: it.group,
        replica: it.replica,
        cause: known.get(it.group).map(|it| it.cause).unwrap_or_default(),
    });
    Ok((good, aside.collect()))
}

/// Why copies do not count, for the end of a message.
fn told(aside: &[AsideCopy]) -> String {
    let told = aside.iter().map(|it| {
        format!(
            "; its copy of shard {} is set aside: {}",
            it.group, it.cause
        )
    });
    told.collect()
}

fn copy_of(group: GroupId, replica: ReplicaId, state: &GroupLogState) -> Option<Copy> {
    Some(Copy {
        group,
        replica,
        last: state.last?,
        committed: state.committed.map(|it| it.index),
    })
}

/// The vote and the entry of a membership of this replica alone, in a term that nobody has led: as the newest membership in the log it
/// holds from the next start on. `None`: the writer ended.
fn stand_alone(log: &dyn GroupLog, copy: &Copy, node: NodeId) -> Result<(), Option<LogError>> {
    let state = log.state();
    let last = state.last.unwrap_or(copy.last);
    let voted = state.vote.map_or(Term(0), |it| it.term);
    let term = Term(voted.max(last.term).0 + 1);
    let vote = Vote {
        term,
        replica: copy.replica,
        committed: false,
    };
    wait(|done| log.save_vote(vote, done))?;
    let record = LogRecord {
        id: LogId {
            term,
            leader: copy.replica,
            index: LogIndex(last.index.0 + 1),
        },
        bytes: alone(copy.replica, node).encode_to_vec().into(),
    };
    wait(|done| log.append(vec![record], done))
}

fn wait(step: impl FnOnce(warren_storage::Done)) -> Result<(), Option<LogError>> {
    let (told, done) = mpsc::sync_channel(1);
    step(Box::new(move |result| {
        // Nobody waits any more only if this process is ending.
        let _ = told.send(result);
    }));
    done.recv().map_err(|_| None)?.map_err(Some)
}

fn alone(replica: ReplicaId, node: NodeId) -> stored::StoredEntry {
    let membership = stored::StoredMembership {
        configs: vec![stored::stored_membership::VoterSet {
            replicas: vec![replica.0],
        }],
        members: vec![stored::StoredMember {
            replica: replica.0,
            node: node.0,
        }],
    };
    stored::StoredEntry {
        body: Some(Body::Membership(membership)),
    }
}

#[cfg(test)]
mod tests;
