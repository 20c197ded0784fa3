//! `warren data`: looks at the data directory of a node that does not run. Not here: what is checked (`warren-storage`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_server::data::{
    DataDirError, DumpedGroup, Finding, Grade, LogRecord, Verified, describe, dump_log,
    holds_secrets, verify,
};
use warren_types::GroupId;

use crate::args::{Global, Output};
use crate::exit::Failure;
use crate::output::{self, Reader};
use crate::progress::Progress;

/// An entry is shown up to this many characters unless all of it is wanted.
const SHOWN: usize = 400;

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Read all of a data directory and check every checksum in it
    #[command(after_help = "\
Nothing is written. Damage is said with file and offset. `torn` is what a crash leaves behind the last whole write: it was
told to nobody; after an orderly stop it would be damage. Not covered: what RocksDB keeps to be read by people, and what
stands in files that wait to be used again.

Exit codes: 0 no damage, 1 damage, 5 a node runs on the directory.

Example:
  warren data verify /var/lib/warren --output json")]
    Verify(DirArgs),
    /// Show the groups' logs, and with --entries what is in them
    #[command(after_help = "\
Group 0 is the topology, group N is shard N. The topology's entries are left out unless --secrets is given: they hold
password hashes.

Examples:
  warren data dump /var/lib/warren
  warren data dump /var/lib/warren --group 3 --entries | less -S")]
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DirArgs {
    /// The directory, as node.data_dir names it
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The directory, as node.data_dir names it
    dir: PathBuf,
    /// Only this group
    #[arg(long, value_name = "NUMBER")]
    group: Option<u32>,
    /// Show the entries, too
    #[arg(long)]
    entries: bool,
    /// Show entries as long as they are, bodies of messages too
    #[arg(long, requires = "entries")]
    full: bool,
    /// Show the topology's entries, too
    #[arg(long, requires = "entries")]
    secrets: bool,
}

/// Blocks on the disk.
pub(crate) fn run(global: &Global, command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Verify(args) => verify_directory(global, &args.dir),
        DataCommand::Dump(args) => dump(global, &args),
    }
}

#[derive(Serialize)]
struct VerifiedView {
    node: u64,
    cluster: Option<String>,
    log_engine: &'static str,
    files: u64,
    bytes: u64,
    log_records: u64,
    state_rows: u64,
    /// By the group's number.
    group_rows: BTreeMap<u32, u64>,
    damaged: bool,
    findings: Vec<FindingView>,
}

#[derive(Serialize)]
struct FindingView {
    grade: &'static str,
    file: String,
    offset: Option<u64>,
    detail: String,
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> Self {
        Self {
            grade: finding.grade.name(),
            file: finding.path.display().to_string(),
            offset: finding.offset,
            detail: finding.detail.clone(),
        }
    }
}

impl From<&Verified> for VerifiedView {
    fn from(verified: &Verified) -> Self {
        Self {
            node: verified.node.0,
            cluster: verified.cluster.map(|it| it.to_string()),
            log_engine: verified.log_engine.name(),
            files: verified.files,
            bytes: verified.bytes,
            log_records: verified.records,
            state_rows: verified.rows,
            group_rows: verified
                .group_rows
                .iter()
                .map(|(it, rows)| (it.0, *rows))
                .collect(),
            damaged: verified.findings.iter().any(|it| it.grade == Grade::Damage),
            findings: verified.findings.iter().map(FindingView::from).collect(),
        }
    }
}

fn verify_directory(global: &Global, dir: &Path) -> Result<()> {
    let progress = Progress::new(None, "bytes");
    let mut bytes = 0;
    let verified = verify(dir, &mut |path, more| {
        bytes += more;
        progress.set(bytes);
        let name = path.file_name().unwrap_or_default();
        progress.say(name.to_string_lossy().into_owned());
    });
    progress.end();
    let verified = verified.map_err(refusal)?;
    let view = VerifiedView::from(&verified);
    output::result(global.output, &view, |it| text(it, &verified))?;
    if view.damaged {
        let what = "the directory is damaged: empty it and start the node, which takes everything from the others again";
        return Err(Failure::Failed(what.to_owned()).into());
    }
    Ok(())
}

fn text(view: &VerifiedView, verified: &Verified) -> String {
    let mut text = String::new();
    for finding in &verified.findings {
        let _ = writeln!(text, "{finding}");
    }
    let cluster = view.cluster.as_deref().unwrap_or("none");
    let _ = writeln!(
        text,
        "node {} of cluster {cluster}: {} files with {} bytes read, {} log records, {} rows; {}",
        view.node,
        view.files,
        view.bytes,
        view.log_records,
        view.state_rows,
        if view.damaged { "DAMAGED" } else { "no damage" }
    );
    text
}

fn refusal(error: DataDirError) -> anyhow::Error {
    if matches!(error, DataDirError::InUse { .. }) {
        return Failure::Precondition(format!("{error}: stop the node first")).into();
    }
    error.into()
}

#[derive(Serialize)]
struct GroupView {
    group: u32,
    replica: u64,
    vote: Option<String>,
    purged: Option<u64>,
    committed: Option<u64>,
    last: Option<u64>,
}

impl From<&DumpedGroup> for GroupView {
    fn from(it: &DumpedGroup) -> Self {
        let state = &it.state;
        Self {
            group: it.group.0,
            replica: it.replica.0,
            vote: state.vote.map(|vote| {
                let committed = if vote.committed { ", committed" } else { "" };
                format!("term {} for replica {}{committed}", vote.term, vote.replica)
            }),
            purged: state.purged.map(|id| id.index.0),
            committed: state.committed.map(|id| id.index.0),
            last: state.last.map(|id| id.index.0),
        }
    }
}

#[derive(Serialize)]
struct EntryView {
    group: u32,
    index: u64,
    term: u64,
    leader: u64,
    bytes: usize,
    entry: String,
}

fn dump(global: &Global, args: &DumpArgs) -> Result<()> {
    let json = global.output == Output::Json;
    let mut failed = None;
    let mut group = |it: &DumpedGroup| {
        if args.group.is_some_and(|wanted| wanted != it.group.0) || failed.is_some() {
            return false;
        }
        let view = GroupView::from(it);
        failed = if json {
            output::json(&view)
        } else {
            output::line(&group_text(&view))
        }
        .err();
        let hidden = holds_secrets(it.group) && !args.secrets;
        if args.entries && hidden && !json {
            // Its own line is there; a failed stdout is met again at the next.
            let _ = output::line("  (entries left out: --secrets shows them)");
        }
        args.entries && !hidden
    };
    let mut record = |group: GroupId, it: LogRecord| -> io::Result<()> {
        let mut entry = describe(group, &it.bytes);
        if !args.full {
            shorten(&mut entry);
        }
        let view = EntryView {
            group: group.0,
            index: it.id.index.0,
            term: it.id.term.0,
            leader: it.id.leader.0,
            bytes: it.bytes.len(),
            entry,
        };
        let written = if json {
            output::json(&view)
        } else {
            output::line(&entry_text(&view))
        };
        match written.map_err(io::Error::other)? {
            Reader::Present => Ok(()),
            Reader::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    let dumped = dump_log(&args.dir, &mut group, &mut record);
    if let Some(error) = failed {
        return Err(error);
    }
    match dumped {
        Ok(()) => Ok(()),
        Err(warren_server::data::DumpError::Directory(error)) => Err(refusal(error)),
        Err(warren_server::data::DumpError::Stopped(error))
            if error.kind() == io::ErrorKind::BrokenPipe =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn group_text(view: &GroupView) -> String {
    let index = |it: Option<u64>| it.map_or("-".to_owned(), |it| it.to_string());
    format!(
        "group {} replica {}: purged {}, committed {}, last {}; vote {}",
        view.group,
        view.replica,
        index(view.purged),
        index(view.committed),
        index(view.last),
        view.vote.as_deref().unwrap_or("-"),
    )
}

fn entry_text(view: &EntryView) -> String {
    format!(
        "  {} term {} leader {} ({} bytes) {}",
        view.index, view.term, view.leader, view.bytes, view.entry
    )
}

fn shorten(entry: &mut String) {
    if let Some((at, _)) = entry.char_indices().nth(SHOWN) {
        entry.truncate(at);
        entry.push_str(" ...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_entry_is_cut_between_characters() {
        let mut entry = "é".repeat(SHOWN + 5);
        shorten(&mut entry);
        assert_eq!(entry, format!("{} ...", "é".repeat(SHOWN)));
        let mut short = "short".to_owned();
        shorten(&mut short);
        assert_eq!(short, "short");
    }
}
