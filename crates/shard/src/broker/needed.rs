//! Whether groups could go on without this node now: the nodes that lead them are asked (`without` answers). For whoever is about to stop it.
//! Not here: waiting until they can (`warren-cli`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use warren_proto::internal_v1 as wire;
use warren_types::{GroupId, NodeId};

use super::Broker;

/// Longer than a node takes to prove what it says.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A node that was not heard from for so long is not asked.
const LIVE_WITHIN: Duration = Duration::from_secs(1);

type Standing = BTreeMap<NodeId, BTreeSet<GroupId>>;

impl Broker {
    /// The groups with a vote here, and others elsewhere, most of which are down or have not caught up: without this node nothing would be
    /// committed. As the nodes say that lead them; one that says nothing is not counted.
    pub async fn needed_for(&self) -> BTreeSet<GroupId> {
        let me = &self.inner.me;
        let nodes = self.inner.peers.live(LIVE_WITHIN);
        let asked = nodes.into_iter().map(|node| self.ask_without_this(node));
        let own = self.serve_stand_without(me.node, me.incarnation);
        let (own, others) = tokio::join!(own, join_all(asked));
        let mut standing: Standing = others.into_iter().flatten().collect();
        standing.insert(me.node, groups(&own));
        let handles = self.inner.groups.read();
        let votes = handles.values().map(warren_raft::Group::status);
        let votes = votes.filter(|it| it.voters.len() > 1);
        let votes = votes.filter(|it| it.voters.iter().any(|voter| voter.replica == it.replica));
        let led = votes.map(|it| (it.group, it.leadership.leader.map(|leader| leader.node)));
        needed(led, &standing)
    }

    async fn ask_without_this(&self, node: NodeId) -> Option<(NodeId, BTreeSet<GroupId>)> {
        let mut client = self.client(node).ok()?;
        let request = wire::StandWithoutRequest {
            cluster_id: self.inner.topology.cluster_bytes(),
            node_id: self.inner.me.node.0,
        };
        // An earlier version does not know the question.
        let answered = timeout(ANSWER_WITHIN, client.stand_without(request)).await;
        let answer = answered.ok()?.ok()?.into_inner();
        Some((node, groups(&answer)))
    }
}

fn groups(answer: &wire::StandWithoutResponse) -> BTreeSet<GroupId> {
    answer.standing.iter().copied().map(GroupId).collect()
}

fn needed(
    led: impl Iterator<Item = (GroupId, Option<NodeId>)>,
    standing: &Standing,
) -> BTreeSet<GroupId> {
    let needs = led.filter(|(group, leader)| {
        let said = leader.and_then(|it| standing.get(&it));
        said.is_some_and(|it| !it.contains(group))
    });
    needs.map(|(group, _)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_needed_whose_leader_does_not_say_that_they_stand() {
        let said = |groups: &[u32]| groups.iter().copied().map(GroupId).collect();
        let standing = Standing::from([(NodeId(1), said(&[1])), (NodeId(2), said(&[2, 3]))]);
        let led = [
            (GroupId(1), Some(NodeId(1))),
            (GroupId(2), Some(NodeId(1))),
            (GroupId(3), Some(NodeId(2))),
            (GroupId(4), Some(NodeId(3))),
            (GroupId(5), None),
        ];
        let needed = needed(led.into_iter(), &standing);
        let expected = BTreeSet::from([GroupId(2)]);
        assert_eq!(needed, expected, "4 and 5 are led by nobody who answers");
    }
}
