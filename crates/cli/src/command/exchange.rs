//! `warren exchange`: declare, list, delete.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Connection, Exchange};

use crate::{
    args::Global,
    arguments::{self, Argument},
    output,
    table::TextTable,
    view::ExchangeView,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ExchangeCommand {
    /// Declare an exchange; an equal one that exists is a success
    Declare(DeclareArgs),
    /// List exchanges
    List,
    /// Delete an exchange and its bindings; a missing one is a success
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warren exchange declare events --type fanout
  warren binding create events orders")]
pub(crate) struct DeclareArgs {
    /// Name of the exchange
    name: String,
    /// direct, fanout, ...
    #[arg(long = "type", default_value = "direct")]
    kind: String,
    /// Declare it as not durable (it is replicated all the same)
    #[arg(long)]
    transient: bool,
    /// Delete it with its last binding
    #[arg(long)]
    auto_delete: bool,
    /// Only other exchanges publish to it
    #[arg(long)]
    internal: bool,
    /// AMQP argument; may be repeated
    #[arg(long = "argument", value_name = "NAME=VALUE")]
    arguments: Vec<Argument>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Name of the exchange
    name: String,
    /// Refuse while it has bindings
    #[arg(long)]
    if_unused: bool,
}

#[derive(Serialize)]
struct Deleted {
    name: String,
    vhost: String,
}

pub(crate) async fn run(global: &Global, command: ExchangeCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        ExchangeCommand::Declare(args) => declare(global, &connection, args).await,
        ExchangeCommand::List => list(global, &connection).await,
        ExchangeCommand::Delete(args) => {
            let vhost = &global.vhost;
            connection
                .delete_exchange(vhost, &args.name, args.if_unused)
                .await?;
            let view = Deleted {
                name: args.name,
                vhost: vhost.clone(),
            };
            output::result(global.output, &view, |it| {
                format!("exchange {} deleted", it.name)
            })
        }
    }
}

async fn declare(global: &Global, connection: &Connection, args: DeclareArgs) -> Result<()> {
    let exchange = Exchange {
        vhost: global.vhost.clone(),
        name: args.name,
        kind: args.kind,
        durable: !args.transient,
        auto_delete: args.auto_delete,
        internal: args.internal,
        arguments: arguments::table(&args.arguments)?,
    };
    let declared = connection.declare_exchange(&exchange).await?;
    output::result(global.output, &ExchangeView::from(declared), |it| {
        format!("exchange {} ({}) is there", it.name, it.kind)
    })
}

async fn list(global: &Global, connection: &Connection) -> Result<()> {
    let exchanges = connection.exchanges(&global.vhost).await?;
    let views: Vec<ExchangeView> = exchanges.into_iter().map(ExchangeView::from).collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&["name", "type", "durable", "auto-delete", "internal"]);
        for it in views {
            let name = if it.name.is_empty() {
                "(default)".to_owned()
            } else {
                it.name.clone()
            };
            table.row(vec![
                name,
                it.kind.clone(),
                it.durable.to_string(),
                it.auto_delete.to_string(),
                it.internal.to_string(),
            ]);
        }
        table.text()
    })
}
