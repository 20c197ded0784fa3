//! `warren vhost`: create, update, list, limit, delete.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Connection, Vhost, VhostLimits};

use crate::{args::Global, output, table::TextTable};

#[derive(Debug, Subcommand)]
pub(crate) enum VhostCommand {
    /// Create a vhost; one that exists is a success and stays as it is
    Create(SettingsArgs),
    /// Replace a vhost's settings
    Update(SettingsArgs),
    /// List the vhosts you may see
    List,
    /// Show a vhost's limits
    Limits {
        /// Name of the vhost
        name: String,
    },
    /// Replace a vhost's limits: what is not given has none; what exceeds them already stays
    SetLimits(LimitsArgs),
    /// Delete a vhost with everything in it; a missing one is a success
    Delete {
        /// Name of the vhost
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warren vhost create shop --description 'orders and invoices'
  warren permission set alice --vhost shop --configure '^shop-' --write '.*' --read '.*'")]
pub(crate) struct SettingsArgs {
    /// Name of the vhost
    name: String,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    /// A word about it; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Type of queues whose declare names none: classic or quorum
    #[arg(long, default_value = "")]
    default_queue_type: String,
    /// Classic and quorum count as equal when a queue is declared again
    #[arg(long)]
    relaxed_queue_type: bool,
    /// Headers x-delay and x-deliver-at mean nothing but on exchanges of type x-delayed-message
    #[arg(long)]
    ignore_delays: bool,
    /// AMQP: basic.qos changes the limit of the channel's consumers that are there, too
    #[arg(long)]
    live_prefetch: bool,
    /// It cannot be deleted
    #[arg(long)]
    protect: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Name of the vhost
    name: String,
    /// Most connections, to all nodes together
    #[arg(long, value_name = "N")]
    max_connections: Option<u32>,
    /// Most queues
    #[arg(long, value_name = "N")]
    max_queues: Option<u32>,
    /// Most exchanges, without the predeclared ones
    #[arg(long, value_name = "N")]
    max_exchanges: Option<u32>,
    /// Most messages published per second; more wait
    #[arg(long, value_name = "N")]
    max_publishes_per_second: Option<u32>,
    /// Most bytes of message bodies stored; beyond it nothing is published
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
}

#[derive(Serialize)]
struct LimitsView {
    name: String,
    max_connections: Option<u32>,
    max_queues: Option<u32>,
    max_exchanges: Option<u32>,
    max_publishes_per_second: Option<u32>,
    max_bytes: Option<u64>,
}

#[derive(Serialize)]
struct VhostView {
    name: String,
    description: String,
    tags: Vec<String>,
    default_queue_type: String,
    relaxed_queue_type: bool,
    ignores_delays: bool,
    live_prefetch: bool,
    protected: bool,
}

#[derive(Serialize)]
struct Deleted {
    name: String,
}

pub(crate) async fn run(global: &Global, command: VhostCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        VhostCommand::Create(args) => {
            let vhost = connection.create_vhost(&args.vhost()).await?;
            output::result(global.output, &view(vhost), |it| {
                format!("vhost {} is there", it.name)
            })
        }
        VhostCommand::Update(args) => {
            let vhost = connection.update_vhost(&args.vhost()).await?;
            output::result(global.output, &view(vhost), |it| {
                format!("vhost {} changed", it.name)
            })
        }
        VhostCommand::List => list(global, &connection).await,
        VhostCommand::Limits { name } => {
            let limits = connection.vhost_limits(&name).await?;
            show_limits(global, name, limits)
        }
        VhostCommand::SetLimits(args) => {
            let limits = VhostLimits {
                connections: args.max_connections,
                queues: args.max_queues,
                exchanges: args.max_exchanges,
                publishes_per_second: args.max_publishes_per_second,
                bytes: args.max_bytes,
            };
            let limits = connection.set_vhost_limits(&args.name, limits).await?;
            show_limits(global, args.name, limits)
        }
        VhostCommand::Delete { name } => {
            connection.delete_vhost(&name).await?;
            output::result(global.output, &Deleted { name }, |it| {
                format!("vhost {} deleted", it.name)
            })
        }
    }
}

impl SettingsArgs {
    fn vhost(self) -> Vhost {
        Vhost {
            name: self.name,
            description: self.description,
            tags: self.tags,
            default_queue_type: self.default_queue_type,
            relaxed_queue_type: self.relaxed_queue_type,
            ignores_delays: self.ignore_delays,
            live_prefetch: self.live_prefetch,
            is_protected: self.protect,
        }
    }
}

fn show_limits(global: &Global, name: String, limits: VhostLimits) -> Result<()> {
    let view = LimitsView {
        name,
        max_connections: limits.connections,
        max_queues: limits.queues,
        max_exchanges: limits.exchanges,
        max_publishes_per_second: limits.publishes_per_second,
        max_bytes: limits.bytes,
    };
    output::result(global.output, &view, |it| {
        format!(
            "vhost {}: most connections: {}; queues: {}; exchanges: {}; publishes per second: {}; bytes stored: {}",
            it.name,
            shown(it.max_connections),
            shown(it.max_queues),
            shown(it.max_exchanges),
            shown(it.max_publishes_per_second),
            shown(it.max_bytes)
        )
    })
}

fn shown<T: ToString>(limit: Option<T>) -> String {
    limit.map_or_else(|| "none".to_owned(), |it| it.to_string())
}

async fn list(global: &Global, connection: &Connection) -> Result<()> {
    let views: Vec<VhostView> = connection.vhosts().await?.into_iter().map(view).collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&["name", "description", "default type", "protected"]);
        for it in views {
            table.row(vec![
                it.name.clone(),
                it.description.clone(),
                it.default_queue_type.clone(),
                it.protected.to_string(),
            ]);
        }
        table.text()
    })
}

fn view(it: Vhost) -> VhostView {
    VhostView {
        name: it.name,
        description: it.description,
        tags: it.tags,
        default_queue_type: it.default_queue_type,
        relaxed_queue_type: it.relaxed_queue_type,
        ignores_delays: it.ignores_delays,
        live_prefetch: it.live_prefetch,
        protected: it.is_protected,
    }
}
