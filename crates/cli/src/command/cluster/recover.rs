//! `warren cluster recover-majority`: makes a cluster of the copies of one node when most others are lost for good. The node does not run
//! meanwhile. Says first what would be done, and does it only for somebody who names the lost nodes. Not here: how (`warren-server`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_server::config::{Config, Inputs};
use warren_server::data::{DataDirError, DumpError};
use warren_server::recover::{RecoverError, Recovery, look, recover};

use crate::args::Global;
use crate::exit::Failure;
use crate::output;

const CONNECT_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
For the case that no majority of the nodes can ever come back. Choose the node that was heard from last; on it, stopped:
  1. warren cluster recover-majority --config node1.toml --dry-run      says what would be done
  2. warren cluster recover-majority --config node1.toml --lost 2,3     does it; may be repeated
  3. start the node: it serves alone, with what it has
  4. start nodes 2 and 3 with BLANK directories: they get copies of everything
Who did it, when, and with what, stays in the directory (the file recoveries): the node's log and its `warren cluster status` tell.
What only the lost nodes had confirmed is lost. What this node has counts from then on, also what was never confirmed. The old directories
of the lost nodes must never be started again: they would be a second cluster. A lost node that answers at its address ends the command,
unless --force is given.

Exit codes: 0 done, 1 failed: repeat it, 5 not possible or not confirmed.")]
pub(crate) struct RecoverArgs {
    /// Configuration file of the node (TOML), as for warren server; its variables are heeded, too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The numbers of all other nodes: they are lost for good
    #[arg(long, value_name = "NODE,NODE", value_delimiter = ',')]
    lost: Vec<u64>,
    /// Do it although a lost node answers
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct RecoveryView {
    node: u64,
    cluster: String,
    lost: Vec<u64>,
    copies: Vec<CopyView>,
    dry_run: bool,
}

#[derive(Serialize)]
struct CopyView {
    group: u32,
    last_index: u64,
    last_term: u64,
    /// Entries that are not known to have been confirmed.
    open: u64,
}

impl RecoveryView {
    fn new(recovery: &Recovery, dry_run: bool) -> Self {
        let copy = |it: &warren_server::recover::Copy| CopyView {
            group: it.group.0,
            last_index: it.last.index.0,
            last_term: it.last.term.0,
            open: it
                .last
                .index
                .0
                .saturating_sub(it.committed.map_or(0, |it| it.0)),
        };
        Self {
            node: recovery.node.0,
            cluster: recovery.cluster.to_string(),
            lost: recovery.lost.iter().map(|(node, _)| node.0).collect(),
            copies: recovery.copies.iter().map(copy).collect(),
            dry_run,
        }
    }
}

/// Blocks on the disk.
pub(crate) fn run(global: &Global, args: RecoverArgs) -> Result<()> {
    let inputs = Inputs::of_process(args.config, Vec::new());
    let loaded = Config::load(&inputs).map_err(|error| Failure::Usage(error.to_string()))?;
    let config = loaded.config;
    let recovery = look(&config).map_err(refusal)?;
    if !args.dry_run {
        check_named(&recovery, &args.lost)?;
        if !args.force {
            check_silent(&recovery)?;
        }
        recover(&config, &recovery, &operator()).map_err(refusal)?;
    }
    let view = RecoveryView::new(&recovery, args.dry_run);
    output::result(global.output, &view, text)?;
    Ok(())
}

/// Who runs this, for the record: the operating system's user, and who became it by sudo.
fn operator() -> String {
    use std::os::unix::fs::MetadataExt as _;
    let uid = std::fs::metadata("/proc/self").map(|it| it.uid()).ok();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = uid.and_then(|uid| name_of(&users, uid));
    let name = name.unwrap_or_else(|| "unknown".to_owned());
    let uid = uid.map_or_else(|| "?".to_owned(), |it| it.to_string());
    match std::env::var("SUDO_USER") {
        Ok(before) => format!("{name} (uid {uid}), by sudo of {before}"),
        Err(_) => format!("{name} (uid {uid})"),
    }
}

/// The name of a user in the form of /etc/passwd.
fn name_of(users: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let mut lines = users.lines().map(|it| it.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

fn check_named(recovery: &Recovery, named: &[u64]) -> Result<(), Failure> {
    let lost: BTreeSet<u64> = recovery.lost.iter().map(|(node, _)| node.0).collect();
    if named.iter().copied().collect::<BTreeSet<u64>>() == lost {
        return Ok(());
    }
    let all: Vec<String> = lost.iter().map(u64::to_string).collect();
    let what = format!(
        "nothing was done: if all other nodes are lost for good, say so with --lost {}",
        all.join(",")
    );
    Err(Failure::Precondition(what))
}

/// A node whose port takes connections is not lost.
fn check_silent(recovery: &Recovery) -> Result<(), Failure> {
    for (node, address) in &recovery.lost {
        // A name that cannot be resolved is no answer.
        let mut found = address.to_socket_addrs().into_iter().flatten();
        if found.any(|it| TcpStream::connect_timeout(&it, CONNECT_WITHIN).is_ok()) {
            let what = format!(
                "nothing was done: node {node} answers at {address}, so it is not lost; --force does it all the same"
            );
            return Err(Failure::Precondition(what));
        }
    }
    Ok(())
}

fn refusal(error: RecoverError) -> anyhow::Error {
    match error {
        RecoverError::NoCluster { .. }
        | RecoverError::Alone { .. }
        | RecoverError::NotWhole { .. } => Failure::Precondition(error.to_string()).into(),
        RecoverError::DataDir(DataDirError::InUse { .. })
        | RecoverError::Log(DumpError::Directory(DataDirError::InUse { .. })) => {
            Failure::Precondition(format!("{error}: stop the node first")).into()
        }
        RecoverError::DataDir(_)
        | RecoverError::Log(_)
        | RecoverError::Formation(_)
        | RecoverError::Storage(_)
        | RecoverError::Group { .. }
        | RecoverError::WriterEnded => error.into(),
    }
}

fn text(view: &RecoveryView) -> String {
    let lost: Vec<String> = view.lost.iter().map(u64::to_string).collect();
    let mut out = format!(
        "node {} of cluster {}; lost for good: nodes {}\n",
        view.node,
        view.cluster,
        lost.join(", ")
    );
    for it in &view.copies {
        let what = match it.group {
            0 => "topology".to_owned(),
            group => format!("shard {group}"),
        };
        writeln!(
            out,
            "{what}: has entries up to {} of term {}; {} of them not known to be confirmed, which count from now on; later ones are lost",
            it.last_index, it.last_term, it.open
        )
        .expect("a string takes everything");
    }
    out.push_str(if view.dry_run {
        "nothing was done: --lost with the numbers of the lost nodes does it\n"
    } else {
        "done: start this node, then the others with blank directories; never start their old ones\n"
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_is_named_by_the_system() {
        let users = "root:x:0:0::/root:/bin/sh\nbroken\nada:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(users, 1000).as_deref(), Some("ada"));
        assert_eq!(name_of(users, 0).as_deref(), Some("root"));
        assert_eq!(name_of(users, 7), None);
        assert!(operator().contains("(uid "), "{}", operator());
    }
}
