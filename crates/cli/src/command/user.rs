//! `warren user`: create, set-password, set-tags, list, delete, whoami. Passwords come from stdin or a file, never from an argument.

use std::io::BufRead as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_client::{Connection, User, UserChange};

use crate::{
    args::{Global, read_password_file},
    output,
    table::TextTable,
};

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Create a user; its password is read from stdin, or from a file
    Create(CreateArgs),
    /// Change a user's password
    SetPassword(PasswordArgs),
    /// Replace a user's tags
    SetTags {
        /// Name of the user
        name: String,
        /// administrator, monitoring, policymaker, management, impersonator, or a word of yours
        tags: Vec<String>,
    },
    /// List users
    List,
    /// Delete a user with its permissions; its connections are closed; a missing one is a success
    Delete {
        /// Name of the user
        name: String,
    },
    /// Show who the server takes you for
    Whoami,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warren user create alice --tag management <password.txt
  warren user create reader --new-password-file /run/secrets/reader
  warren user create robot --no-password")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    password: PasswordArgs,
    /// administrator, monitoring, policymaker, management, impersonator, or a word of yours; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// It cannot log in with a password
    #[arg(long, conflicts_with = "new_password_file")]
    no_password: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// Name of the user
    name: String,
    /// File with the new password; without it, the first line of stdin
    #[arg(long, value_name = "PATH")]
    new_password_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct UserView {
    name: String,
    tags: Vec<String>,
    has_password: bool,
    max_connections: Option<u32>,
    max_channels: Option<u32>,
}

#[derive(Serialize)]
struct Deleted {
    name: String,
}

pub(crate) async fn run(global: &Global, command: UserCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        UserCommand::Create(args) => {
            let password = if args.no_password {
                String::new()
            } else {
                args.password.read()?
            };
            let name = args.password.name;
            let user = connection.create_user(&name, args.tags, password).await?;
            output::result(global.output, &view(user), |it| {
                format!("user {} created", it.name)
            })
        }
        UserCommand::SetPassword(args) => {
            let change = UserChange {
                password: Some(args.read()?),
                tags: None,
            };
            changed(global, &connection, &args.name, change).await
        }
        UserCommand::SetTags { name, tags } => {
            let change = UserChange {
                tags: Some(tags),
                password: None,
            };
            changed(global, &connection, &name, change).await
        }
        UserCommand::List => list(global, &connection).await,
        UserCommand::Delete { name } => {
            connection.delete_user(&name).await?;
            output::result(global.output, &Deleted { name }, |it| {
                format!("user {} deleted", it.name)
            })
        }
        UserCommand::Whoami => {
            let me = connection.who_am_i().await?;
            output::result(global.output, &view(me.user), |it| {
                format!("{} ({})", it.name, it.tags.join(", "))
            })
        }
    }
}

impl PasswordArgs {
    fn read(&self) -> Result<String> {
        let password = match &self.new_password_file {
            Some(path) => read_password_file(path)?,
            None => {
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line);
                read.context("cannot read the password from stdin")?;
                line.trim_end_matches(['\n', '\r']).to_owned()
            }
        };
        ensure!(!password.is_empty(), "the password is empty");
        Ok(password)
    }
}

async fn changed(
    global: &Global,
    connection: &Connection,
    name: &str,
    change: UserChange,
) -> Result<()> {
    let user = connection.update_user(name, change).await?;
    output::result(global.output, &view(user), |it| {
        format!("user {} changed", it.name)
    })
}

async fn list(global: &Global, connection: &Connection) -> Result<()> {
    let views: Vec<UserView> = connection.users().await?.into_iter().map(view).collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&["name", "tags", "password"]);
        for it in views {
            let password = if it.has_password { "yes" } else { "none" };
            table.row(vec![
                it.name.clone(),
                it.tags.join(", "),
                password.to_owned(),
            ]);
        }
        table.text()
    })
}

fn view(it: User) -> UserView {
    UserView {
        name: it.name,
        tags: it.tags,
        has_password: it.has_password,
        max_connections: it.max_connections,
        max_channels: it.max_channels,
    }
}
