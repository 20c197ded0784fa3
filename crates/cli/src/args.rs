//! The command line: global options and the list of commands. Options of one command stand in its file under `command`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use warren_client::{Connection, ConnectionOptions, Credentials, parse_addresses};

use crate::{command, perf};

const ABOUT: &str = "Warren, a clustered message broker: the node and its clients in one program";

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed; for publish: at least one message was refused
  2  the command line makes no sense
  3  no node could be reached or the cluster is not ready in time: try again
  4  the queue, exchange or vhost does not exist
  5  not possible as things are: other settings, in use, not empty
  6  credentials or permissions

Examples:
  warren server --config node1.toml
  warren queue declare orders
  echo 'two coffees' | warren publish --queue orders
  warren consume --queue orders --count 1
  warren queue show orders --output json
  warren cluster status --server 10.0.0.1:7101,10.0.0.2:7101";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "warren", version, about = ABOUT, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every client command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Nodes to talk to, the first that answers is used; any node will do
    #[arg(long, global = true, value_name = "HOST:PORT[,HOST:PORT]", env = "WARREN_SERVER", default_value = "127.0.0.1:7101", value_parser = parse_servers)]
    pub(crate) server: Servers,
    /// How results are printed to stdout
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// The vhost
    #[arg(long, global = true, default_value = "/")]
    pub(crate) vhost: String,
    /// User to log in as; its password is read from --password-file or the variable WARREN_PASSWORD, never from an argument
    #[arg(
        long = "login",
        global = true,
        value_name = "USER",
        env = "WARREN_LOGIN"
    )]
    pub(crate) login: Option<String>,
    /// File with the password of --login
    #[arg(long, global = true, value_name = "PATH", env = "WARREN_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Name under which exclusive queues are declared and used; by default one of this process
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) client_id: Option<String>,
    /// Longest time a call may take, over all nodes
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10.0, value_parser = parse_seconds)]
    pub(crate) request_timeout: f64,
}

/// The parsed `--server`.
#[derive(Debug, Clone)]
pub(crate) struct Servers(pub(crate) Vec<warren_client::ServerAddress>);

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// For programs; keys are stable
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Server(command::server::ServerArgs),
    /// Publish lines as messages and wait until they are safe
    Publish(command::publish::PublishArgs),
    /// Print messages of a queue and acknowledge them
    Consume(command::consume::ConsumeArgs),
    /// Declare, list, show, purge and delete queues
    #[command(subcommand)]
    Queue(command::queue::QueueCommand),
    /// List dead letters and parked messages, send dead letters back
    #[command(subcommand)]
    Dlq(command::dlq::DlqCommand),
    /// Declare, list and delete exchanges
    #[command(subcommand)]
    Exchange(command::exchange::ExchangeCommand),
    /// Set, list, delete and show policies
    #[command(subcommand)]
    Policy(command::policy::PolicyCommand),
    /// Create, list and delete bindings
    #[command(subcommand)]
    Binding(command::binding::BindingCommand),
    /// Create, change, list and delete vhosts
    #[command(subcommand)]
    Vhost(command::vhost::VhostCommand),
    /// Create, change, list and delete users
    #[command(subcommand)]
    User(command::user::UserCommand),
    /// Set, list and clear what users may do
    #[command(subcommand)]
    Permission(command::permission::PermissionCommand),
    /// Export and import all that is declared, as RabbitMQ's JSON
    #[command(subcommand)]
    Definitions(command::definitions::DefinitionsCommand),
    /// Write what is declared and all messages to a file, and restore them into another cluster
    #[command(subcommand)]
    Backup(command::backup::BackupCommand),
    /// Look at the cluster, drain a node
    #[command(subcommand)]
    Cluster(command::cluster::ClusterCommand),
    /// Check or show the data directory of a node that does not run
    #[command(subcommand)]
    Data(command::data::DataCommand),
    /// Ask a node whether it lives, is ready, has started
    Health(command::health::HealthArgs),
    /// Measure throughput and latency
    Perf(Box<perf::PerfArgs>),
}

impl Global {
    pub(crate) fn connection_options(&self) -> Result<ConnectionOptions> {
        Ok(ConnectionOptions {
            credentials: self.credentials()?,
            client_id: self
                .client_id
                .clone()
                .unwrap_or_else(|| format!("warren-cli-{}", std::process::id())),
            request_timeout: Duration::from_secs_f64(self.request_timeout),
            ..ConnectionOptions::default()
        })
    }

    fn credentials(&self) -> Result<Option<Credentials>> {
        let Some(user) = self.login.clone() else {
            return Ok(None);
        };
        let password = match &self.password_file {
            Some(path) => read_password_file(path)?,
            None => std::env::var("WARREN_PASSWORD")
                .context("give the password of --login in WARREN_PASSWORD or --password-file")?,
        };
        Ok(Some(Credentials { user, password }))
    }

    /// A connection; nothing is sent yet.
    pub(crate) fn connect(&self) -> Result<Connection> {
        Ok(Connection::new(&self.server.0, self.connection_options()?)?)
    }
}

/// Without the line's end.
pub(crate) fn read_password_file(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read the password in {}", path.display()))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// `HOST:PORT[,HOST:PORT]`.
pub(crate) fn parse_servers(text: &str) -> Result<Servers, String> {
    parse_addresses(text)
        .map(Servers)
        .map_err(|error| error.to_string())
}

/// A time in seconds, above 0.
pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e9 => Ok(seconds),
        Ok(_) | Err(_) => Err("give a number of seconds above 0, for example 2.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn server_option_is_taken_after_the_command_too() {
        let cli = Cli::try_parse_from([
            "warren", "queue", "show", "q", "--server", "a:1,b:2", "--output", "json",
        ]);
        let cli = cli.unwrap();
        assert_eq!(cli.global.server.0.len(), 2);
        assert_eq!(cli.global.output, Output::Json);
    }

    #[test]
    fn server_address_that_makes_no_sense_is_a_usage_error() {
        let error =
            Cli::try_parse_from(["warren", "queue", "list", "--server", "a:b"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("HOST:PORT"), "{error}");
    }
}
