//! `[storage]`: how much memory log and state may use. Not here: what they do with it (`warren-storage`).
//!
//! The defaults are small: an idle node stays well under 120 MiB.

use std::time::Duration;

use warren_storage::LogEngineKind;

use super::Config;
use super::report::Report;
use super::setting::{Kind, Setting, switch, whole};
use super::units::{duration, show_duration, show_size, size};

#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Only for a new data directory: a directory keeps the engine it began with.
    pub log_engine: LogEngineKind,
    /// Size of one of the log's files.
    pub log_segment: u64,
    /// The log's files are written and read past the page cache, where their file system can.
    pub log_direct: bool,
    /// Beyond this old entries that are still needed are written again, so that the files they are in can go.
    pub log_size: u64,
    /// Log entries kept in memory for followers and for apply, of all groups together.
    pub log_tail_cache: u64,
    /// What may wait for the log's writer.
    pub log_queue: u64,
    /// The log's files that are written no more are read and checked this often; zero: never.
    pub log_scrub_every: Duration,
    /// At most so much of them per second.
    pub log_scrub_rate: u64,
    /// The files of the log engine `rocks` are switched beyond this.
    pub log_wal_max: u64,
    /// Cache of the applied state; the write buffers count in it.
    pub block_cache: u64,
    pub write_buffers: u64,
    /// What is flushed is written past the page cache, where its file system can.
    pub state_direct: bool,
    pub background_jobs: u32,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            log_engine: LogEngineKind::default(),
            log_segment: 64 << 20,
            log_direct: true,
            log_size: 1 << 30,
            log_tail_cache: 16 << 20,
            log_queue: 64 << 20,
            log_scrub_every: Duration::from_secs(24 * 3_600),
            log_scrub_rate: 8 << 20,
            log_wal_max: 128 << 20,
            block_cache: 64 << 20,
            write_buffers: 32 << 20,
            state_direct: true,
            background_jobs: 2,
        }
    }
}

macro_rules! setting {
    ($key:ident, $name:literal, $about:literal) => {
        Setting {
            name: $name,
            about: $about,
            kind: Kind::Size,
            set: |config, text| {
                config.storage.$key = size(text)?;
                Ok(())
            },
            show: |config| show_size(config.storage.$key),
        }
    };
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "storage.log_engine",
        about: "what keeps the log of a new data directory: segments or rocks [default: segments]",
        kind: Kind::Choice(&["segments", "rocks"]),
        set: |config, text| {
            config.storage.log_engine = LogEngineKind::named(text).ok_or(None)?;
            Ok(())
        },
        show: |config| config.storage.log_engine.name().to_owned(),
    },
    setting!(
        log_segment,
        "storage.log_segment",
        "size of one of the log's files [default: 64 MiB]"
    ),
    Setting {
        name: "storage.log_direct",
        about: "write the log past the page cache (O_DIRECT) where its file system can [default: true]",
        kind: Kind::Switch,
        set: |config, text| {
            config.storage.log_direct = switch(text)?;
            Ok(())
        },
        show: |config| config.storage.log_direct.to_string(),
    },
    setting!(
        log_size,
        "storage.log_size",
        "the log is tidied beyond this [default: 1 GiB]"
    ),
    setting!(
        log_tail_cache,
        "storage.log_tail_cache",
        "log entries kept in memory [default: 16 MiB]"
    ),
    setting!(
        log_queue,
        "storage.log_queue",
        "what may wait for the log's writer [default: 64 MiB]"
    ),
    Setting {
        name: "storage.log_scrub_every",
        about: "the log's files that are written no more are read and checked this often; 0s: never [default: 24h]",
        kind: Kind::Duration,
        set: |config, text| {
            config.storage.log_scrub_every = duration(text)?;
            Ok(())
        },
        show: |config| show_duration(config.storage.log_scrub_every),
    },
    setting!(
        log_scrub_rate,
        "storage.log_scrub_rate",
        "that reads at most so much per second [default: 8 MiB]"
    ),
    setting!(
        log_wal_max,
        "storage.log_wal_max",
        "files of the log engine rocks are switched beyond this [default: 128 MiB]"
    ),
    setting!(
        block_cache,
        "storage.block_cache",
        "cache of the applied state, write buffers counted in [default: 64 MiB]"
    ),
    setting!(
        write_buffers,
        "storage.write_buffers",
        "state that waits in memory to be written [default: 32 MiB]"
    ),
    Setting {
        name: "storage.state_direct",
        about: "write state past the page cache (O_DIRECT) where its file system can [default: true]",
        kind: Kind::Switch,
        set: |config, text| {
            config.storage.state_direct = switch(text)?;
            Ok(())
        },
        show: |config| config.storage.state_direct.to_string(),
    },
    Setting {
        name: "storage.background_jobs",
        about: "threads that flush and compact [default: 2]",
        kind: Kind::Whole,
        set: |config, text| {
            config.storage.background_jobs = whole(text)?;
            Ok(())
        },
        show: |config| config.storage.background_jobs.to_string(),
    },
];

const SIZE_MIN: u64 = 1 << 20;
const SIZE_MAX: u64 = 1 << 40;
/// A file is held while it is read: not for hours.
const SCRUB_RATE_MIN: u64 = 64 << 10;

pub(super) fn check(config: &Config, report: &mut Report) {
    let storage = &config.storage;
    let sizes = [
        ("storage.log_segment", storage.log_segment),
        ("storage.log_size", storage.log_size),
        ("storage.log_tail_cache", storage.log_tail_cache),
        ("storage.log_queue", storage.log_queue),
        ("storage.log_wal_max", storage.log_wal_max),
        ("storage.block_cache", storage.block_cache),
        ("storage.write_buffers", storage.write_buffers),
    ];
    for (name, bytes) in sizes {
        if !(SIZE_MIN..=SIZE_MAX).contains(&bytes) {
            let (min, max) = (show_size(SIZE_MIN), show_size(SIZE_MAX));
            report.wrong(
                name,
                format!("is {}; allowed are {min} to {max}", show_size(bytes)),
            );
        }
    }
    if storage.log_scrub_rate < SCRUB_RATE_MIN {
        let min = show_size(SCRUB_RATE_MIN);
        report.wrong("storage.log_scrub_rate", format!("is less than {min}"));
    }
    if storage.block_cache < storage.write_buffers {
        report.wrong(
            "storage.block_cache",
            "is smaller than storage.write_buffers, which are counted in it",
        );
    }
    if !(1..=64).contains(&storage.background_jobs) {
        let found = storage.background_jobs;
        report.wrong(
            "storage.background_jobs",
            format!("is {found}; allowed are 1 to 64"),
        );
    }
}
