//! Opening and beginning a group, with the broker's errors. Not here: which groups (`broker`).

use warren_raft::{Group, GroupSpec, RaftNode};
use warren_types::{GroupId, Member};

use crate::broker::BrokerError;

pub(crate) async fn open(raft: &RaftNode, spec: GroupSpec) -> Result<Group, BrokerError> {
    let group = spec.group;
    raft.open_group(spec)
        .await
        .map_err(|source| BrokerError::Open { group, source })
}

/// Has a group begin with these members. One that has begun is left as it is: its members may have changed since.
pub(crate) async fn initialise(
    raft: &RaftNode,
    group: GroupId,
    members: &[Member],
) -> Result<(), BrokerError> {
    let Err(error) = raft.initialize(group, members).await else {
        return Ok(());
    };
    let known = raft.group(group).map(|it| it.status().voters);
    if known.is_some_and(|voters| !voters.is_empty()) {
        return Ok(());
    }
    Err(BrokerError::Initialise {
        group,
        cause: error.to_string(),
    })
}
