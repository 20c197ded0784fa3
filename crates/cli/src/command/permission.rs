//! `warren permission`: set, set-topic, list, clear. The vhost is that of `--vhost`.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Permission, TopicPermission};

use crate::{args::Global, output, table::TextTable};

#[derive(Debug, Subcommand)]
pub(crate) enum PermissionCommand {
    /// Set what a user may do in the vhost
    Set(SetArgs),
    /// Set what routing keys a user may use on a topic exchange
    SetTopic(SetTopicArgs),
    /// List permissions of all vhosts
    List {
        /// Only of this user
        #[arg(long)]
        user: Option<String>,
    },
    /// Take a user's access to the vhost away; missing access is a success
    Clear {
        /// Name of the user
        user: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Patterns are regular expressions over names, not anchored; an empty one allows nothing.
Examples:
  warren permission set alice --configure '' --write '^orders$' --read '^orders$'
  warren permission set admin --vhost shop --configure '.*' --write '.*' --read '.*'")]
pub(crate) struct SetArgs {
    /// Name of the user
    user: String,
    /// May declare and delete
    #[arg(long, value_name = "PATTERN", default_value = "")]
    configure: String,
    /// May publish and bind to
    #[arg(long, value_name = "PATTERN", default_value = "")]
    write: String,
    /// May consume and bind from
    #[arg(long, value_name = "PATTERN", default_value = "")]
    read: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetTopicArgs {
    /// Name of the user
    user: String,
    /// Name of the topic exchange
    exchange: String,
    /// May publish with; {username}, {vhost} and {client_id} stand for the values
    #[arg(long, value_name = "PATTERN", default_value = "")]
    write: String,
    /// May bind with
    #[arg(long, value_name = "PATTERN", default_value = "")]
    read: String,
}

#[derive(Serialize)]
struct PermissionView {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Serialize)]
struct Done {
    user: String,
    vhost: String,
}

pub(crate) async fn run(global: &Global, command: PermissionCommand) -> Result<()> {
    let connection = global.connect()?;
    let vhost = global.vhost.clone();
    let (user, done) = match command {
        PermissionCommand::Set(args) => {
            let permission = Permission {
                user: args.user.clone(),
                vhost: vhost.clone(),
                configure: args.configure,
                write: args.write,
                read: args.read,
            };
            connection.set_permission(&permission).await?;
            (args.user, "set")
        }
        PermissionCommand::SetTopic(args) => {
            let permission = TopicPermission {
                user: args.user.clone(),
                vhost: vhost.clone(),
                exchange: args.exchange,
                write: args.write,
                read: args.read,
            };
            connection.set_topic_permission(&permission).await?;
            (args.user, "set")
        }
        PermissionCommand::List { user } => {
            let found = connection.permissions(user.as_deref()).await?;
            return list(global, found);
        }
        PermissionCommand::Clear { user } => {
            connection.clear_permission(&user, &vhost).await?;
            (user, "cleared")
        }
    };
    output::result(global.output, &Done { user, vhost }, |it| {
        format!("permission of {} in {} {done}", it.user, it.vhost)
    })
}

fn list(global: &Global, found: Vec<Permission>) -> Result<()> {
    let views = found.into_iter().map(|it| PermissionView {
        user: it.user,
        vhost: it.vhost,
        configure: it.configure,
        write: it.write,
        read: it.read,
    });
    let views: Vec<PermissionView> = views.collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&["user", "vhost", "configure", "write", "read"]);
        for it in views {
            table.row(vec![
                it.user.clone(),
                it.vhost.clone(),
                it.configure.clone(),
                it.write.clone(),
                it.read.clone(),
            ]);
        }
        table.text()
    })
}
