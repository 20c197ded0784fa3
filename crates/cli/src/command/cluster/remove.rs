//! `warren cluster remove`: the cluster moves everything off a node and forgets it; the command says what, and watches. It may be
//! interrupted and repeated at any moment. Not here: what goes where (the cluster's own plan).

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time::{Instant, sleep};

use crate::args::{Global, parse_seconds};
use crate::exit::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
#[command(after_help = "\
Leaders go first, then replicas, two shards at a time, each with a new copy that has caught up before the old one goes. Where no other
node can take one, the shard has fewer copies afterwards. The node need not be up. When it is forgotten, stop it; its directory is of
no use any more. When the command is interrupted, the cluster goes on; --cancel has the node stay.

Example: make five nodes four
  warren cluster remove 5 --server 10.0.0.1:7101")]
pub(crate) struct RemoveArgs {
    /// Number of the node
    node: u64,
    /// Have it stay after all; what has moved is not moved back at once
    #[arg(long)]
    cancel: bool,
    /// Longest time to wait; exit code 3 after it
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0, value_parser = parse_seconds)]
    within: f64,
}

pub(crate) async fn run(global: &Global, args: RemoveArgs) -> Result<()> {
    let RemoveArgs {
        node,
        cancel,
        within,
    } = args;
    let connection = global.connect()?;
    if cancel {
        connection.keep_node(node).await?;
        eprintln!("node {node} stays");
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs_f64(within);
    let known = connection.cluster_within(ANSWER_WITHIN).await?;
    if known.nodes.iter().any(|it| it.node_id == node) {
        connection.remove_node(node).await?;
    }
    let mut told = None;
    loop {
        let cluster = connection.cluster_within(ANSWER_WITHIN).await?;
        let Some(left) = cluster.nodes.iter().find(|it| it.node_id == node) else {
            eprintln!("node {node} is not part of the cluster any more: it can be stopped");
            return Ok(());
        };
        let now = (left.replicas, left.leaders);
        if told != Some(now) {
            eprintln!(
                "node {node}: {} replicas and {} leaders are left",
                now.0, now.1
            );
            told = Some(now);
        }
        if Instant::now() >= deadline {
            let what = format!("node {node} is not empty in time; the cluster goes on");
            return Err(Failure::Unavailable(what).into());
        }
        sleep(LOOK_EVERY).await;
    }
}
