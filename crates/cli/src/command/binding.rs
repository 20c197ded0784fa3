//! `warren binding`: create, list, delete.

use anyhow::Result;
use clap::{Args, Subcommand};
use warren_client::{Binding, BindingDestination, BindingFilter, Connection};

use crate::{
    args::Global,
    arguments::{self, Argument},
    output,
    table::TextTable,
    view::BindingView,
};

#[derive(Debug, Subcommand)]
pub(crate) enum BindingCommand {
    /// Bind a queue or an exchange to an exchange; a repeated one is a success
    Create(BindingArgs),
    /// List bindings
    List(ListArgs),
    /// Delete a binding; a missing one is a success
    Delete(BindingArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warren binding create events orders --routing-key eu.order
  warren binding create events archive --to-exchange")]
pub(crate) struct BindingArgs {
    /// The exchange messages come from
    source: String,
    /// The queue they go to
    destination: String,
    /// The destination is an exchange
    #[arg(long)]
    to_exchange: bool,
    /// The binding key
    #[arg(long, default_value = "")]
    routing_key: String,
    /// AMQP argument; may be repeated
    #[arg(long = "argument", value_name = "NAME=VALUE")]
    arguments: Vec<Argument>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only from this exchange
    #[arg(long)]
    source: Option<String>,
    /// Only to this queue
    #[arg(long)]
    queue: Option<String>,
}

pub(crate) async fn run(global: &Global, command: BindingCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        BindingCommand::Create(args) => {
            let binding = binding_of(global, args)?;
            connection.create_binding(&binding).await?;
            tell(global, binding, "is there")
        }
        BindingCommand::List(args) => list(global, &connection, args).await,
        BindingCommand::Delete(args) => {
            let binding = binding_of(global, args)?;
            connection.delete_binding(&binding).await?;
            tell(global, binding, "deleted")
        }
    }
}

fn binding_of(global: &Global, args: BindingArgs) -> Result<Binding> {
    Ok(Binding {
        vhost: global.vhost.clone(),
        source: args.source,
        destination: if args.to_exchange {
            BindingDestination::Exchange(args.destination)
        } else {
            BindingDestination::Queue(args.destination)
        },
        routing_key: args.routing_key,
        arguments: arguments::table(&args.arguments)?,
    })
}

fn tell(global: &Global, binding: Binding, what: &str) -> Result<()> {
    output::result(global.output, &BindingView::from(binding), |it| {
        format!(
            "binding {} -> {} {} with key {:?} {what}",
            it.source, it.destination_type, it.destination, it.routing_key
        )
    })
}

async fn list(global: &Global, connection: &Connection, args: ListArgs) -> Result<()> {
    let filter = BindingFilter {
        vhost: global.vhost.clone(),
        source: args.source,
        destination: args.queue.map(BindingDestination::Queue),
    };
    let bindings = connection.bindings(&filter).await?;
    let views: Vec<BindingView> = bindings.into_iter().map(BindingView::from).collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&["source", "to", "destination", "routing key"]);
        for it in views {
            table.row(vec![
                it.source.clone(),
                it.destination_type.to_owned(),
                it.destination.clone(),
                it.routing_key.clone(),
            ]);
        }
        table.text()
    })
}
