//! `warren cluster transfer-leader` and `rebalance`. The cluster does it; the command says what, and watches. It may be interrupted
//! and repeated at any moment. Not here: who is to lead where (the cluster's own plan).

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::args::{Global, parse_seconds};
use crate::exit::Failure;
use crate::output;

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "\
The node must have a replica of the shard that votes and is caught up; else nothing is done. Publishers notice a pause of some
tens of milliseconds. Again changes nothing.

Example: have node 2 lead shard 5
  warren cluster transfer-leader 5 2")]
pub(crate) struct TransferArgs {
    /// The shard; 0 = the topology group
    shard: u64,
    /// Number of the node that is to lead it
    node: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The cluster does this by itself, too, but leaves a shard alone for a while after its leader has changed (cluster.leader_rest). With
this command it begins at once. Nodes that are draining or down are given nothing. When the command is interrupted, the cluster goes on.

Example: see what would move
  warren cluster rebalance --dry-run")]
pub(crate) struct RebalanceArgs {
    /// Say what would move, move nothing
    #[arg(long)]
    dry_run: bool,
    /// Longest time to wait until leaders are even; exit code 3 after it
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, value_parser = parse_seconds)]
    within: f64,
}

#[derive(Debug, Serialize)]
struct Led {
    shard: u64,
    node: u64,
    term: u64,
}

#[derive(Debug, Serialize)]
struct Moves {
    moves: Vec<String>,
}

pub(crate) async fn transfer(global: &Global, args: TransferArgs) -> Result<()> {
    let TransferArgs { shard, node } = args;
    eprintln!("handing the leadership of shard {shard} to node {node}");
    let connection = global.connect()?;
    let (leader, term) = connection.transfer_leader(shard, node).await?;
    let led = Led {
        shard,
        node: leader,
        term,
    };
    output::result(global.output, &led, |it| {
        format!(
            "node {} leads shard {} in term {}",
            it.node, it.shard, it.term
        )
    })?;
    if leader == node {
        Ok(())
    } else {
        let what = format!("node {leader} leads shard {shard}, not node {node}: try again");
        Err(Failure::Unavailable(what).into())
    }
}

pub(crate) async fn rebalance(global: &Global, args: RebalanceArgs) -> Result<()> {
    let connection = global.connect()?;
    let moves = connection.rebalance(args.dry_run).await?;
    let text = |it: &Moves| match it.moves.as_slice() {
        [] => "leaders are spread evenly".to_owned(),
        moves => moves.join("\n"),
    };
    let mut left = moves.len();
    output::result(global.output, &Moves { moves }, text)?;
    if args.dry_run {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs_f64(args.within);
    while left > 0 {
        if Instant::now() >= deadline {
            let what = format!("{left} leaders have not moved in time; the cluster goes on");
            return Err(Failure::Unavailable(what).into());
        }
        sleep(LOOK_EVERY).await;
        // Asked again rather than looked at: a topology leader that has just come knows nothing of the wish.
        let now = connection.rebalance(false).await?.len();
        if now != left {
            eprintln!("{now} leaders are to move");
            left = now;
        }
    }
    Ok(())
}
