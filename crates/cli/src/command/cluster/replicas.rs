//! `warren cluster replicas` and `critical`: the copies of shards as their leaders see them, and which node a shard cannot spare. Not here:
//! changing them (`copies`), what a majority is (`quorum`).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_client::{
    Cluster, ClusterNode, ClusterShard, Connection, NodeState, Replica, ReplicaRole,
    parse_addresses,
};

use super::drain::reach;
use super::quorum::needing;
use crate::args::Global;
use crate::exit::Failure;
use crate::output;
use crate::table::TextTable;

const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A new copy gets its vote when it is behind by no more entries.
const BEHIND_MAX: u64 = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Each shard is told by the node that leads it; of one whose leader does not answer it is not known how far its copies are. \"behind\" counts
entries of the log; a new copy gets its vote at 1,000 or fewer, and has then caught up. \"needed\" means: if the node were stopped now the
shard would have no majority.

Examples:
  warren cluster replicas
  warren cluster replicas --queue orders
  warren cluster replicas --shard 5 --output json")]
pub(crate) struct ReplicasArgs {
    /// Only this shard; 0 = the topology group
    #[arg(long, conflicts_with = "queue")]
    shard: Option<u64>,
    /// Only the shard of this queue
    #[arg(long)]
    queue: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 every shard has a majority without the node, 1 a shard has not, 3 no node answers, 4 there is no such node. Nodes that are
draining count as stopped, as do copies that have not caught up (more than 1,000 entries behind, in doubt or changing, as their leader says). A
shard with one copy needs its node always.

Example: stop a node when it can be spared
  until warren cluster critical 3; do sleep 1; done; systemctl stop warren")]
pub(crate) struct CriticalArgs {
    /// Number of the node
    node: u64,
}

#[derive(Debug, Serialize)]
struct CriticalView {
    node: u64,
    critical: bool,
    /// The shards that need it; 0 = the topology group.
    shards: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct CopiesView {
    /// The queue that was named; all queues of the shard share its copies.
    queue: Option<String>,
    shards: Vec<ShardCopies>,
}

#[derive(Debug, Serialize)]
struct ShardCopies {
    /// 0 = the topology group.
    shard: u64,
    queues: u64,
    /// Of the topology group 0: it is on every node.
    wanted_copies: u32,
    /// On nodes that were named: none is moved only so that nodes have as many as others.
    placed: bool,
    /// A change is under way.
    changing: bool,
    leader_node: Option<u64>,
    replicas: Vec<CopyView>,
}

#[derive(Debug, Serialize)]
struct CopyView {
    node_id: u64,
    replica_id: u64,
    role: &'static str,
    /// Entries of the log that it is not known to have; null: its leader was not heard.
    behind: Option<u64>,
    caught_up: bool,
    /// The shard would have no majority without its node.
    needed: bool,
}

/// The cluster, each shard as its leader sees it.
pub(super) struct Led {
    pub(super) cluster: Cluster,
    /// Shards whose leader has answered.
    heard: BTreeSet<u64>,
}

impl Led {
    /// Asks a node, and then those that lead something.
    pub(super) async fn ask(global: &Global, asked: &Connection) -> Result<Self> {
        let cluster = asked.cluster_within(ANSWER_WITHIN).await?;
        let mut led = Self {
            heard: BTreeSet::new(),
            cluster,
        };
        let own = led.cluster.clone();
        led.take(own);
        let shards = led.cluster.shards.iter();
        let leaders: BTreeSet<u64> = shards.filter_map(|it| it.leader_node_id).collect();
        for node in led.cluster.nodes.clone() {
            let asked_already = node.node_id == led.cluster.answering_node_id;
            if asked_already || !leaders.contains(&node.node_id) {
                continue;
            }
            let addresses = parse_addresses(&node.client_endpoint)?;
            let leader = Connection::new(&addresses, global.connection_options()?)?;
            // One that does not answer is told of by the others.
            if let Ok(seen) = leader.cluster_within(ANSWER_WITHIN).await {
                led.take(seen);
            }
        }
        Ok(led)
    }

    /// Takes what a node says of the shards that it leads.
    fn take(&mut self, seen: Cluster) {
        for shard in seen.shards {
            if shard.leader_node_id != Some(seen.answering_node_id) {
                continue;
            }
            let mut known = self.cluster.shards.iter_mut();
            if let Some(known) = known.find(|it| it.shard == shard.shard) {
                self.heard.insert(shard.shard);
                *known = shard;
            }
        }
    }

    /// Entries that a copy is behind.
    pub(super) fn behind(&self, shard: &ClusterShard, replica: &Replica) -> Option<u64> {
        if !self.heard.contains(&shard.shard) {
            return None;
        }
        let leads = replica.role == ReplicaRole::Leader;
        let behind = shard.committed_index.saturating_sub(replica.matched_index);
        Some(if leads { 0 } else { behind })
    }

    fn copies(&self, shard: &ClusterShard) -> ShardCopies {
        let copy = |it: &Replica| {
            let behind = self.behind(shard, it);
            let needing = needing(&self.cluster, it.node_id);
            CopyView {
                node_id: it.node_id,
                replica_id: it.replica_id,
                role: match it.role {
                    ReplicaRole::Unknown => "unknown",
                    ReplicaRole::Leader => "leader",
                    ReplicaRole::Follower => "follower",
                    ReplicaRole::Learner => "learner",
                },
                behind,
                caught_up: behind.is_some_and(|it| it <= BEHIND_MAX),
                needed: needing.iter().any(|it| it.shard == shard.shard),
            }
        };
        ShardCopies {
            shard: shard.shard,
            queues: shard.queues,
            wanted_copies: shard.wanted_copies,
            placed: shard.placed,
            changing: shard.changing,
            leader_node: shard.leader_node_id,
            replicas: shard.replicas.iter().map(copy).collect(),
        }
    }
}

pub(crate) async fn list(global: &Global, args: ReplicasArgs) -> Result<()> {
    let connection = global.connect()?;
    let only = match (&args.queue, args.shard) {
        (Some(queue), _) => Some(shard_of(global, &connection, queue).await?),
        (None, shard) => shard,
    };
    let led = Led::ask(global, &connection).await?;
    let shards = led.cluster.shards.iter();
    let shards = shards.filter(|it| only.is_none_or(|only| it.shard == only));
    let view = CopiesView {
        queue: args.queue,
        shards: shards.map(|it| led.copies(it)).collect(),
    };
    if let (Some(shard), true) = (only, view.shards.is_empty()) {
        return Err(Failure::NotFound(format!("there is no shard {shard}")).into());
    }
    output::result(global.output, &view, text)
}

pub(super) async fn shard_of(global: &Global, connection: &Connection, queue: &str) -> Result<u64> {
    let details = connection.queue_details(&global.vhost, queue).await?;
    Ok(details.queue.shard)
}

pub(crate) async fn critical(global: &Global, args: CriticalArgs) -> Result<()> {
    let CriticalArgs { node } = args;
    let led = Led::ask(global, &global.connect()?).await?;
    if led.cluster.nodes.iter().all(|it| it.node_id != node) {
        return Err(Failure::NotFound(format!("there is no node {node}")).into());
    }
    let down = needing(&led.cluster, node).into_iter();
    let mut shards: BTreeSet<u64> = down.map(|it| it.shard).collect();
    let known = led.cluster.nodes.iter();
    if known.filter(|it| it.node_id == node).any(answers) {
        // It asks the leaders, who know which of their copies have caught up.
        let itself = reach(global, Some(node)).await?;
        shards.extend(itself.shards_needing_node(ANSWER_WITHIN).await?);
    }
    let view = CriticalView {
        node,
        critical: !shards.is_empty(),
        shards: shards.into_iter().collect(),
    };
    output::result(global.output, &view, critical_text)?;
    match view.critical {
        true => Err(Failure::SAID_FAILED.into()),
        false => Ok(()),
    }
}

/// One that is stopped already has no copy that others wait for.
fn answers(node: &ClusterNode) -> bool {
    match node.state {
        NodeState::Up | NodeState::Draining => true,
        NodeState::Unknown | NodeState::Down | NodeState::Removed => false,
    }
}

fn critical_text(it: &CriticalView) -> String {
    if !it.critical {
        return format!("every shard has a majority without node {}", it.node);
    }
    let shards: Vec<String> = it.shards.iter().map(|it| name(*it)).collect();
    format!(
        "without node {} these have no majority: {}",
        it.node,
        shards.join(", ")
    )
}

fn name(shard: u64) -> String {
    match shard {
        0 => "topology".to_owned(),
        shard => format!("shard {shard}"),
    }
}

fn text(view: &CopiesView) -> String {
    let mut table = TextTable::new(&[
        "shard", "wanted", "state", "node", "role", "behind", "needed",
    ]);
    for shard in &view.shards {
        for (at, copy) in shard.replicas.iter().enumerate() {
            let first = |text: String| if at == 0 { text } else { String::new() };
            let wanted = match (shard.wanted_copies, shard.placed) {
                (0, _) => "every node".to_owned(),
                (count, false) => count.to_string(),
                (count, true) => format!("{count}, as placed"),
            };
            let state = match (shard.changing, copy.caught_up) {
                (false, _) => "settled",
                (true, true) => "changing",
                (true, false) => "catching up",
            };
            let behind = copy.behind.map(|it| it.to_string());
            table.row(vec![
                first(match shard.shard {
                    0 => "topology".to_owned(),
                    number => number.to_string(),
                }),
                first(wanted),
                state.to_owned(),
                copy.node_id.to_string(),
                copy.role.to_owned(),
                behind.unwrap_or_else(|| "not known".to_owned()),
                if copy.needed { "yes" } else { "no" }.to_owned(),
            ]);
        }
    }
    let of = view.queue.as_ref().zip(view.shards.first());
    let head = of.map(|(queue, shard)| {
        format!(
            "queue {queue} is one of {} queues of shard {}, which share its copies\n",
            shard.queues, shard.shard
        )
    });
    head.unwrap_or_default() + &table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_that_is_needed_is_said_with_its_shards() {
        let view = |shards: Vec<u64>| CriticalView {
            node: 3,
            critical: !shards.is_empty(),
            shards,
        };
        assert_eq!(
            critical_text(&view(vec![0, 7])),
            "without node 3 these have no majority: topology, shard 7"
        );
        let spared = critical_text(&view(Vec::new()));
        assert_eq!(spared, "every shard has a majority without node 3");
    }

    #[test]
    fn copies_are_listed_with_what_they_lack() {
        let copy = |node_id, role, behind| CopyView {
            node_id,
            replica_id: node_id,
            role,
            behind,
            caught_up: behind.is_some_and(|it| it <= BEHIND_MAX),
            needed: node_id == 1,
        };
        let view = CopiesView {
            queue: Some("orders".to_owned()),
            shards: vec![ShardCopies {
                shard: 5,
                queues: 9,
                wanted_copies: 2,
                placed: true,
                changing: true,
                leader_node: Some(1),
                replicas: vec![
                    copy(1, "leader", Some(0)),
                    copy(4, "learner", Some(50_000)),
                    copy(6, "unknown", None),
                ],
            }],
        };
        assert_eq!(
            text(&view),
            "\
queue orders is one of 9 queues of shard 5, which share its copies
shard  wanted        state        node  role     behind     needed
    5  2, as placed  changing        1  leader           0  yes
                     catching up     4  learner      50000  no
                     catching up     6  unknown  not known  no
"
        );
    }
}
