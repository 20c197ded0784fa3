//! Whether the cluster goes on without one of its nodes (ADR 0082): each node answers for the groups it leads. And what damage of this node no
//! single replica of a shard can be blamed for. Not here: what a node does that nobody needs (`warren-server`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use warren_proto::internal_v1 as wire;
use warren_raft::GroupStatus;
use warren_topology::plan::Condition;
use warren_types::{Incarnation, NodeId};

use super::Broker;
use super::members::{follower, is_near};

/// Heartbeats go out and are answered several times in it.
const PROVED_WITHIN: Duration = Duration::from_millis(700);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Broker {
    /// Answers a node that would give up all it has; nothing to one that is no member. Most voters without it have to acknowledge something
    /// that was sent after it asked, when it served nothing any more: so two nodes are never both told that they are not needed.
    pub async fn serve_stand_without(
        &self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> wire::StandWithoutResponse {
        let asked = Instant::now();
        let member = self.inner.topology.current();
        let is_member = member
            .node(node)
            .is_some_and(|it| it.incarnation == incarnation);
        if !is_member {
            return wire::StandWithoutResponse::default();
        }
        loop {
            let (proved, missing) = self.standing_without(node, asked);
            if !missing || asked.elapsed() >= PROVED_WITHIN {
                return proved;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What is proved by now, and whether something that is led here is not.
    fn standing_without(&self, node: NodeId, asked: Instant) -> (wire::StandWithoutResponse, bool) {
        let in_doubt = self.in_doubt();
        let led: Vec<GroupStatus> = {
            let groups = self.inner.groups.read();
            let led = groups.values().filter(|it| it.lease_until().is_some());
            led.map(warren_raft::Group::status).collect()
        };
        let observed = self.observe();
        let stays = |it: NodeId| observed.condition(it) == Condition::Up;
        let standing: Vec<u32> = led
            .iter()
            .filter(|it| !in_doubt.contains(&it.group) && stands(it, node, asked, stays))
            .map(|it| it.group.0)
            .collect();
        let missing = standing.len() < led.len();
        let all = self.leads_topology().then(|| {
            let topology = self.inner.topology.current();
            topology.placements().map(|it| it.group.0).collect()
        });
        let answer = wire::StandWithoutResponse {
            standing,
            groups: all.unwrap_or_default(),
        };
        (answer, missing)
    }

    /// What is wrong here beyond replicas of shards, which are set aside one by one: the topology's replica, by its machine or by comparing it.
    #[must_use]
    pub fn damage(&self) -> Option<Arc<str>> {
        let found = self.inner.topology.group().damage();
        found.or_else(|| Some(self.inner.topology_audits.fault()?.cause))
    }
}

/// Whether most voters of a group led here have what it has, without those of one node, and have said so since it was asked: whatever is
/// committed is there then, and goes on. Nodes that are about to go do not count.
fn stands(
    status: &GroupStatus,
    without: NodeId,
    asked: Instant,
    stays: impl Fn(NodeId) -> bool,
) -> bool {
    let own = status.replica;
    let others = status.voters.iter();
    let others = others.filter(|it| it.node != without && stays(it.node));
    let ready = others.filter(|it| {
        let acked = follower(status, it).and_then(|it| it.acked);
        it.replica == own || (is_near(status, it) && acked.is_some_and(|at| at >= asked))
    });
    !status.is_joint() && ready.count() > status.voters.len() / 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing;
    use super::*;

    fn status(voters: u64, matched: &[(u64, u64)], acked: Instant) -> GroupStatus {
        let voters: Vec<u64> = (1..=voters).collect();
        testing::status(&voters, &[], matched, acked)
    }

    #[test]
    fn group_stands_without_a_node_while_most_voters_are_others_that_have_all() {
        let now = Instant::now();
        let stands =
            |status: &GroupStatus, node, asked| super::stands(status, node, asked, |_| true);
        let three = status(3, &[(2, 5_000), (3, 4_990)], now);
        assert!(stands(&three, NodeId(3), now));
        assert!(stands(&three, NodeId(9), now), "it has no replica there");
        let later = now + Duration::from_millis(1);
        assert!(
            !stands(&three, NodeId(3), later),
            "said before it was asked"
        );
        let goes = |it| it != NodeId(2);
        assert!(!super::stands(&three, NodeId(3), now, goes));
        let behind = status(3, &[(2, 3_000), (3, 5_000)], now);
        assert!(!stands(&behind, NodeId(3), now));
        assert!(stands(&behind, NodeId(2), now));
        let two = status(2, &[(2, 5_000)], now);
        assert!(!stands(&two, NodeId(2), now), "one of two is no majority");
        let alone = status(1, &[], now);
        assert!(stands(&alone, NodeId(2), now) && !stands(&alone, NodeId(1), now));
        let mut changing = three;
        changing.configs.push(testing::members(&[1, 2]));
        assert!(!stands(&changing, NodeId(3), now));
    }
}
