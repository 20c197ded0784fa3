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

pub(crate) async fn initialise(
    raft: &RaftNode,
    group: GroupId,
    members: &[Member],
) -> Result<(), BrokerError> {
    raft.initialize(group, members)
        .await
        .map_err(|error| BrokerError::Initialise {
            group,
            cause: error.to_string(),
        })
}
