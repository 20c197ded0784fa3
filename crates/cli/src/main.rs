//! The one binary, `warren`: reads the command line, runs one command, turns its result into an exit code.
//! Not here: what commands do (`command`, `perf`).

mod args;
mod arguments;
mod command;
mod exit;
mod output;
mod perf;
mod progress;
mod signals;
mod table;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

use args::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::code_of(command::run(cli))
}
