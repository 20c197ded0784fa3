//! Whether the cluster goes on without one of its nodes (ADR 0082): each node answers for the groups it leads. And what damage of this node no
//! single replica of a shard can be blamed for. Not here: what a node does that nobody needs (`warren-server`).

use std::sync::Arc;

use tokio::time::Instant;
use warren_proto::internal_v1 as wire;
use warren_raft::GroupStatus;
use warren_types::{GroupId, NodeId};

use super::Broker;
use super::members::{answers, is_near};

impl Broker {
    /// Answers a node that would give up all it has.
    #[must_use]
    pub fn serve_stand_without(
        &self,
        request: &wire::StandWithoutRequest,
    ) -> wire::StandWithoutResponse {
        let (node, in_doubt) = (NodeId(request.node_id), self.in_doubt());
        let led: Vec<GroupStatus> = {
            let groups = self.inner.groups.read();
            let led = groups.values().filter(|it| it.lease_until().is_some());
            led.map(warren_raft::Group::status).collect()
        };
        let now = Instant::now();
        let standing = led
            .iter()
            .filter(|it| !in_doubt.contains(&it.group) && stands(it, node, now));
        let all = self.leads_topology().then(|| {
            let topology = self.inner.topology.current();
            topology.placements().map(|it| it.group.0).collect()
        });
        wire::StandWithoutResponse {
            standing: standing.map(|it| it.group.0).collect(),
            groups: all.unwrap_or_default(),
        }
    }

    /// What is damaged here beyond replicas of shards, which are set aside one by one: the topology's replica.
    #[must_use]
    pub fn damage(&self) -> Option<Arc<str>> {
        let groups = self.inner.groups.read();
        groups.get(&GroupId::TOPOLOGY)?.damage()
    }
}

/// Whether most voters of a group led here have what it has, without those of one node: whatever is committed is there then, and goes on.
fn stands(status: &GroupStatus, without: NodeId, now: Instant) -> bool {
    let own = status.replica;
    let others = status.voters.iter().filter(|it| it.node != without);
    let ready =
        others.filter(|it| it.replica == own || (is_near(status, it) && answers(status, it, now)));
    !status.joint && ready.count() > status.voters.len() / 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use warren_raft::{FollowerStatus, ReplicaHealth, Role};
    use warren_types::{Leadership, LogIndex, Member, ReplicaId};

    use super::*;

    fn member(number: u64) -> Member {
        Member {
            replica: ReplicaId(number),
            node: NodeId(number),
        }
    }

    /// Replica 1 leads and has 5,000 entries; of the others so many.
    fn status(voters: u64, matched: &[(u64, u64)], acked: Instant) -> GroupStatus {
        let follower = |&(number, index): &(u64, u64)| FollowerStatus {
            replica: ReplicaId(number),
            node: NodeId(number),
            matched: Some(LogIndex(index)),
            acked: Some(acked),
        };
        GroupStatus {
            group: GroupId(1),
            replica: ReplicaId(1),
            health: ReplicaHealth::Running,
            role: Role::Leader,
            leadership: Leadership::default(),
            last_log: Some(LogIndex(5_000)),
            committed: None,
            heard_commit: None,
            applied: None,
            purged: None,
            voters: (1..=voters).map(member).collect(),
            learners: Vec::new(),
            joint: false,
            followers: matched.iter().map(follower).collect(),
            waiting: 0,
            waiting_bytes: 0,
        }
    }

    #[test]
    fn group_stands_without_a_node_while_most_voters_are_others_that_have_all() {
        let now = Instant::now();
        let three = status(3, &[(2, 5_000), (3, 4_990)], now);
        assert!(stands(&three, NodeId(3), now));
        assert!(stands(&three, NodeId(9), now), "it has no replica there");
        assert!(!stands(&three, NodeId(3), now + Duration::from_secs(3)));
        let behind = status(3, &[(2, 3_000), (3, 5_000)], now);
        assert!(!stands(&behind, NodeId(3), now));
        assert!(stands(&behind, NodeId(2), now));
        let two = status(2, &[(2, 5_000)], now);
        assert!(!stands(&two, NodeId(2), now), "one of two is no majority");
        let alone = status(1, &[], now);
        assert!(stands(&alone, NodeId(2), now) && !stands(&alone, NodeId(1), now));
        let mut changing = three;
        changing.joint = true;
        assert!(!stands(&changing, NodeId(3), now));
    }
}
