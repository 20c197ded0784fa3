//! `[raft]`: how groups replicate and elect. Not here: what it does (`warren-raft`).

use std::time::Duration;

use super::Config;
use super::report::Report;
use super::setting::{Kind, Setting, switch};
use super::units::{duration, show_duration, show_size, size};

#[derive(Clone, Debug)]
pub struct RaftConfig {
    pub heartbeat: Duration,
    pub election_timeout_min: Duration,
    /// The leader's lease, too.
    pub election_timeout_max: Duration,
    /// Elect anew as soon as the leader's process is seen to be gone.
    pub early_election: bool,
    /// Applied entries are made durable and leave the log after this time...
    pub compaction_interval: Duration,
    /// ...or after so many bytes of them.
    pub compaction_bytes: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_timeout_min: Duration::from_millis(600),
            election_timeout_max: Duration::from_millis(1_000),
            early_election: true,
            compaction_interval: Duration::from_secs(30),
            compaction_bytes: 256 << 20,
        }
    }
}

macro_rules! setting {
    ($key:ident, $name:literal, $kind:ident, $read:expr, $show:expr, $about:literal) => {
        Setting {
            name: $name,
            about: $about,
            kind: Kind::$kind,
            set: |config, text| {
                config.raft.$key = $read(text)?;
                Ok(())
            },
            show: |config| $show(config.raft.$key),
        }
    };
}

pub(super) const SETTINGS: &[Setting] = &[
    setting!(
        heartbeat,
        "raft.heartbeat",
        Duration,
        duration,
        show_duration,
        "how often an idle leader asserts itself [default: 200ms]"
    ),
    setting!(
        election_timeout_min,
        "raft.election_timeout_min",
        Duration,
        duration,
        show_duration,
        "silence after which a follower may call an election, at least [default: 600ms]"
    ),
    setting!(
        election_timeout_max,
        "raft.election_timeout_max",
        Duration,
        duration,
        show_duration,
        "the same, at most; a leader's lease, too [default: 1s]"
    ),
    setting!(
        early_election,
        "raft.early_election",
        Switch,
        switch,
        |on: bool| on.to_string(),
        "elect as soon as the leader's process is seen to be gone [default: true]"
    ),
    setting!(
        compaction_interval,
        "raft.compaction_interval",
        Duration,
        duration,
        show_duration,
        "applied entries leave the log after this time [default: 30s]"
    ),
    setting!(
        compaction_bytes,
        "raft.compaction_bytes",
        Size,
        size,
        show_size,
        "or after so many bytes of them [default: 256 MiB]"
    ),
];

/// Below it a node wakes up too often to be idle.
const HEARTBEAT_MIN: Duration = Duration::from_millis(20);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

pub(super) fn check(config: &Config, report: &mut Report) {
    let raft = &config.raft;
    if raft.heartbeat < HEARTBEAT_MIN {
        report.wrong(
            "raft.heartbeat",
            format!("is shorter than {}", show_duration(HEARTBEAT_MIN)),
        );
    }
    if raft.election_timeout_min < raft.heartbeat * 2 {
        report.wrong(
            "raft.election_timeout_min",
            "is shorter than two heartbeats (raft.heartbeat)",
        );
    }
    if raft.election_timeout_max <= raft.election_timeout_min {
        report.wrong(
            "raft.election_timeout_max",
            "is not longer than raft.election_timeout_min",
        );
    }
    if raft.election_timeout_max > TIMEOUT_MAX {
        report.wrong(
            "raft.election_timeout_max",
            format!("is longer than {}", show_duration(TIMEOUT_MAX)),
        );
    }
    if raft.compaction_interval < Duration::from_secs(1) {
        report.wrong("raft.compaction_interval", "is shorter than 1s");
    }
    if raft.compaction_bytes < 1 << 20 {
        report.wrong("raft.compaction_bytes", "is less than 1 MiB");
    }
}
