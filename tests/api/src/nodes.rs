//! The node most tests speak to. Not here: clusters of several (`warren-testkit`).

use warren_testkit::process::{Cluster, NodeNumber, Options};

pub const FIRST: NodeNumber = NodeNumber(1);

/// A cluster of one node, ready.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn one_node() -> Cluster {
    Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap()
}
