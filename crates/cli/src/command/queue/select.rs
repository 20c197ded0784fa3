//! `warren queue move`, `reprioritise` and `delete-messages`: a selection of a queue's messages, counted first, then changed by a job.
//! Not here: the job (`dlq::jobs`), looking at the messages (`peek`).

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_client::{Connection, SelectionOptions};

use super::peek::FilterArg;
use crate::command::dlq::jobs;
use crate::{args::Global, output};

#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Name of the queue
    name: String,
    /// What is parked instead of what is ready
    #[arg(long)]
    parked: bool,
    #[command(flatten)]
    filter: FilterArg,
    /// At most so many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end: print the job that does it
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each message is stored once at the end of the other queue and then leaves this one, whatever node dies meanwhile; what the other queue
refuses stays. What consumers hold is not moved. A job of the node that was asked does it: it goes on when this command is interrupted, and
`warren dlq jobs|pause|resume|cancel` reach it from anywhere. It ends with its node; the same command again moves the rest.

Examples:
  warren queue move orders --to orders.eu --filter 'headers.region = eu' --dry-run
  warren queue move orders --to orders.eu --filter 'headers.region = eu' --rate 500")]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// The queue that receives them
    #[arg(long, value_name = "QUEUE")]
    to: String,
    /// At most so many per second
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rate: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each message is stored once at the end of its queue, under the new priority, and then leaves its old place, whatever node dies meanwhile.
Otherwise it stays as it was published, for what is left of its time. What consumers hold, and what has the priority already, stays. A job
does it, as with `warren queue move`. Keys of message groups lose their order with it: their messages go behind others of the key.

Examples:
  warren queue reprioritise orders --priority 9 --filter 'headers.tenant = acme' --dry-run
  warren queue reprioritise orders --priority 0 --filter 'enqueued_at < 2026-01-31T08:00:00Z'")]
pub(crate) struct ReprioritiseArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// As publishers name it: 0 to 31, or to the queue's x-max-priority
    #[arg(long, value_name = "NUMBER")]
    priority: u8,
    /// At most so many per second
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rate: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
They are gone, and counted as purged: no dead letters are made of them but with --expire. What consumers hold stays. Without --filter everything that is
ready is deleted, as `warren queue purge` does at once.

Examples:
  warren queue delete-messages orders --filter 'headers.tenant = gone' --dry-run
  warren queue delete-messages orders --filter 'enqueued_at < 2026-01-31T08:00:00Z' --limit 1000
  warren queue delete-messages orders --parked --filter 'delivery_count > 3'
  warren queue delete-messages orders --expire --filter 'headers.campaign = spring'")]
pub(crate) struct DeleteMessagesArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// As if their time were up: they become dead letters, if the queue has a target for them
    #[arg(long, conflicts_with = "parked")]
    expire: bool,
}

#[derive(Serialize)]
struct Done {
    queue: String,
    vhost: String,
    /// How many there were.
    found: u64,
    /// How many were moved or deleted.
    done: u64,
    /// The job; empty = there was nothing to do.
    job: String,
}

pub(super) async fn move_messages(
    global: &Global,
    connection: &Connection,
    args: MoveArgs,
) -> Result<()> {
    let begin = async |it: &SelectionOptions| {
        let started = connection.start_move_messages(it, &args.to, args.rate);
        started.await
    };
    act(global, connection, args.selection, "moved", begin).await
}

pub(super) async fn reprioritise(
    global: &Global,
    connection: &Connection,
    args: ReprioritiseArgs,
) -> Result<()> {
    let begin = async |it: &SelectionOptions| {
        let started = connection.start_reprioritise_messages(it, args.priority, args.rate);
        started.await
    };
    act(global, connection, args.selection, "reprioritised", begin).await
}

pub(super) async fn delete_messages(
    global: &Global,
    connection: &Connection,
    args: DeleteMessagesArgs,
) -> Result<()> {
    if args.expire {
        let begin = async |it: &SelectionOptions| connection.start_expire_messages(it).await;
        return act(global, connection, args.selection, "expired", begin).await;
    }
    let begin = async |it: &SelectionOptions| connection.start_delete_messages(it).await;
    act(global, connection, args.selection, "deleted", begin).await
}

/// Counts first; what comes later is not meant.
async fn act(
    global: &Global,
    connection: &Connection,
    args: SelectionArgs,
    what: &str,
    begin: impl AsyncFnOnce(&SelectionOptions) -> Result<String, warren_client::Error>,
) -> Result<()> {
    let mut options = SelectionOptions {
        vhost: global.vhost.clone(),
        queue: args.name,
        parked: args.parked,
        filter: args.filter.filter,
        limit: args.limit.unwrap_or(0),
    };
    let found = connection.count_selected(&options).await?;
    let mut view = Done {
        queue: options.queue.clone(),
        vhost: options.vhost.clone(),
        found,
        done: 0,
        job: String::new(),
    };
    if !args.dry_run && found > 0 {
        options.limit = found;
        view.job = begin(&options).await?;
        if !args.detach {
            view.done = jobs::follow(connection, &view.job, found).await?;
        }
    }
    output::result(global.output, &view, |it| {
        if args.detach && !it.job.is_empty() {
            return format!("queue {}: {} found, job {}", it.queue, it.found, it.job);
        }
        format!("queue {}: {} found, {} {what}", it.queue, it.found, it.done)
    })
}
