//! `warren cluster finalise`: from then on the new version's features may be used, and no node can go back. Not here: whether it can be
//! done (the cluster).

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Until a version is finalised, any node can be stopped and started with the software it had before. The cluster finalises it by itself
when all nodes have known it for cluster.finalise_after (24h) without interruption; this command does it at once. It is refused while
a node does not know the version (exit code 5). Again changes nothing.

Example: see what would be done
  warren cluster finalise --dry-run")]
pub(crate) struct FinaliseArgs {
    /// The version [default: the newest that all nodes know]
    version: Option<u32>,
    /// Say what it would do, change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct FinalisedView {
    finalised_version: u32,
    target_version: u32,
    dry_run: bool,
}

pub(crate) async fn run(global: &Global, args: FinaliseArgs) -> Result<()> {
    let FinaliseArgs { version, dry_run } = args;
    let connection = global.connect()?;
    let (finalised_version, target_version) = connection.finalize_upgrade(version, dry_run).await?;
    let view = FinalisedView {
        finalised_version,
        target_version,
        dry_run,
    };
    output::result(global.output, &view, text).map(drop)
}

fn text(it: &FinalisedView) -> String {
    let (now, target) = (it.finalised_version, it.target_version);
    if !it.dry_run || now == target {
        return format!("version {now} is finalised");
    }
    format!(
        "version {now} is finalised; version {target} would be: all nodes know it, and none could go back to software that does not"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dry_run_says_what_would_be_done() {
        let view = |finalised_version, target_version, dry_run| FinalisedView {
            finalised_version,
            target_version,
            dry_run,
        };
        assert_eq!(text(&view(2, 2, false)), "version 2 is finalised");
        assert_eq!(text(&view(1, 1, true)), "version 1 is finalised");
        assert!(text(&view(1, 2, true)).contains("version 2 would be"));
    }
}
