//! A group's status as its leader sees it, for the tests of those who judge by it. Not here: groups that run (`../../tests`).

use tokio::time::Instant;
use warren_raft::{FollowerStatus, GroupStatus, ReplicaHealth, Role};
use warren_types::{Leadership, LogIndex, Member, NodeId, ReplicaId, ShardId};

pub(super) fn member(number: u64) -> Member {
    Member {
        replica: ReplicaId(number),
        node: NodeId(number),
    }
}

pub(super) fn members(numbers: &[u64]) -> Vec<Member> {
    numbers.iter().copied().map(member).collect()
}

/// Replica 1 leads and has 5,000 entries; of the others so many.
pub(super) fn status(
    voters: &[u64],
    learners: &[u64],
    matched: &[(u64, u64)],
    acked: Instant,
) -> GroupStatus {
    let follower = |&(number, index): &(u64, u64)| FollowerStatus {
        replica: ReplicaId(number),
        node: NodeId(number),
        matched: Some(LogIndex(index)),
        acked: Some(acked),
    };
    GroupStatus {
        group: ShardId(1).into(),
        replica: ReplicaId(1),
        health: ReplicaHealth::Running,
        role: Role::Leader,
        leadership: Leadership::default(),
        last_log: Some(LogIndex(5_000)),
        committed: None,
        heard_commit: None,
        applied: None,
        purged: None,
        voters: members(voters),
        learners: members(learners),
        configs: vec![members(voters)],
        followers: matched.iter().map(follower).collect(),
        lease_until: None,
        waiting: 0,
        waiting_bytes: 0,
    }
}
