//! `warren perf`.
use crate::args::Global;
use anyhow::Result;
use clap::Args;
#[derive(Debug, Args)]
pub(crate) struct PerfArgs {}
impl PerfArgs {
    pub(crate) fn threads(&self) -> usize {
        1
    }
}
pub(crate) async fn run(_: &Global, _: PerfArgs) -> Result<()> {
    Ok(())
}
