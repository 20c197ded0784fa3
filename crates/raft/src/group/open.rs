//! Opens a replica from what is stored: checks that log and state fit together, makes the machine, builds openraft's core.
//! Not here: what happens when it fails later (`supervisor`).

use std::sync::Arc;

use openraft::Raft;
use thiserror::Error;
use warren_storage::{GroupLog, LogEngine, LogError, ReplicaState, StateError, StateStore};
use warren_types::{GroupId, LogId, ReplicaId};

use super::shared::{RaftOf, Shared};
use crate::convert::{self, ReplicaMeta};
use crate::log::LogStore;
use crate::machine::{Appliers, ApplyError, MachineFactory, OpenSlot, StateMachine};
use crate::net::{Links, NetworkFactory, Peers};
use crate::options::RaftOptions;

/// What a node is to do for a group.
pub struct GroupSpec {
    pub group: GroupId,
    pub replica: ReplicaId,
    pub machine: Box<dyn MachineFactory>,
    /// Nothing need be stored: it is new. Say so only of a replica that is known never to have voted.
    pub may_be_blank: bool,
}

/// Why a replica was not opened. It takes no part in its group then; nothing on disk was changed.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("group {0} is open already")]
    OpenAlready(GroupId),
    #[error("log of group {group} cannot be used")]
    Log { group: GroupId, source: LogError },
    #[error("state of group {group} cannot be used")]
    State { group: GroupId, source: StateError },
    #[error(
        "group {group} has applied up to {applied:?}, but its log ends at {last:?}: the log is short or another's"
    )]
    LogTooShort {
        group: GroupId,
        applied: LogId,
        last: Option<LogId>,
    },
    /// It may be a replica whose data is gone.
    #[error("nothing is stored of replica {replica} of group {group}")]
    Blank { group: GroupId, replica: ReplicaId },
    /// Rows of the replica are not what was written.
    #[error("rows of group {group} are damaged: {detail}")]
    Damaged { group: GroupId, detail: Arc<str> },
    #[error("group {group} is not usable: {cause}")]
    Refused { group: GroupId, cause: String },
    #[error("the node is stopping")]
    Stopped,
}

/// What all replicas of a node share.
pub(crate) struct Parts {
    pub options: Arc<RaftOptions>,
    pub log: Arc<dyn LogEngine>,
    pub state: StateStore,
    pub peers: Peers,
    pub appliers: Appliers,
    pub links: Links,
}

/// One replica's own storage; stays open while its core is built again.
pub(super) struct Stored {
    pub log: Arc<dyn GroupLog>,
    pub state: ReplicaState,
    pub machine: Arc<dyn MachineFactory>,
}

/// Opens both stores. Blocks on disk.
pub(super) fn open_stores(parts: &Parts, spec: GroupSpec) -> Result<Stored, OpenError> {
    let GroupSpec {
        group,
        replica,
        machine,
        may_be_blank,
    } = spec;
    let log = parts
        .log
        .open_group(group, replica)
        .map_err(|source| OpenError::Log { group, source })?;
    let state = parts
        .state
        .replica(group, replica)
        .map_err(|source| OpenError::State { group, source })?;
    let known = log.state();
    let is_blank = known.last.is_none()
        && known.vote.is_none()
        && known.purged.is_none()
        && state.meta().is_none();
    if is_blank && !may_be_blank {
        return Err(OpenError::Blank { group, replica });
    }
    Ok(Stored {
        log,
        state,
        machine: machine.into(),
    })
}

/// Builds the core, without letting it run.
pub(super) async fn build(
    parts: &Arc<Parts>,
    shared: &Arc<Shared>,
    stored: &Stored,
) -> Result<RaftOf, OpenError> {
    let group = shared.group;
    let refused = |cause: String| OpenError::Refused { group, cause };

    let meta = stored_meta(stored.state.meta()).map_err(refused)?;
    let installed = stored_meta(stored.state.installed_meta()).map_err(refused)?;
    check_log_covers(group, stored.log.as_ref(), &meta, &installed)?;

    let applier = parts.appliers.of(group).ok_or(OpenError::Stopped)?;
    let slot = OpenSlot {
        group,
        factory: stored.machine.clone(),
        state: stored.state.clone(),
        applied: meta.applied.as_ref().map(convert::log_id_from_raft),
        progress: shared.applied.clone(),
        damage: shared.damage.clone(),
    };
    let opened = applier.open(slot).await;
    opened.map_err(|error| match error {
        ApplyError::Damaged { group, detail } => OpenError::Damaged { group, detail },
        error @ (ApplyError::State(_)
        | ApplyError::Machine(_)
        | ApplyError::Panicked { .. }
        | ApplyError::NotOpen(_)
        | ApplyError::Ended) => refused(error.to_string()),
    })?;

    let config = parts
        .options
        .openraft(group)
        .map_err(|error| refused(error.to_string()))?;
    let network = NetworkFactory::new(shared.clone(), parts.links.clone());
    let log = LogStore::new(stored.log.clone());
    let durable = stored.log.durable();
    let machine = StateMachine::new(group, stored.state.clone(), applier, durable, meta);
    Raft::build(shared.replica.0, Arc::new(config), network, log, machine)
        .await
        .map_err(|error| refused(error.to_string()))
}

fn stored_meta(bytes: Option<bytes::Bytes>) -> Result<ReplicaMeta, String> {
    match bytes {
        None => Ok(ReplicaMeta::default()),
        Some(bytes) => ReplicaMeta::decode(&bytes).map_err(|error| error.to_string()),
    }
}

/// I4: the log must reach what was applied, and agree with it there; openraft would otherwise purge it in silence.
///
/// The one state that explains a log which ends earlier is a snapshot that was installed when the log's purge, which is not
/// synced on its own, was lost. Anything appended after that purge would have carried it to the disk.
fn check_log_covers(
    group: GroupId,
    log: &dyn GroupLog,
    meta: &ReplicaMeta,
    installed: &ReplicaMeta,
) -> Result<(), OpenError> {
    let Some(applied) = meta.applied.as_ref().map(convert::log_id_from_raft) else {
        return Ok(());
    };
    let log_state = log.state();
    let too_short = OpenError::LogTooShort {
        group,
        applied,
        last: log_state.last,
    };
    if log_state.last < Some(applied) {
        let explained = installed.applied == meta.applied
            && log_state.last.is_none_or(|last| last.index < applied.index);
        return if explained { Ok(()) } else { Err(too_short) };
    }
    if log_state.purged.is_some_and(|purged| purged >= applied) {
        // More was purged than is applied: entries that nobody here has any more.
        return if log_state.purged == Some(applied) {
            Ok(())
        } else {
            Err(too_short)
        };
    }
    let there = log
        .log_id(applied.index)
        .map_err(|source| OpenError::Log { group, source })?;
    if there == Some(applied) {
        Ok(())
    } else {
        Err(too_short)
    }
}
