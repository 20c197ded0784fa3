//! `warren vhost`: create, update, list, delete.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Connection, Vhost};

use crate::{args::Global, output, table::TextTable};

#[derive(Debug, Subcommand)]
pub(crate) enum VhostCommand {
    /// Create a vhost; one that exists is a success and stays as it is
    Create(SettingsArgs),
    /// Replace a vhost's settings
    Update(SettingsArgs),
    /// List the vhosts you may see
    List,
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
    /// It cannot be deleted
    #[arg(long)]
    protect: bool,
}

#[derive(Serialize)]
struct VhostView {
    name: String,
    description: String,
    tags: Vec<String>,
    default_queue_type: String,
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
            is_protected: self.protect,
        }
    }
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
        protected: it.is_protected,
    }
}
