//! `warren queue`: declare, list, show, watch, peek, purge, cancel, delete; a selection of messages is moved or deleted (`select`), all
//! of them go to another cluster (`shovel`).

mod cancel;
pub(super) mod peek;
mod select;
mod shovel;
mod watch;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Cluster, Connection, QueueDeletion, QueueSpec};

use crate::{
    args::Global,
    arguments::{self, Argument},
    output,
    table::TextTable,
    view::{QueueView, StatsView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Declare a queue; an equal one that exists is a success
    Declare(DeclareArgs),
    /// List queues
    List(ListArgs),
    /// Show one queue: where it is led, and its messages
    Show(NameArgs),
    /// Print figures of queues as they change
    Watch(watch::WatchArgs),
    /// Look at messages without taking them
    Peek(peek::PeekArgs),
    /// Remove the messages that no consumer holds
    Purge(NameArgs),
    /// Move messages that match to another queue
    Move(select::MoveArgs),
    /// Bring messages to another cluster or vhost
    Shovel(Box<shovel::ShovelArgs>),
    /// Give messages that match another priority
    Reprioritise(select::ReprioritiseArgs),
    /// Delete messages that match
    DeleteMessages(select::DeleteMessagesArgs),
    /// Take scheduled messages back before they are due
    Cancel(cancel::CancelArgs),
    /// Delete a queue and its messages; a missing one is a success
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Every queue is kept on three nodes whatever its flags are.

Examples:
  warren queue declare orders
  warren queue declare limited --argument x-max-length=1000 --argument x-overflow=reject-publish")]
pub(crate) struct DeclareArgs {
    /// Name of the queue
    name: String,
    /// Declare it as not durable (it is replicated all the same)
    #[arg(long)]
    transient: bool,
    /// Delete it when its last consumer leaves
    #[arg(long)]
    auto_delete: bool,
    /// Only check that it exists
    #[arg(long)]
    passive: bool,
    /// AMQP argument; may be repeated
    #[arg(long = "argument", value_name = "NAME=VALUE")]
    arguments: Vec<Argument>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only names that start with this
    #[arg(long, default_value = "")]
    prefix: String,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Name of the queue
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Name of the queue
    name: String,
    /// Refuse while it has consumers
    #[arg(long)]
    if_unused: bool,
    /// Refuse while it has messages
    #[arg(long)]
    if_empty: bool,
}

#[derive(Serialize)]
struct Removed {
    name: String,
    vhost: String,
    messages: u64,
}

pub(crate) async fn run(global: &Global, command: QueueCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        QueueCommand::Declare(args) => declare(global, &connection, args).await,
        QueueCommand::List(args) => list(global, &connection, &args).await,
        QueueCommand::Show(args) => show(global, &connection, &args).await,
        QueueCommand::Watch(args) => watch::watch(global, &connection, &args).await,
        QueueCommand::Cancel(args) => cancel::cancel(global, &connection, args).await,
        QueueCommand::Peek(args) => peek::peek(global, &connection, args).await,
        QueueCommand::Move(args) => select::move_messages(global, &connection, args).await,
        QueueCommand::Shovel(args) => shovel::shovel(global, &connection, *args).await,
        QueueCommand::Reprioritise(args) => select::reprioritise(global, &connection, args).await,
        QueueCommand::DeleteMessages(args) => {
            select::delete_messages(global, &connection, args).await
        }
        QueueCommand::Purge(args) => {
            let messages = connection.purge_queue(&global.vhost, &args.name).await?;
            removed(global, args.name, messages, "purged")
        }
        QueueCommand::Delete(args) => {
            let conditions = QueueDeletion {
                if_unused: args.if_unused,
                if_empty: args.if_empty,
            };
            let deleted = connection.delete_queue(&global.vhost, &args.name, conditions);
            removed(global, args.name.clone(), deleted.await?, "deleted")
        }
    }
}

async fn declare(global: &Global, connection: &Connection, args: DeclareArgs) -> Result<()> {
    let spec = QueueSpec {
        vhost: global.vhost.clone(),
        durable: !args.transient,
        auto_delete: args.auto_delete,
        passive: args.passive,
        arguments: arguments::table(&args.arguments)?,
        ..QueueSpec::durable(&args.name)
    };
    let queue = connection.declare_queue(&spec).await?;
    let view = QueueView::new(queue, None, None);
    output::result(global.output, &view, |it| {
        format!("queue {} is there, in shard {}", it.name, it.shard)
    })
}

async fn list(global: &Global, connection: &Connection, args: &ListArgs) -> Result<()> {
    let (queues, cluster) = tokio::join!(
        connection.queues(&global.vhost, &args.prefix),
        connection.cluster()
    );
    let cluster: Option<Cluster> = cluster.ok();
    let view = |(queue, stats)| {
        let leader = cluster.as_ref().and_then(|it| it.leader_of(&queue));
        QueueView::new(queue, stats, leader)
    };
    let views: Vec<QueueView> = queues?.into_iter().map(view).collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&[
            "name",
            "shard",
            "leader",
            "ready",
            "unacked",
            "consumers",
            "bytes",
        ]);
        for it in views {
            table.row(vec![
                it.name.clone(),
                it.shard.to_string(),
                known(it.leader_node),
                known(it.stats.messages_ready),
                known(it.stats.messages_unacked),
                known(it.stats.consumers),
                known(it.stats.message_bytes),
            ]);
        }
        table.text()
    })
}

async fn show(global: &Global, connection: &Connection, args: &NameArgs) -> Result<()> {
    let details = connection.queue_details(&global.vhost, &args.name).await?;
    output::result(global.output, &QueueView::from(details), |it| {
        let mut table = TextTable::new(&["property", "value"]);
        let stats = &it.stats;
        for (name, value) in [
            ("queue", it.name.clone()),
            ("vhost", it.vhost.clone()),
            ("queue id", it.queue_id.to_string()),
            ("shard", it.shard.to_string()),
            ("leader node", known(it.leader_node)),
            ("leader endpoint", it.leader_endpoint.clone()),
            ("replicas", it.replicas.join(", ")),
            ("durability", it.durability.clone()),
            ("arguments", it.arguments.to_string()),
            ("ready", known(stats.messages_ready)),
            ("unacked", known(stats.messages_unacked)),
            ("scheduled", known(stats.messages_scheduled)),
            ("delayed", known(stats.messages_delayed)),
            ("parked", known(stats.messages_parked)),
            ("dead-lettering", known(stats.messages_dead_lettering)),
            ("consumers", known(stats.consumers)),
            ("bytes", known(stats.message_bytes)),
            ("published", known(stats.published_total)),
            ("acked", known(stats.acked_total)),
            ("rejected", known(stats.rejected_total)),
            ("expired", known(stats.expired_total)),
            ("dropped", known(stats.dropped_total)),
            ("dead-lettered", known(stats.dead_lettered_total)),
            ("purged", known(stats.purged_total)),
            ("duplicates", known(stats.duplicates_total)),
            ("oldest ready", age(stats)),
            ("by priority", by_priority(stats)),
        ] {
            table.row(vec![name.to_owned(), value]);
        }
        table.text()
    })
}

fn removed(global: &Global, name: String, messages: u64, done: &str) -> Result<()> {
    let view = Removed {
        name,
        vhost: global.vhost.clone(),
        messages,
    };
    output::result(global.output, &view, |it| {
        format!("queue {} {done}, {} messages removed", it.name, it.messages)
    })
}

/// How long the oldest ready message has waited.
fn age(stats: &StatsView) -> String {
    match (stats.messages_ready, stats.oldest_ready_age_seconds) {
        (_, Some(age)) => format!("{age:.1} s"),
        (Some(0), None) => "-".to_owned(),
        (_, None) => "?".to_owned(),
    }
}

/// `9: 3, 4: 1200`
fn by_priority(stats: &StatsView) -> String {
    let Some(priorities) = &stats.priorities else {
        return "?".to_owned();
    };
    let each = priorities.iter();
    let each = each.map(|it| format!("{}: {}", it.priority, it.messages));
    each.collect::<Vec<_>>().join(", ")
}

/// What is not known is not 0.
fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "?".to_owned(), |it| it.to_string())
}
