//! What runs under load share: their runtime, the seed of what they draw, and their end. Not here: the load itself (`lib`).

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::runtime::Runtime;
use warren_testkit::checker::check;
use warren_testkit::history::write_json_lines;

use crate::Load;
use crate::watch::opened_once_per_term;

/// How long consumers may take for what is left when publishing has ended.
const LAST_WITHIN: Duration = Duration::from_secs(90);
/// With fewer confirms a run has shown nothing.
const CONFIRMED_MIN: usize = 500;

/// Two threads, as the machine of the nodes has.
///
/// # Panics
/// If the system has no threads for it.
#[must_use]
#[expect(clippy::unwrap_used, reason = "a test without a runtime cannot go on")]
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// `WARREN_SEED`, else one that no earlier run had.
#[must_use]
pub fn seed() -> u64 {
    let given = std::env::var("WARREN_SEED").ok();
    let drawn = || u64::from(std::process::id()) ^ uptime_ms();
    given.and_then(|it| it.parse().ok()).unwrap_or_else(drawn)
}

/// In a namespace of processes every test is the second one.
fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let digits = text.split(' ').next().unwrap_or_default().replace('.', "");
    digits.parse().unwrap_or_default()
}

/// Ends the load and judges what its clients saw, and who led. A history that is not clean is kept in `directory`, beside the nodes' data.
///
/// # Errors
/// Something was lost, doubled, altered or out of order; two leaders of a shard opened it in one term; or hardly anything was confirmed.
#[expect(
    clippy::print_stdout,
    reason = "what a run has shown belongs to its output"
)]
pub async fn conclude(load: Load, directory: &Path) -> Result<()> {
    let gap = load.longest_gap_ms();
    let events = load.finish(LAST_WITHIN).await?;
    let report = check(&events);
    println!("{report}longest time a publisher went without a confirm: {gap} ms");
    if !report.is_clean() {
        let path = directory.join("history.jsonl");
        write_json_lines(&events, &mut File::create(&path)?)?;
        println!("history kept at {}", path.display());
    }
    ensure!(report.is_clean(), "{report}");
    ensure!(
        report.confirmed > CONFIRMED_MIN,
        "hardly anything was confirmed: {}",
        report.confirmed
    );
    let opened = opened_once_per_term(directory)?;
    println!("{opened} times a leader opened a shard, each in a term of its own");
    Ok(())
}
