//! What tests of nodes that come and go share: their load and its end.

use std::time::Duration;

use anyhow::Result;
use warren_cluster::run::conclude;
use warren_cluster::{Load, Shape};
use warren_testkit::process::Cluster;

pub(crate) const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 2,
    consumers: 2,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};

/// What the clients saw is checked, and who led.
pub(crate) async fn end(cluster: &Cluster, load: Load) -> Result<()> {
    conclude(load, cluster.directory()).await
}
