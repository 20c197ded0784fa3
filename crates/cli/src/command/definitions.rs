//! `warren definitions`: export and import, as JSON in RabbitMQ's form. Not here: what the document holds (the server says).

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;
use warren_client::Connection;

use crate::{args::Global, exit::Failure, output};

#[derive(Debug, Subcommand)]
pub(crate) enum DefinitionsCommand {
    /// Write all that is declared: users with their hashes, vhosts, permissions, policies, queues, exchanges, bindings
    Export {
        /// Where to; without it, stdout
        file: Option<PathBuf>,
        /// Only what is in this vhost
        #[arg(long, value_name = "VHOST")]
        only: Option<String>,
    },
    /// Declare what a document has, of this broker or of RabbitMQ; what is there already stays
    #[command(after_help = "\
Exit code 1 if some object was refused; the others are there. Doing it again goes on where it ended.

Examples:
  warren definitions import definitions.json --dry-run
  rabbitmqctl export_definitions - | warren definitions import -")]
    Import {
        /// The document; - is stdin
        file: PathBuf,
        /// Into this vhost, whatever the document says
        #[arg(long, value_name = "VHOST")]
        only: Option<String>,
        /// Only tell what would come of it
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Serialize)]
struct Imported {
    changed: u32,
    unchanged: u32,
    warnings: Vec<String>,
    refused: Vec<String>,
}

pub(crate) async fn run(global: &Global, command: DefinitionsCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        DefinitionsCommand::Export { file, only } => {
            let document = connection.export_definitions(only.as_deref()).await?;
            match file {
                Some(path) => write(&path, &document),
                None => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(&document)?;
                    Ok(out.write_all(b"\n")?)
                }
            }
        }
        DefinitionsCommand::Import {
            file,
            only,
            dry_run,
        } => import(global, &connection, &file, only.as_deref(), dry_run).await,
    }
}

/// Only for its owner: it has the users' hashes.
fn write(path: &Path, document: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut it| it.write_all(document));
    written.with_context(|| format!("cannot write {}", path.display()))
}

async fn import(
    global: &Global,
    connection: &Connection,
    file: &Path,
    only: Option<&str>,
    dry_run: bool,
) -> Result<()> {
    let document = read(file)?;
    let done = connection
        .import_definitions(document, only, dry_run)
        .await?;
    let is_whole = done.refused.is_empty();
    let view = Imported {
        changed: done.changed,
        unchanged: done.unchanged,
        warnings: done.warnings,
        refused: done.refused,
    };
    output::result(global.output, &view, |it| {
        let warnings = it.warnings.iter().map(|text| format!("note: {text}"));
        let refused = it.refused.iter().map(|text| format!("refused: {text}"));
        let would = if dry_run { "would be " } else { "" };
        let sums = format!(
            "{} {would}changed, {} there already, {} {would}refused",
            it.changed,
            it.unchanged,
            it.refused.len()
        );
        let lines: Vec<String> = warnings.chain(refused).chain([sums]).collect();
        lines.join("\n")
    })?;
    if is_whole {
        Ok(())
    } else {
        Err(Failure::SAID_FAILED.into())
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut document = Vec::new();
        std::io::stdin().lock().read_to_end(&mut document)?;
        return Ok(document);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
