//! Replicas of this node that are wrong (ADR 0072): they stop at once and are set aside, which a restart does not forget; then the topology
//! is asked to place a new replica instead. Not here: finding them (`audit`), placing and making members (`placing`, `members`).

use std::time::Duration;

use tracing::{debug, error, info, warn};
use warren_storage::AsideReplica;
use warren_topology::{MoveReplica, PlacementCommand, TopologyCommand, TopologyReply};
use warren_types::{GroupId, NodeId, ReplicaId};

use super::Broker;
use crate::audit::Fault;
use crate::time::wall_clock_ms;

/// A disk that damages everything is not to be filled again and again: a group gets a new replica here once in so long.
const REPLACE_AFTER: Duration = Duration::from_secs(600);

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A replica that is set aside and not replaced yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsideView {
    pub node: NodeId,
    pub group: GroupId,
    pub replica: ReplicaId,
    /// In words.
    pub cause: String,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
}

impl Broker {
    /// Stops a replica for good, if it is still there.
    pub(super) async fn put_aside(&self, fault: Fault) {
        let Fault {
            shard,
            replica,
            cause,
        } = fault;
        let group = GroupId::from(shard);
        let open = self.inner.groups.read().get(&group).cloned();
        if open.is_none_or(|it| it.replica() != replica) {
            return;
        }
        if !self.is_placed(group, replica) {
            // Its placement is not settled: it stands still as any replica that fails, and is seen to.
            return debug!(shard_id = %shard, %replica, cause, "replica that is not placed for good is damaged");
        }
        error!(shard_id = %shard, %replica, cause, "replica is wrong: it stops, is set aside and will be replaced");
        // Written down first: a restart in the middle must not forget it.
        self.keep_aside(group, replica, cause).await;
        self.leave_shard(shard);
        self.inner.raft.close_group(group).await;
    }

    /// Same for one that cannot be opened.
    pub(super) async fn put_aside_closed(&self, group: GroupId, replica: ReplicaId, cause: String) {
        if self.is_placed(group, replica) {
            error!(%group, %replica, cause, "replica cannot be opened: it is set aside and will be replaced");
            self.keep_aside(group, replica, cause).await;
        }
    }

    async fn keep_aside(&self, group: GroupId, replica: ReplicaId, cause: String) {
        let before = self.inner.aside.get(group);
        let aside = AsideReplica {
            replica,
            at_ms: wall_clock_ms(),
            replaced_at_ms: before.map_or(0, |it| it.replaced_at_ms),
            cause,
        };
        self.remember_aside(group, aside).await;
    }

    async fn remember_aside(&self, group: GroupId, aside: AsideReplica) {
        let kept = self.inner.aside.clone();
        let put = tokio::task::spawn_blocking(move || kept.put(group, aside)).await;
        match put {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%group, %error, "what is set aside is forgotten if the node stops now")
            }
            Err(error) => debug!(%group, %error, "what is set aside was not kept"),
        }
    }

    /// Runs as long as the broker. Apart from all else: what it proposes may wait long for the topology's leader.
    pub(super) async fn tend_aside(self) {
        let stop = self.inner.stop.clone();
        let tending = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                self.look_after_aside().await;
            }
        };
        // Stopped in the middle it is seen again at the next start.
        stop.run_until_cancelled(tending).await;
    }

    /// Tells of replicas whose machines found damage, and asks for new replicas instead of those that are set aside.
    async fn look_after_aside(&self) {
        let groups: Vec<_> = self.inner.groups.read().values().cloned().collect();
        for group in groups {
            if let (Some(shard), Some(damage)) = (group.group().shard(), group.damage()) {
                self.inner.audits.tell(Fault {
                    shard,
                    replica: group.replica(),
                    cause: damage.to_string(),
                });
            }
        }
        if !self.inner.topology.is_recent() {
            return;
        }
        for (group, aside) in self.inner.aside.all() {
            if self.may_replace(group, &aside) {
                self.replace_aside(group, aside).await;
            }
        }
    }

    /// Only while another replica leads: then most are there without this one.
    fn may_replace(&self, group: GroupId, aside: &AsideReplica) -> bool {
        let rested = wall_clock_ms().saturating_sub(aside.replaced_at_ms);
        let me = self.inner.me.node;
        Duration::from_millis(rested) >= REPLACE_AFTER
            && self.is_placed(group, aside.replica)
            && self.leadership_of(group).is_some_and(|(at, _)| at != me)
    }

    /// Whether the replica is one that is to vote, with nothing under way.
    fn is_placed(&self, group: GroupId, replica: ReplicaId) -> bool {
        let topology = self.inner.topology.current();
        let placement = topology.placement(group).filter(|it| it.settled);
        placement.is_some_and(|it| it.members.iter().any(|member| member.replica == replica))
    }

    /// Takes the replica out of the group; the planner finds that one is missing and places a new one, here or elsewhere.
    async fn replace_aside(&self, group: GroupId, aside: AsideReplica) {
        let topology = self.inner.topology.current();
        let Some(placement) = topology.placement(group) else {
            return;
        };
        let command = PlacementCommand::MoveReplica(MoveReplica {
            group,
            generation: placement.generation,
            add: None,
            remove: Some(aside.replica),
        });
        let command = TopologyCommand::Placement(command);
        match self.inner.topology.propose(command, "").await {
            Ok(TopologyReply::Refused(refusal)) => {
                debug!(%group, %refusal, "replica set aside not taken out yet");
            }
            Ok(_) => {
                info!(%group, replica = %aside.replica, "replica set aside is taken out of its group");
                let replaced_at_ms = wall_clock_ms();
                let aside = AsideReplica {
                    replaced_at_ms,
                    ..aside
                };
                self.remember_aside(group, aside).await;
            }
            Err(error) => debug!(%group, %error, "replica set aside not taken out yet"),
        }
    }

    /// Replicas of this node that are set aside and not replaced yet. The topology's goes on until the others do without this node.
    #[must_use]
    pub fn set_aside(&self) -> Vec<AsideView> {
        let topology = self.inner.topology.current();
        let aside = self.inner.aside.all().into_iter();
        let placed = aside.filter(|(group, aside)| {
            let placement = topology.placement(*group);
            let mut all = placement
                .into_iter()
                .flat_map(|it| it.members.iter().chain(&it.former));
            all.any(|member| member.replica == aside.replica)
        });
        let node = self.inner.me.node;
        let views = placed.map(|(group, aside)| AsideView {
            node,
            group,
            replica: aside.replica,
            cause: aside.cause,
            at_ms: aside.at_ms,
        });
        let wrong = self.inner.topology_audits.fault();
        let of_topology = wrong.map(|fault| AsideView {
            node,
            group: GroupId::TOPOLOGY,
            replica: self.inner.topology.group().replica(),
            cause: fault.cause.to_string(),
            at_ms: fault.at_ms,
        });
        views.chain(of_topology).collect()
    }
}
