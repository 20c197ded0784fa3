//! `[node]`: which node this is and where its data lies. Not here: the other nodes (`cluster`).

use std::path::PathBuf;

use warren_types::NodeId;

use super::Config;
use super::report::Report;
use super::setting::{Kind, Setting, whole};

#[derive(Clone, Debug, Default)]
pub struct NodeConfig {
    /// Unique in the cluster, from 1.
    pub id: NodeId,
    /// Everything the node keeps.
    pub data_dir: PathBuf,
    /// Failure domain; empty = none.
    pub zone: String,
    /// Threads that serve clients and replicate; 0 = one per processor.
    pub threads: u32,
}

const ZONE_BYTES_MAX: usize = 255;
const THREADS_MAX: u32 = 1_024;

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "node.id",
        about: "number of this node, unique in the cluster, from 1",
        kind: Kind::Whole,
        set: |config, text| {
            config.node.id = NodeId(whole(text)?);
            Ok(())
        },
        show: |config| config.node.id.to_string(),
    },
    Setting {
        name: "node.data_dir",
        about: "directory of everything the node keeps; made if it is missing",
        kind: Kind::Path,
        set: |config, text| {
            config.node.data_dir = PathBuf::from(text);
            Ok(())
        },
        show: |config| format!("{:?}", config.node.data_dir),
    },
    Setting {
        name: "node.zone",
        about: "failure domain, for placement [default: none]",
        kind: Kind::Text,
        set: |config, text| {
            config.node.zone = text.to_owned();
            Ok(())
        },
        show: |config| format!("{:?}", config.node.zone),
    },
    Setting {
        name: "node.threads",
        about: "threads that serve clients and replicate; fewer where several nodes share a machine [default: 0, one per processor]",
        kind: Kind::Whole,
        set: |config, text| {
            config.node.threads = whole(text)?;
            Ok(())
        },
        show: |config| config.node.threads.to_string(),
    },
];

pub(super) fn check(config: &Config, report: &mut Report) {
    if config.node.id == NodeId(0) {
        let why = if report.is_given("node.id") {
            "is a number from 1 on"
        } else {
            "is missing: each node needs its own number, from 1"
        };
        report.wrong("node.id", why);
    }
    if config.node.data_dir.as_os_str().is_empty() {
        report.wrong(
            "node.data_dir",
            "is missing: name the directory that holds the node's data",
        );
    }
    if config.node.threads > THREADS_MAX {
        report.wrong("node.threads", format!("is at most {THREADS_MAX}"));
    }
    if config.node.zone.len() > ZONE_BYTES_MAX {
        report.wrong("node.zone", format!("has more than {ZONE_BYTES_MAX} bytes"));
    }
}
