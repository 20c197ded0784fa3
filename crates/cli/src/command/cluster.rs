//! `warren cluster`: how the cluster is, as one node sees it. Not here: a drain (`drain`), leaders (`leaders`), copies (`copies`).

mod add;
mod copies;
mod drain;
mod finalise;
mod leaders;
mod quorum;
mod recover;
mod remove;
mod replicas;
mod watermarks;

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Subcommand;

use crate::{
    args::Global,
    exit::Failure,
    output,
    table::TextTable,
    view::{ClusterView, NodeView, ShardView},
};

/// A node that is not asked for more than its own view answers at once, or not at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show nodes, shards and their leaders; exit code 3 until the asked node serves
    #[command(after_help = "\
Ready means: the cluster is formed and every shard has a leader and a majority, as far as the asked node knows.

Example: wait until a node serves
  until warren cluster status --server 127.0.0.1:7101 > /dev/null 2>&1; do sleep 0.2; done")]
    Status,
    /// Have a node give its leaders away before it is stopped
    Drain(drain::DrainArgs),
    /// End the drain of a node
    Revive(drain::ReviveArgs),
    /// Hand the leadership of a shard to a node
    TransferLeader(leaders::TransferArgs),
    /// Spread leaders evenly over the nodes, one per second
    Rebalance(leaders::RebalanceArgs),
    /// List the copies of shards: where, how far they are, and which nodes a shard cannot spare
    Replicas(replicas::ReplicasArgs),
    /// Add a copy of a shard on a node
    AddReplica(copies::NodeArgs),
    /// Remove the copy of a shard on a node
    RemoveReplica(copies::NodeArgs),
    /// Have a shard have so many copies
    SetCopies(copies::CountArgs),
    /// Say whether a shard would lose its majority if a node were stopped; exit code 1 if so
    Critical(replicas::CriticalArgs),
    /// Say how a node joins, and wait until it has its share
    Add(add::AddArgs),
    /// Move everything off a node, then forget it
    Remove(remove::RemoveArgs),
    /// Allow the features of a new version; no node can go back from then on
    #[command(alias = "finalize")]
    Finalise(finalise::FinaliseArgs),
    /// Show or change where a node holds publishers back
    Watermarks(watermarks::WatermarksArgs),
    /// Last resort: make a cluster of one node's copies when most nodes are lost for good
    RecoverMajority(recover::RecoverArgs),
}

pub(crate) async fn run(global: &Global, command: ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::Status => status(global).await,
        ClusterCommand::Drain(args) => drain::run(global, args).await,
        ClusterCommand::Revive(args) => drain::revive(global, args).await,
        ClusterCommand::TransferLeader(args) => leaders::transfer(global, args).await,
        ClusterCommand::Rebalance(args) => leaders::rebalance(global, args).await,
        ClusterCommand::Replicas(args) => replicas::list(global, args).await,
        ClusterCommand::AddReplica(args) => copies::add(global, args).await,
        ClusterCommand::RemoveReplica(args) => copies::remove(global, args).await,
        ClusterCommand::SetCopies(args) => copies::set(global, args).await,
        ClusterCommand::Critical(args) => replicas::critical(global, args).await,
        ClusterCommand::Add(args) => add::run(global, args).await,
        ClusterCommand::Remove(args) => remove::run(global, args).await,
        ClusterCommand::Finalise(args) => finalise::run(global, args).await,
        ClusterCommand::Watermarks(args) => watermarks::run(global, args).await,
        ClusterCommand::RecoverMajority(args) => recover::run(global, args),
    }
}

async fn status(global: &Global) -> Result<()> {
    let within = ANSWER_WITHIN.min(Duration::from_secs_f64(global.request_timeout));
    let cluster = global.connect()?.cluster_within(within).await?;
    let view = ClusterView::from(cluster);
    output::result(global.output, &view, text)?;
    if view.ready {
        Ok(())
    } else {
        let what = "the cluster is not ready: a shard has no leader or no majority, or it is not formed yet";
        Err(Failure::Unavailable(what.to_owned()).into())
    }
}

/// How long ago all rows of the answering node's replica were found to be those of the others.
fn compared(shard: &ShardView) -> String {
    if shard.in_doubt {
        return "in doubt".to_owned();
    }
    let at = shard.compared_at_ms;
    at.map_or_else(|| "-".to_owned(), |at| ago(at) + " ago")
}

/// How long it is since.
fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
    format!("{} s", now_ms.saturating_sub(at_ms) / 1_000)
}

fn nodes_text(nodes: &[NodeView]) -> String {
    let mut table = TextTable::new(&[
        "node", "name", "state", "gRPC", "AMQP", "zone", "software", "knows", "leaders", "replicas",
    ]);
    for it in nodes {
        table.row(vec![
            it.node_id.to_string(),
            it.name.clone(),
            it.state.to_owned(),
            it.client_endpoint.clone(),
            it.amqp_endpoint.clone(),
            it.zone.clone(),
            it.version.clone(),
            versions(it.oldest_version, it.newest_version),
            it.leaders.to_string(),
            it.replicas.to_string(),
        ]);
    }
    table.text()
}

fn shards_text(shards: &[ShardView]) -> String {
    let mut table = TextTable::new(&[
        "shard",
        "leader",
        "term",
        "quorum",
        "committed",
        "applied",
        "queues",
        "compared",
        "on nodes",
    ]);
    for it in shards {
        let on: Vec<String> = it
            .replicas
            .iter()
            .map(|it| it.node_id.to_string())
            .collect();
        let shard = if it.shard == 0 {
            "topology".to_owned()
        } else {
            it.shard.to_string()
        };
        table.row(vec![
            shard,
            it.leader_node
                .map_or_else(|| "none".to_owned(), |it| it.to_string()),
            it.term.to_string(),
            if it.has_quorum { "yes" } else { "no" }.to_owned(),
            it.committed_index.to_string(),
            it.applied_index.to_string(),
            it.queues.to_string(),
            compared(it),
            on.join(" "),
        ]);
    }
    table.text()
}

fn text(view: &ClusterView) -> String {
    let state = if view.ready { "ready" } else { "not ready" };
    let mut out = format!(
        "cluster {} ({}), answered by node {}: {state}\n{}\n\n{}\n{}",
        view.cluster_name,
        view.cluster_id,
        view.answering_node,
        upgrade(view),
        nodes_text(&view.nodes),
        shards_text(&view.shards)
    );
    for it in &view.recoveries {
        let lost: Vec<String> = it.lost.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "recovered without a majority: {} ago, by {}, of the copies of node {}; nodes {} were declared lost",
            it.at_ms.map_or_else(|| "some time".to_owned(), ago),
            it.by,
            it.node,
            lost.join(", ")
        )
        .expect("a string takes everything");
    }
    for problem in &view.problems {
        writeln!(out, "problem: {problem}").expect("a string takes everything");
    }
    out
}

/// The versions of the cluster that a node's software can work in.
fn versions(oldest: u32, newest: u32) -> String {
    if oldest == newest {
        newest.to_string()
    } else {
        format!("{oldest}-{newest}")
    }
}

/// How far an upgrade is.
fn upgrade(view: &ClusterView) -> String {
    let finalised = view.finalised_version;
    let newest = view.nodes.iter().map(|it| it.newest_version).max();
    match (view.upgrade_version, newest) {
        (Some(next), _) => format!(
            "version {finalised} is finalised; all nodes know version {next}, which waits to be finalised: until then each can go back"
        ),
        (None, Some(newest)) if newest > finalised => format!(
            "version {finalised} is finalised; an upgrade is under way: not all nodes know version {newest}"
        ),
        (None, _) => format!("version {finalised} is finalised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_node_are_a_number_or_a_range() {
        assert_eq!(versions(1, 1), "1");
        assert_eq!(versions(1, 3), "1-3");
    }
}
