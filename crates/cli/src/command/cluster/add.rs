//! `warren cluster add`: says how a node joins, and watches until it has its share. It may be interrupted and repeated at any moment.
//! Not here: joining (the node asks by itself when it starts), what goes where (the cluster's own plan).

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time::{Instant, sleep};
use warren_client::{Cluster, NodeState};

use crate::args::{Global, parse_seconds};
use crate::exit::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The plan is made once per second: nothing under way for so long means that there is nothing left to do.
const QUIET_FOR: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
#[command(after_help = "\
A node joins by itself when it is started with a blank data directory, the cluster's name and secret, and cluster.peers that name
itself and at least one member. It is given replicas two shards at a time, and votes in each when it has caught up. The same holds for
a member that comes back with a blank directory, once its old one has been silent for 10 seconds.

Example: make three nodes four
  warren server --node-id 4 --cluster-peers 1=10.0.0.1:7201,4=10.0.0.4:7201 ...     # on the new machine
  warren cluster add 4 --server 10.0.0.1:7101")]
pub(crate) struct AddArgs {
    /// Number of the node
    node: u64,
    /// Longest time to wait; exit code 3 after it
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0, value_parser = parse_seconds)]
    within: f64,
}

pub(crate) async fn run(global: &Global, args: AddArgs) -> Result<()> {
    let AddArgs { node, within } = args;
    let connection = global.connect()?;
    let deadline = Instant::now() + Duration::from_secs_f64(within);
    let (mut told, mut quiet_since) = (String::new(), None);
    loop {
        let cluster = connection.cluster_within(ANSWER_WITHIN).await?;
        let (now, is_quiet) = progress(&cluster, node);
        if told != now {
            eprintln!("{now}");
            (told, quiet_since) = (now, None);
        }
        if !is_quiet {
            quiet_since = None;
        } else if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET_FOR {
            eprintln!("node {node} has its share");
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what = format!("node {node} has not got its share in time; the cluster goes on");
            return Err(Failure::Unavailable(what).into());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// How far it is, in words, and whether nothing is under way.
fn progress(cluster: &Cluster, node: u64) -> (String, bool) {
    let Some(known) = cluster.nodes.iter().find(|it| it.node_id == node) else {
        let what = format!("node {node} is not a member yet: start it (see --help)");
        return (what, false);
    };
    let up = known.state == NodeState::Up;
    let changes = cluster.problems.iter().any(|it| it.contains("change"));
    let what = format!(
        "node {node} is {}: {} replicas, {} leaders",
        if up { "up" } else { "not up" },
        known.replicas,
        known.leaders
    );
    (what, up && !changes)
}
