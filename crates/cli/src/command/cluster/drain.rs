//! `warren cluster drain`: waits until no quorum breaks without the node, then has it give its leaders away, and waits for that;
//! `warren cluster revive` ends it. The node does it itself, so it is asked itself, at the address that the cluster knows it by.
//! At the deadline it goes on without having waited long enough: a pod's end is never held up for ever. Not here: the end of the node.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time::{Instant, sleep, timeout_at};
use warren_client::{ClusterShard, Connection, Error, parse_addresses};

use super::quorum::{needing, voters};
use crate::args::{Global, parse_seconds};
use crate::exit::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[command(after_help = "\
Waits while the end of the node would leave a shard without a majority of replicas that are up and have nearly all that is
committed, then hands its leaders over. After --within it begins at once, waits no more, and says so; the exit code stays 0, so that a node can always be stopped. Can be repeated
and interrupted: the node goes on draining until it is stopped or `warren cluster revive` is called.

Examples: before a node is stopped, from itself and from anywhere
  warren cluster drain --server 127.0.0.1:7101 --within 30
  warren cluster drain 3 --server 10.0.0.1:7101,10.0.0.2:7101")]
pub(crate) struct DrainArgs {
    /// Number of the node; none = the one that is asked
    node: Option<u64>,
    /// Longest time to wait, for quorum and for the leaders together
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = parse_seconds)]
    within: f64,
}

#[derive(Debug, Args)]
pub(crate) struct ReviveArgs {
    /// Number of the node; none = the one that is asked
    node: Option<u64>,
}

/// Ends a drain.
pub(crate) async fn revive(global: &Global, args: ReviveArgs) -> Result<()> {
    let node = reach(global, args.node).await?;
    node.revive_node().await?;
    let own = node.cluster_within(ANSWER_WITHIN).await?.answering_node_id;
    eprintln!("node {own} takes leaders again");
    Ok(())
}

/// The node itself, whichever was asked for it.
pub(super) async fn reach(global: &Global, number: Option<u64>) -> Result<Connection> {
    let asked = global.connect()?;
    let Some(number) = number else {
        return Ok(asked);
    };
    let cluster = asked.cluster_within(ANSWER_WITHIN).await?;
    let known = cluster.nodes.iter().find(|it| it.node_id == number);
    let Some(known) = known else {
        return Err(Failure::NotFound(format!("there is no node {number}")).into());
    };
    let addresses = parse_addresses(&known.client_endpoint)?;
    Ok(Connection::new(&addresses, global.connection_options()?)?)
}

pub(crate) async fn run(global: &Global, args: DrainArgs) -> Result<()> {
    let node = reach(global, args.node).await?;
    let deadline = Instant::now() + Duration::from_secs_f64(args.within);
    match timeout_at(deadline, until_spared(&node)).await {
        Ok(spared) => spared?,
        Err(_) => eprintln!("a shard has no majority without this node; going on all the same"),
    }
    node.drain_node().await?;
    match timeout_at(deadline, until_leaderless(&node)).await {
        Ok(done) => done?,
        Err(_) => eprintln!("leaders are left that could not be handed over in time"),
    }
    Ok(())
}

/// Waits until every shard keeps a majority without the node that is asked, and that one has caught up.
async fn until_spared(node: &Connection) -> Result<(), Error> {
    let mut told = String::new();
    loop {
        let cluster = node.cluster_within(ANSWER_WITHIN).await?;
        // A single copy, or one of a shard that has no majority anyway, gains nothing by waiting.
        let down = needing(&cluster, cluster.answering_node_id).into_iter();
        let down = down.filter(|it| voters(it).count() > 1);
        let mut needing: BTreeSet<u64> = down.map(|it| it.shard).collect();
        needing.extend(node.shards_needing_node(ANSWER_WITHIN).await?);
        if needing.is_empty() {
            return Ok(());
        }
        let now = format!("waiting: these shards need this node for a majority: {needing:?}");
        if now != told {
            eprintln!("{now}");
            told = now;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn until_leaderless(node: &Connection) -> Result<(), Error> {
    let mut told = None;
    loop {
        let cluster = node.cluster_within(ANSWER_WITHIN).await?;
        let own = cluster.answering_node_id;
        let led = |it: &&ClusterShard| it.leader_node_id == Some(own);
        let left = cluster.shards.iter().filter(led).count();
        if told != Some(left) {
            eprintln!("node {own} leads {left} shards");
            told = Some(left);
        }
        // What a single one votes in cannot be handed to anyone.
        let mut led = cluster.shards.iter().filter(led);
        if led.all(|it| voters(it).count() < 2) {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}
