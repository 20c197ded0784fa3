//! The commands. Each has a file with its options and what it does. Not here: `perf`.

pub(crate) mod backup;
pub(crate) mod binding;
pub(crate) mod cluster;
pub(crate) mod consume;
pub(crate) mod data;
pub(crate) mod definitions;
pub(crate) mod dlq;
pub(crate) mod exchange;
pub(crate) mod health;
pub(crate) mod permission;
pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod server;
pub(crate) mod user;
pub(crate) mod vhost;

use std::time::Duration;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Cli, Command},
    perf,
};

/// How long tasks may take to end after the command is done.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) fn run(cli: Cli) -> Result<()> {
    let cli = match cli {
        Cli {
            command: Command::Server(args),
            ..
        } => return server::run(args),
        Cli {
            command: Command::Data(command),
            global,
        } => return data::run(&global, command),
        other => other,
    };
    let threads = match &cli.command {
        Command::Perf(args) => args.threads(),
        Command::Server(_)
        | Command::Publish(_)
        | Command::Consume(_)
        | Command::Queue(_)
        | Command::Dlq(_)
        | Command::Exchange(_)
        | Command::Binding(_)
        | Command::Policy(_)
        | Command::Vhost(_)
        | Command::User(_)
        | Command::Permission(_)
        | Command::Definitions(_)
        | Command::Backup(_)
        | Command::Cluster(_)
        | Command::Data(_)
        | Command::Health(_) => 2,
    };
    let log = EnvFilter::try_from_env("WARREN_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(run_client(cli));
    runtime.shutdown_timeout(SHUTDOWN);
    result
}

async fn run_client(cli: Cli) -> Result<()> {
    let global = cli.global;
    match cli.command {
        Command::Server(_) | Command::Data(_) => Ok(()),
        Command::Publish(args) => publish::run(&global, args).await,
        Command::Consume(args) => consume::run(&global, args).await,
        Command::Dlq(command) => dlq::run(&global, command).await,
        Command::Queue(command) => queue::run(&global, command).await,
        Command::Exchange(command) => exchange::run(&global, command).await,
        Command::Binding(command) => binding::run(&global, command).await,
        Command::Policy(command) => policy::run(&global, command).await,
        Command::Vhost(command) => vhost::run(&global, command).await,
        Command::User(command) => user::run(&global, command).await,
        Command::Permission(command) => permission::run(&global, command).await,
        Command::Definitions(command) => definitions::run(&global, command).await,
        Command::Backup(command) => backup::run(&global, command).await,
        Command::Cluster(command) => cluster::run(&global, command).await,
        Command::Health(args) => health::run(args).await,
        Command::Perf(args) => perf::run(&global, *args).await,
    }
}
