//! Changes who the members of a group are. Not here: who they should be and replica ids (`warren-topology`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use thiserror::Error;
use warren_types::Member;

use super::handle::Group;
use crate::config::Home;

/// A change that takes longer has an unknown outcome: the caller looks at the status and goes on from there.
const CHANGE_WITHIN: Duration = Duration::from_secs(10);

/// Why the members were not changed, as far as is known.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReconfigureError {
    #[error("this replica does not lead")]
    NotLeader,
    #[error("refused: {0}")]
    Refused(String),
    #[error("not finished within {} s: its outcome is unknown", CHANGE_WITHIN.as_secs())]
    TimedOut,
    #[error("the replica is stopped")]
    Stopped,
}

impl Group {
    /// Adds a member that receives the log and does not vote. Returns when that is committed; see `status` for how far it
    /// has caught up. May be repeated.
    ///
    /// # Errors
    /// One change at a time; leader only.
    pub async fn add_learner(&self, member: Member) -> Result<(), ReconfigureError> {
        let raft = self.shared.raft().ok_or(ReconfigureError::Stopped)?;
        let change = raft.add_learner(
            member.replica.0,
            Home {
                node: member.node.0,
            },
            false,
        );
        within(async { change.await.map(drop).map_err(|error| refused(&error)) }).await
    }

    /// Makes exactly these learners and members the voters; all others leave the group, except learners if they are kept.
    /// Goes through joint consensus by itself, and survives a change of leader in between: repeat it until it holds.
    ///
    /// # Errors
    /// One change at a time; leader only; every voter must be a member already.
    pub async fn change_voters(
        &self,
        voters: impl IntoIterator<Item = Member>,
        others: OtherMembers,
    ) -> Result<(), ReconfigureError> {
        let raft = self.shared.raft().ok_or(ReconfigureError::Stopped)?;
        let voters: BTreeSet<u64> = voters.into_iter().map(|it| it.replica.0).collect();
        let keep = match others {
            OtherMembers::BecomeLearners => true,
            OtherMembers::Leave => false,
        };
        let change = raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), keep);
        within(async { change.await.map(drop).map_err(|error| refused(&error)) }).await
    }

    /// Removes learners from the group.
    ///
    /// # Errors
    /// One change at a time; leader only.
    pub async fn remove_learners(
        &self,
        learners: impl IntoIterator<Item = Member>,
    ) -> Result<(), ReconfigureError> {
        let raft = self.shared.raft().ok_or(ReconfigureError::Stopped)?;
        let learners: BTreeSet<u64> = learners.into_iter().map(|it| it.replica.0).collect();
        let change = raft.change_membership(ChangeMembers::RemoveNodes(learners), true);
        within(async { change.await.map(drop).map_err(|error| refused(&error)) }).await
    }
}

/// What becomes of voters that are not among the new ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherMembers {
    BecomeLearners,
    Leave,
}

pub(crate) fn voters_map(members: &[Member]) -> BTreeMap<u64, Home> {
    members
        .iter()
        .map(|it| (it.replica.0, Home { node: it.node.0 }))
        .collect()
}

type WriteError = openraft::errors::RaftError<
    crate::config::TypeConfig,
    openraft::errors::ClientWriteError<crate::config::TypeConfig>,
>;

fn refused(error: &WriteError) -> ReconfigureError {
    if error.forward_to_leader().is_some() {
        ReconfigureError::NotLeader
    } else if error.fatal().is_some() {
        ReconfigureError::Stopped
    } else {
        ReconfigureError::Refused(error.to_string())
    }
}

async fn within(
    change: impl Future<Output = Result<(), ReconfigureError>>,
) -> Result<(), ReconfigureError> {
    tokio::time::timeout(CHANGE_WITHIN, change)
        .await
        .unwrap_or(Err(ReconfigureError::TimedOut))
}
