//! `warren dlq`: dead letters and parked messages are sent back. Not here: listing them (`list`), the jobs that send them (`jobs`),
//! moving them (`warren-shard`).

pub(super) mod jobs;
mod list;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Connection, RedriveOptions};

use super::queue::peek::FilterArg;
use crate::{args::Global, output};
use list::ListArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List the messages of a dead-letter queue, or what is parked in any queue
    List(ListArgs),
    /// Send dead letters back to the queues they came from, or to another
    Redrive(RedriveArgs),
    /// List the jobs that send back, move or delete messages, on all nodes
    Jobs,
    /// Hold a job
    Pause(JobArgs),
    /// Let a job that was held go on
    Resume(JobArgs),
    /// End a job for good: what it has done stays done
    Cancel(JobArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// As `warren dlq jobs` lists it
    job: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each message is stored once in its target and then leaves the dead-letter queue, whatever node dies meanwhile. Messages whose queue is
not known or not there stay. A job of the node that was asked sends them: it goes on when this command is interrupted, and `warren dlq
jobs|pause|resume|cancel` reach it from anywhere. It ends with its node; what it had not sent yet is sent by the same command again.

Examples:
  warren dlq redrive orders.dlq --dry-run
  warren dlq redrive orders.dlq --rate 500
  warren dlq redrive orders.dlq --to orders.repair --limit 100
  warren dlq redrive orders --parked
  warren dlq redrive orders.dlq --filter 'source_queue = orders and died_at >= 2026-01-31T08:00:00Z' --dry-run")]
pub(crate) struct RedriveArgs {
    /// Name of the queue that holds them
    name: String,
    /// What is parked instead of what is ready: it goes back to the end of its queue
    #[arg(long)]
    parked: bool,
    #[command(flatten)]
    filter: FilterArg,
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
    /// Do not wait for the end: print the job that sends them
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

#[derive(Serialize)]
struct Redriven {
    queue: String,
    vhost: String,
    /// How many there were to redrive.
    found: u64,
    /// How many are on their way.
    redriven: u64,
    /// The job that sends them; empty = there was nothing to send.
    job: String,
}

pub(crate) async fn run(global: &Global, command: DlqCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        DlqCommand::List(args) => list::list(global, &connection, args).await,
        DlqCommand::Redrive(args) => redrive(global, &connection, args).await,
        DlqCommand::Jobs => jobs::list(global, &connection).await,
        DlqCommand::Pause(it) => jobs::show(global, &connection.pause_job(&it.job, false).await?),
        DlqCommand::Resume(it) => jobs::show(global, &connection.pause_job(&it.job, true).await?),
        DlqCommand::Cancel(it) => jobs::show(global, &connection.cancel_job(&it.job).await?),
    }
}

/// Counts first; then a job goes through the queue once, so that what a target refuses, and comes back, is not sent again for ever.
async fn redrive(global: &Global, connection: &Connection, args: RedriveArgs) -> Result<()> {
    let most = args.limit.unwrap_or(u64::MAX);
    let mut options = RedriveOptions {
        vhost: global.vhost.clone(),
        queue: args.name,
        parked: args.parked,
        filter: args.filter.filter,
        target_queue: args.to,
        messages_per_second: args.rate,
        limit: args.limit.unwrap_or(0),
        dry_run: true,
        cursor: String::new(),
    };
    let found = count(connection, &options, most).await?;
    let mut view = Redriven {
        queue: options.queue.clone(),
        vhost: options.vhost.clone(),
        found,
        redriven: 0,
        job: String::new(),
    };
    if !args.dry_run && found > 0 {
        options.dry_run = false;
        options.limit = found;
        view.job = connection.start_redrive(&options).await?;
        if !args.detach {
            view.redriven = jobs::follow(connection, &view.job, found).await?;
        }
    }
    output::result(global.output, &view, |it| {
        if args.detach && !it.job.is_empty() {
            return format!("queue {}: {} found, job {}", it.queue, it.found, it.job);
        }
        format!(
            "queue {}: {} found, {} redriven",
            it.queue, it.found, it.redriven
        )
    })
}

/// How many there are to send, up to a number.
async fn count(connection: &Connection, options: &RedriveOptions, most: u64) -> Result<u64> {
    let mut options = options.clone();
    let mut found = 0;
    loop {
        let step = connection.redrive(&options).await?;
        found += step.messages;
        if step.next_cursor.is_empty() || found >= most {
            return Ok(found.min(most));
        }
        options.cursor = step.next_cursor;
    }
}
