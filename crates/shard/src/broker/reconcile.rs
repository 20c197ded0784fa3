//! Keeps the cluster as it should be, on the node that leads the topology: looks once per second, asks `warren-topology`'s planner
//! for the next small step, carries it out, looks again. It remembers nothing that it could not see again: another node may go on
//! at any moment. Not here: what is to be done (`warren_topology::plan`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};
use warren_topology::plan::{
    Condition, LeaderMove, Limits, Observed, next_changes, next_leader_move,
};
use warren_topology::{
    AdmitNode, Node, PlacementCommand, SetLeaving, Software, Topology, TopologyCommand,
    TopologyReply,
};
use warren_types::{ClusterVersion, GroupId, KnownVersions, NodeId, Term};

use super::Broker;
use super::upgrade::Upgrade;
use crate::topology::handle::TopologyError;

/// A node that was not heard from for so long is silent.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// A node that is silent for so long interrupts the time that a version waits to be finalised.
const UNHEARD_AFTER: Duration = Duration::from_secs(30);
/// A node that calls with another directory is believed when the one with the old directory has been silent for so long.
const REPLACE_AFTER: Duration = Duration::from_secs(10);
/// It calls several times a second.
const CALLS_WITHIN: Duration = Duration::from_secs(5);
/// A group whose leadership could not be handed over is left alone for so long.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// How the cluster is kept.
#[derive(Clone, Debug)]
pub struct PlacementOptions {
    /// How often the topology's leader looks; at most one leadership is moved each time.
    pub look_every: Duration,
    /// A group whose leader has changed is left alone for so long, unless leaders are to be spread now.
    pub leader_rest: Duration,
    /// The replicas of a node that was not heard from for so long are replaced, where there is another node.
    pub repair_after: Duration,
    /// A version that all members have known for so long without interruption is finalised.
    pub finalise_after: Duration,
}

impl Default for PlacementOptions {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(1),
            leader_rest: Duration::from_secs(30),
            repair_after: Duration::from_secs(600),
            finalise_after: Duration::from_secs(24 * 3_600),
        }
    }
}

/// Someone wants leaders spread without waiting for groups to rest.
#[derive(Default)]
pub(super) struct SpreadNow(watch::Sender<bool>);

impl SpreadNow {
    pub(super) fn ask(&self) {
        self.0.send_replace(true);
    }
}

pub(super) struct Reconciler {
    broker: Broker,
    options: PlacementOptions,
    /// Since when each group has been in its term, as seen from here.
    terms: BTreeMap<GroupId, (Term, Instant)>,
    refused: BTreeMap<GroupId, Instant>,
    /// Since when each silent node is silent, as seen from here.
    silent: BTreeMap<NodeId, Instant>,
    upgrade: Upgrade,
}

impl Broker {
    /// The cluster as this node sees it.
    pub(super) fn observe(&self) -> Observed {
        let topology = self.inner.topology.current();
        let nodes = topology.nodes().map(|it| {
            let condition = match self.condition_of(it.id) {
                // It will be gone: leaders go elsewhere.
                Condition::Up if it.leaving => Condition::Draining,
                Condition::Up => Condition::Up,
                condition @ (Condition::Draining | Condition::Silent | Condition::Lost) => {
                    condition
                }
            };
            (it.id, condition)
        });
        let groups = topology.placements().map(|it| it.group);
        let leaders = groups.filter_map(|group| Some((group, self.leadership_of(group)?.0)));
        let set_aside = self.set_aside_anywhere().into_iter();
        Observed {
            nodes: nodes.collect(),
            leaders: leaders.collect(),
            short_of_memory: topology
                .nodes()
                .map(|it| it.id)
                .filter(|&it| self.is_short_of_memory(it))
                .collect(),
            in_doubt: self.in_doubt(),
            set_aside: set_aside.map(|it| (it.group, it.replica)).collect(),
            ..Observed::default()
        }
    }

    fn is_short_of_memory(&self, node: NodeId) -> bool {
        let peers = &self.inner.peers;
        if node == self.inner.me.node {
            peers.alarms().memory
        } else {
            peers.heard(node).alarms.memory
        }
    }

    /// Proposes a change of nodes or replicas; what is refused was decided by what has changed meanwhile.
    async fn change_placement(&self, change: PlacementCommand) {
        let command = TopologyCommand::Placement(change.clone());
        match self.inner.topology.propose(command, "").await {
            Ok(TopologyReply::Refused(refusal)) => debug!(?change, %refusal, "placement stays"),
            Ok(reply) => info!(?change, ?reply, "placement changes"),
            Err(error) => debug!(?change, %error, "placement could not be changed"),
        }
    }

    /// Takes a node into the cluster, without replicas of shards. Again changes nothing.
    ///
    /// # Errors
    /// The topology's, and what it refuses: [`TopologyReply::Refused`].
    pub async fn admit(&self, node: Node) -> Result<TopologyReply, TopologyError> {
        let command = PlacementCommand::AdmitNode(AdmitNode {
            node,
            replaces: None,
        });
        let command = TopologyCommand::Placement(command);
        self.inner.topology.propose(command, "").await
    }

    /// Has a node left without replicas, and then forgotten; or has it stay after all. Again changes nothing.
    ///
    /// # Errors
    /// The topology's, and what it refuses: [`TopologyReply::Refused`].
    pub async fn set_leaving(
        &self,
        node: NodeId,
        leaving: bool,
    ) -> Result<TopologyReply, TopologyError> {
        let command = PlacementCommand::SetLeaving(SetLeaving { node, leaving });
        let command = TopologyCommand::Placement(command);
        self.inner.topology.propose(command, "").await
    }

    fn condition_of(&self, node: NodeId) -> Condition {
        let peers = &self.inner.peers;
        let (heard, draining) = if node == self.inner.me.node {
            (true, peers.is_draining())
        } else {
            let health = peers.heard(node);
            let at = health.last_heard.filter(|_| !health.refused);
            (
                at.is_some_and(|at| at.elapsed() < SILENT_AFTER),
                health.draining,
            )
        };
        match (heard, draining) {
            (false, _) => Condition::Silent,
            (true, true) => Condition::Draining,
            (true, false) => Condition::Up,
        }
    }

    /// Whether this node leads the topology, and a majority has said so lately.
    pub(super) fn leads_topology(&self) -> bool {
        let lease = self.inner.topology.group().lease_until();
        lease.is_some_and(|until| Instant::now() < until)
    }
}

/// What a node runs that has not told yet: no more than every member must know. Until it tells, nothing later is finalised.
fn untold(finalised: ClusterVersion) -> Software {
    Software {
        versions: KnownVersions {
            oldest: ClusterVersion::FIRST,
            newest: finalised,
        },
        ..Software::default()
    }
}

impl Reconciler {
    pub(super) fn new(broker: Broker, options: PlacementOptions) -> Self {
        Self {
            broker,
            options,
            terms: BTreeMap::new(),
            refused: BTreeMap::new(),
            silent: BTreeMap::new(),
            upgrade: Upgrade::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let stop = self.broker.inner.stop.clone();
        let mut asked = self.broker.inner.spread_now.0.subscribe();
        let mut pause = tokio::time::interval(self.options.look_every);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                _ = pause.tick() => {}
            }
            if self.broker.leads_topology() {
                let now = *asked.borrow_and_update();
                self.look(now).await;
            } else {
                // Whoever asked is told by the new leader's plan that there is more to do.
                self.broker.inner.spread_now.0.send_replace(false);
                self.terms.clear();
                self.refused.clear();
                self.silent.clear();
                self.upgrade.forget();
            }
        }
    }

    async fn look(&mut self, spread_now: bool) {
        let mut observed = self.broker.observe();
        self.note_terms();
        self.note_silence(&mut observed);
        self.finalise().await;
        let topology = self.broker.inner.topology.current();
        let changes = next_changes(&topology, &observed, Limits::default());
        for change in self.returned_blank(&topology).into_iter().chain(changes) {
            self.broker.change_placement(change).await;
        }
        self.rest(&mut observed, spread_now);
        let topology = self.broker.inner.topology.current();
        let changing = topology.placements().filter(|it| !it.settled);
        observed.resting.extend(changing.map(|it| it.group));
        match next_leader_move(topology.placements(), &observed) {
            Some(next) => self.move_leader(next).await,
            None if spread_now && self.refused.is_empty() => {
                self.broker.inner.spread_now.0.send_replace(false);
            }
            None => {}
        }
    }

    async fn finalise(&mut self) {
        let waiting = self.broker.inner.topology.current().version_to_finalise();
        // A pause of a moment is none of its time.
        let heard = |since: &Instant| since.elapsed() < UNHEARD_AFTER;
        let heard = self.silent.values().all(heard);
        let after = self.options.finalise_after;
        let Some(version) = self.upgrade.look(waiting, heard, after, Instant::now()) else {
            return;
        };
        match self.broker.finalise(version).await {
            Ok(TopologyReply::Refused(refusal)) => info!(%version, %refusal, "not finalised"),
            Ok(reply) => info!(%version, ?reply, "version finalised"),
            Err(error) => debug!(%version, %error, "not finalised yet"),
        }
    }

    fn note_terms(&mut self) {
        let now = Instant::now();
        let topology = self.broker.inner.topology.current();
        for placement in topology.placements() {
            let Some((_, term)) = self.broker.leadership_of(placement.group) else {
                continue;
            };
            let known = self.terms.entry(placement.group).or_insert((term, now));
            if known.0 != term {
                *known = (term, now);
            }
        }
        self.refused.retain(|_, at| at.elapsed() < REFUSED_FOR);
    }

    /// A node that has been silent for long is lost. A topology leader that has just come begins to count.
    fn note_silence(&mut self, observed: &mut Observed) {
        let nodes = &observed.nodes;
        self.silent
            .retain(|node, _| nodes.get(node) == Some(&Condition::Silent));
        for (node, condition) in &mut observed.nodes {
            if *condition != Condition::Silent {
                continue;
            }
            let since = *self.silent.entry(*node).or_insert_with(Instant::now);
            if since.elapsed() >= self.options.repair_after {
                *condition = Condition::Lost;
            }
        }
    }

    /// Nodes whose old incarnation is silent, and which call with another directory: they get new replicas.
    fn returned_blank(&self, topology: &Topology) -> Vec<PlacementCommand> {
        let nodes = topology.nodes();
        let blank = nodes.filter_map(|node| {
            let since = self.silent.get(&node.id)?;
            let calls_as = self.broker.inner.peers.stranger(node.id, CALLS_WITHIN)?;
            // A directory that was replaced before is refused for good.
            let is_new = calls_as != node.incarnation && !node.former.contains(&calls_as);
            let other = is_new && since.elapsed() >= REPLACE_AFTER;
            other.then(|| {
                PlacementCommand::AdmitNode(AdmitNode {
                    node: Node {
                        incarnation: calls_as,
                        software: untold(topology.version()),
                        ..node.clone()
                    },
                    replaces: Some(node.incarnation),
                })
            })
        });
        blank.collect()
    }

    fn rest(&self, observed: &mut Observed, spread_now: bool) {
        if !spread_now {
            let rest = self.options.leader_rest;
            let young = self.terms.iter().filter(|(_, (_, at))| at.elapsed() < rest);
            observed.resting.extend(young.map(|(group, _)| *group));
        }
        observed.resting.extend(self.refused.keys().copied());
    }

    async fn move_leader(&mut self, next: LeaderMove) {
        let LeaderMove { group, from, to } = next;
        match self.broker.transfer_leader(group, Some(to)).await {
            Ok((leader, term)) => {
                info!(%group, %from, to = %leader, %term, "leadership moved to spread leaders evenly");
            }
            Err(error) => {
                debug!(%group, %from, %to, %error, "leadership stays for now");
                self.refused.insert(group, Instant::now());
            }
        }
    }
}
