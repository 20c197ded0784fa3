//! `warren dlq`: dead letters and parked messages are listed, dead letters sent back. Not here: moving them (`warren-shard`).

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Connection, RedriveOptions};

use super::queue::peek::{self, PeekArgs, StateArg};
use crate::{args::Global, output, progress::Progress};

/// Messages asked for at once.
const BATCH: u64 = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List the messages of a dead-letter queue, or what is parked in any queue
    List(ListArgs),
    /// Send dead letters back to the queues they came from, or to another
    Redrive(RedriveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Name of the queue that holds them
    name: String,
    /// What is parked instead of what is ready
    #[arg(long)]
    parked: bool,
    /// Most messages
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Go on here: the cursor that an earlier call ended with
    #[arg(long, default_value = "")]
    cursor: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each message is stored once in its target and then leaves the dead-letter queue, whatever node dies meanwhile. Messages whose queue is
not known or not there stay.

Examples:
  warren dlq redrive orders.dlq --dry-run
  warren dlq redrive orders.dlq --rate 500
  warren dlq redrive orders.dlq --to orders.repair --limit 100
  warren dlq redrive orders --parked")]
pub(crate) struct RedriveArgs {
    /// Name of the queue that holds them
    name: String,
    /// What is parked instead of what is ready: it goes back to the end of its queue
    #[arg(long)]
    parked: bool,
    /// Send all of them to this queue
    #[arg(long, value_name = "QUEUE", default_value = "")]
    to: String,
    /// At most so many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// At most so many per second
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rate: u32,
    /// Only count
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Redriven {
    queue: String,
    vhost: String,
    /// How many there were to redrive.
    found: u64,
    /// How many are on their way.
    redriven: u64,
}

pub(crate) async fn run(global: &Global, command: DlqCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        DlqCommand::List(args) => {
            let state = if args.parked {
                StateArg::Parked
            } else {
                StateArg::Ready
            };
            let args = PeekArgs::new(args.name, state, args.limit, args.cursor);
            peek::peek(global, &connection, args).await
        }
        DlqCommand::Redrive(args) => redrive(global, &connection, args).await,
    }
}

/// Counts first, so that what a target refuses, and comes back, is not sent again for ever.
async fn redrive(global: &Global, connection: &Connection, args: RedriveArgs) -> Result<()> {
    let most = args.limit.unwrap_or(u64::MAX);
    let mut options = RedriveOptions {
        vhost: global.vhost.clone(),
        queue: args.name,
        parked: args.parked,
        target_queue: args.to,
        messages_per_second: args.rate,
        limit: args.limit.unwrap_or(0),
        dry_run: true,
    };
    let found = connection.redrive(&options).await?.min(most);
    let progress = Progress::new(Some(found), "messages");
    let mut redriven = 0;
    options.dry_run = false;
    while !args.dry_run && redriven < found {
        options.limit = BATCH.min(found - redriven);
        let moved = connection.redrive(&options).await?;
        if moved == 0 {
            break;
        }
        redriven += moved;
        progress.set(redriven);
    }
    progress.end();
    let view = Redriven {
        queue: options.queue,
        vhost: options.vhost,
        found,
        redriven,
    };
    output::result(global.output, &view, |it| {
        format!(
            "queue {}: {} found, {} redriven",
            it.queue, it.found, it.redriven
        )
    })
}
