//! `warren cluster watermarks`: where a node holds publishers back, seen and changed while it runs. Not here: what the levels do (the node).

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_server::config::{level, show_level};
use warren_types::{Level, Watermarks};

use super::drain::reach;
use crate::args::Global;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
A level is a size, a share, or both with a comma: the greater counts. Shares are of the container's memory limit, else of the
machine's memory, and of the file system with the data. The change counts within a second and until the node is started again;
what is to stay belongs into its configuration: limits.memory_watermark, limits.disk_free_min.

Examples:
  warren cluster watermarks 3
  warren cluster watermarks 3 --memory 70% --disk-free '4 GiB, 5%'")]
pub(crate) struct WatermarksArgs {
    /// Number of the node; none = the one that is asked
    node: Option<u64>,
    /// Hold publishers back above so much resident memory
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    memory: Option<Level>,
    /// Hold publishers back below so much free disk
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    disk_free: Option<Level>,
}

fn parse_level(text: &str) -> Result<Level, String> {
    level(text).map_err(|_| {
        "is no size such as 2GiB, no share such as 5%, nor both with a comma".to_owned()
    })
}

#[derive(Debug, Serialize)]
struct WatermarksView {
    memory: String,
    disk_free: String,
}

impl From<Watermarks> for WatermarksView {
    fn from(it: Watermarks) -> Self {
        Self {
            memory: show_level(it.memory),
            disk_free: show_level(it.disk_free),
        }
    }
}

pub(crate) async fn run(global: &Global, args: WatermarksArgs) -> Result<()> {
    let node = reach(global, args.node).await?;
    let now = node.set_watermarks(args.memory, args.disk_free).await?;
    output::result(global.output, &WatermarksView::from(now), text).map(drop)
}

fn text(it: &WatermarksView) -> String {
    format!(
        "publishers are held back above {} of memory and below {} of free disk",
        it.memory, it.disk_free
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_told_as_the_configuration_has_them() {
        let told = WatermarksView::from(Watermarks {
            memory: parse_level("70%").unwrap(),
            disk_free: parse_level("4 GiB, 5%").unwrap(),
        });
        assert_eq!(
            text(&told),
            "publishers are held back above 70% of memory and below 4GiB,5% of free disk"
        );
        assert!(parse_level("much").is_err());
    }
}
