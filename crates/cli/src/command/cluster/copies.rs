//! `warren cluster add-replica`, `remove-replica` and `set-copies`. The cluster does it; the command says what, and watches. It may be
//! interrupted and repeated at any moment. Not here: listing copies (`replicas`), what can be asked (the cluster).

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use warren_client::{ClusterShard, Connection, CopiesChange, CopiesMode, CopiesOf};

use super::replicas::Led;
use crate::args::{Global, parse_seconds};
use crate::exit::Failure;
use crate::output;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which shard.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct OfArgs {
    /// The shard
    #[arg(long)]
    shard: Option<u64>,
    /// The queue whose shard is meant, with all queues in it
    #[arg(long)]
    queue: Option<String>,
}

/// How it is done.
#[derive(Debug, Args)]
struct HowArgs {
    /// Say what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Longest time to wait until it is done; exit code 3 after it
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0, value_parser = parse_seconds)]
    within: f64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A new copy takes everything from the leader first, and votes when it is at most 1,000 entries behind. A copy goes only while most of those
that are left answer; one that leads hands its leadership over first. From then on the shard has that many copies: the cluster replaces
those that are lost or leave, and moves none only so that nodes have as many as others, until `warren cluster set-copies` is called.
All queues of a shard share its copies. Refused (exit code 5) are: a node that does not answer, drains or leaves, the last copy, what would
leave no majority. Again changes nothing. When the command is interrupted, the cluster goes on.

Examples:
  warren cluster add-replica 4 --queue orders
  warren cluster remove-replica 2 --shard 5 --dry-run")]
pub(crate) struct NodeArgs {
    /// Number of the node
    node: u64,
    #[command(flatten)]
    of: OfArgs,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Copies come and go one by one, on nodes that the cluster chooses: in other zones first, then where there are few. With \"default\" the
shard has as many as others again (cluster.replication_factor). An even number bears the loss of no more nodes than one fewer. All queues
of a shard share its copies. Again changes nothing. When the command is interrupted, the cluster goes on.

Examples:
  warren cluster set-copies 5 --queue orders
  warren cluster set-copies default --shard 5")]
pub(crate) struct CountArgs {
    /// So many, or "default"
    #[arg(value_parser = parse_count)]
    copies: CopiesCount,
    #[command(flatten)]
    of: OfArgs,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopiesCount {
    Default,
    Count(u32),
}

fn parse_count(text: &str) -> Result<CopiesCount, String> {
    match text.parse::<u32>() {
        Ok(count) if count > 0 => Ok(CopiesCount::Count(count)),
        Err(_) if text == "default" => Ok(CopiesCount::Default),
        Ok(_) | Err(_) => Err("give a number of copies, 1 or more, or \"default\"".to_owned()),
    }
}

/// What changes.
#[derive(Debug, Serialize)]
struct ChangeView {
    shard: u64,
    /// False: it was so already.
    changed: bool,
    dry_run: bool,
    wanted_copies: u32,
    nodes: Vec<u64>,
    queues: u64,
}

/// The end that is watched for.
#[derive(Debug, Clone, Copy)]
enum End {
    On(u64),
    NotOn(u64),
    /// As the cluster has answered: a node that has not heard of the change yet tells the old one.
    Count(u32),
}

pub(crate) async fn add(global: &Global, args: NodeArgs) -> Result<()> {
    let NodeArgs { node, of, how } = args;
    let connection = global.connect()?;
    let (of, mode) = (meant(global, of), mode(&how));
    let change = connection.add_replica(&of, node, mode).await?;
    follow(global, &connection, (change, End::On(node)), &how).await
}

pub(crate) async fn remove(global: &Global, args: NodeArgs) -> Result<()> {
    let NodeArgs { node, of, how } = args;
    let connection = global.connect()?;
    let (of, mode) = (meant(global, of), mode(&how));
    let change = connection.remove_replica(&of, node, mode).await?;
    follow(global, &connection, (change, End::NotOn(node)), &how).await
}

pub(crate) async fn set(global: &Global, args: CountArgs) -> Result<()> {
    let CountArgs { copies, of, how } = args;
    let copies = match copies {
        CopiesCount::Default => None,
        CopiesCount::Count(count) => Some(count),
    };
    let connection = global.connect()?;
    let (of, mode) = (meant(global, of), mode(&how));
    let change = connection.set_copies(&of, copies, mode).await?;
    let end = End::Count(change.wanted_copies);
    follow(global, &connection, (change, end), &how).await
}

fn meant(global: &Global, of: OfArgs) -> CopiesOf {
    match of.queue {
        Some(name) => CopiesOf::Queue {
            vhost: global.vhost.clone(),
            name,
        },
        None => CopiesOf::Shard(of.shard.unwrap_or(0)),
    }
}

fn mode(how: &HowArgs) -> CopiesMode {
    if how.dry_run {
        CopiesMode::DryRun
    } else {
        CopiesMode::Do
    }
}

/// Says what changes, and waits until it has.
async fn follow(
    global: &Global,
    connection: &Connection,
    (change, end): (CopiesChange, End),
    how: &HowArgs,
) -> Result<()> {
    let shard = change.shard;
    let view = ChangeView {
        shard,
        changed: change.changed,
        dry_run: how.dry_run,
        wanted_copies: change.wanted_copies,
        nodes: change.nodes,
        queues: change.queues,
    };
    output::result(global.output, &view, |it| text(it, end))?;
    if how.dry_run {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs_f64(how.within);
    let mut told = String::new();
    loop {
        let led = Led::ask(global, connection).await?;
        let known = led.cluster.shards.iter().find(|it| it.shard == shard);
        if let Some(known) = known {
            let now = progress(&led, known);
            if now != told {
                eprintln!("{now}");
                told = now;
            }
            let nodes = led.cluster.nodes.len();
            if is_done(known, nodes, end) {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            let what = format!(
                "the copies of shard {shard} have not changed in time; the cluster goes on"
            );
            return Err(Failure::Unavailable(what).into());
        }
        sleep(LOOK_EVERY).await;
    }
}

fn is_done(shard: &ClusterShard, nodes: usize, end: End) -> bool {
    let on = |node: u64| shard.replicas.iter().any(|it| it.node_id == node);
    let count = |wanted: u32| usize::try_from(wanted).unwrap_or(usize::MAX).min(nodes);
    !shard.changing
        && match end {
            End::On(node) => on(node),
            End::NotOn(node) => !on(node),
            End::Count(wanted) => shard.replicas.len() == count(wanted),
        }
}

fn text(it: &ChangeView, end: End) -> String {
    let (shard, wanted) = (it.shard, it.wanted_copies);
    let what = match end {
        End::On(node) => format!("a copy on node {node}"),
        End::NotOn(node) => format!("no copy on node {node}"),
        End::Count(count) => format!("{count} copies"),
    };
    if !it.changed {
        return format!("shard {shard} is to have {what} already, {wanted} in all");
    }
    let verb = if it.dry_run {
        "would have"
    } else {
        "is to have"
    };
    format!(
        "shard {shard} {verb} {what}, {wanted} in all, and so have its {} queues",
        it.queues
    )
}

/// Where the copies are, and how far those that come are.
fn progress(led: &Led, shard: &ClusterShard) -> String {
    let copies = shard.replicas.iter().map(|it| {
        let behind = led.behind(shard, it).filter(|it| *it > 1_000);
        let behind = behind.map(|it| format!(" ({it} entries behind)"));
        it.node_id.to_string() + &behind.unwrap_or_default()
    });
    let copies: Vec<String> = copies.collect();
    let state = if shard.changing { ", changing" } else { "" };
    format!(
        "shard {}: copies on nodes {}{state}",
        shard.shard,
        copies.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_a_number_above_zero_or_the_default() {
        assert_eq!(parse_count("5"), Ok(CopiesCount::Count(5)));
        assert_eq!(parse_count("default"), Ok(CopiesCount::Default));
        for bad in ["0", "-1", "many", ""] {
            assert!(parse_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn answer_says_the_shard_and_how_many_queues_it_has() {
        let view = |changed, dry_run| ChangeView {
            shard: 5,
            changed,
            dry_run,
            wanted_copies: 4,
            nodes: vec![1, 2, 3, 4],
            queues: 9,
        };
        assert_eq!(
            text(&view(true, true), End::On(4)),
            "shard 5 would have a copy on node 4, 4 in all, and so have its 9 queues"
        );
        assert_eq!(
            text(&view(true, false), End::Count(4)),
            "shard 5 is to have 4 copies, 4 in all, and so have its 9 queues"
        );
        assert_eq!(
            text(&view(false, false), End::NotOn(2)),
            "shard 5 is to have no copy on node 2 already, 4 in all"
        );
    }
}
