//! `warren server`: runs one node. Each of the node's settings is a flag. Not here: anything about the node itself.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use warren_server::config::{Config, Inputs, Kind, Setting};

use crate::exit::Failure;

const AFTER_HELP: &str = "\
Settings come from the file, then the environment (WARREN_<SECTION>_<KEY>), then flags; the last wins.

Examples:
  warren server --config /etc/warren/node1.toml
  warren server --config node1.toml --node-data-dir /data/warren --set log.filter=debug";

/// Options of `warren server`.
#[derive(Debug)]
pub(crate) struct ServerArgs {
    config: Option<PathBuf>,
    /// Names and values of settings.
    settings: Vec<(String, String)>,
}

impl Args for ServerArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Configuration file (TOML)");
        let set = Arg::new("set")
            .long("set")
            .value_name("NAME=VALUE")
            .action(clap::ArgAction::Append)
            .value_parser(parse_setting)
            .help("Gives one setting by its name, for example node.id=2; may be repeated");
        let command = command.after_help(AFTER_HELP).arg(config).arg(set);
        command.args(Config::settings().filter_map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// `None`: the setting is not taken from the command line.
fn argument(setting: &'static Setting) -> Option<Arg> {
    let argument = Arg::new(setting.name)
        .long(setting.flag()?)
        .value_name(value_name(setting.kind))
        .help(setting.about)
        .help_heading("Settings");
    Some(argument)
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Choice(_) | Kind::Secret => "TEXT",
        Kind::Path => "PATH",
        Kind::Whole | Kind::NodeId => "NUMBER",
        Kind::Level => "SIZE|SHARE%",
        Kind::Switch => "true|false",
        Kind::Size => "SIZE",
        Kind::Duration => "DURATION",
        Kind::Socket => "ADDRESS:PORT",
        Kind::Endpoint => "HOST:PORT",
        Kind::Peers => "ID=HOST:PORT,...",
    }
}

impl FromArgMatches for ServerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = matches.get_many::<(String, String)>("set");
        let flags = Config::settings().filter(|setting| setting.flag().is_some());
        let flags = flags.filter_map(|setting| {
            let value = matches.get_one::<String>(setting.name)?;
            Some((setting.name.to_owned(), value.clone()))
        });
        Ok(Self {
            config: matches.get_one::<PathBuf>("config").cloned(),
            settings: named.into_iter().flatten().cloned().chain(flags).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs the node until it is told to stop.
pub(crate) fn run(args: ServerArgs) -> Result<()> {
    let inputs = Inputs::of_process(args.config, args.settings);
    let loaded = Config::load(&inputs).map_err(|error| Failure::Usage(error.to_string()))?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Ok(threads @ 1..) = usize::try_from(loaded.config.node.threads) {
        builder.worker_threads(threads);
    }
    let runtime = builder
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(warren_server::run(loaded));
    // After a failure of a disk nothing may be waited for; in good order everything has ended by now.
    runtime.shutdown_background();
    ended.map_err(|error| {
        if error.cannot_start_so() {
            Failure::Precondition(error.to_string()).into()
        } else {
            error.into()
        }
    })
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write NAME=VALUE, for example node.id=2".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Server {
        #[command(flatten)]
        args: ServerArgs,
    }

    #[test]
    fn every_setting_but_the_secret_is_a_flag() {
        let line = [
            "warren",
            "--config",
            "a.toml",
            "--node-id",
            "2",
            "--set",
            "log.filter=debug",
        ];
        let args = Server::try_parse_from(line).unwrap().args;
        assert_eq!(args.config, Some(PathBuf::from("a.toml")));
        let given =
            |name: &str, value: &str| args.settings.contains(&(name.to_owned(), value.to_owned()));
        assert!(
            given("node.id", "2") && given("log.filter", "debug"),
            "{args:?}"
        );
        let refused = Server::try_parse_from(["warren", "--cluster-secret", "x"])
            .err()
            .unwrap();
        assert_eq!(refused.exit_code(), 2);
    }
}
