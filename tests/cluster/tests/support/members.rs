//! What tests of nodes that come and go share: their load and its end.

use std::time::Duration;

use anyhow::{Result, ensure};
use warren_cluster::watch::Terms;
use warren_cluster::{Load, Shape};
use warren_testkit::checker::check;

pub(crate) const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 2,
    consumers: 2,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// What the clients saw is checked, and who led.
pub(crate) async fn end(load: Load, terms: Terms) -> Result<()> {
    let gap = load.longest_gap_ms();
    let report = check(&load.finish(Duration::from_secs(90)).await?);
    println!("{report}longest time a publisher went without a confirm: {gap} ms");
    ensure!(report.is_clean(), "{report}");
    ensure!(report.confirmed > 500, "hardly anything was confirmed");
    terms.end().await
}
