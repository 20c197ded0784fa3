//! The node's configuration: defaults < file < environment < flags, one table of settings for all of them.
//! Not here: what the values do (`node`), logging's set-up (`telemetry`).
//!
//! A setting `section.key` is the key in the file's table `[section]`, the variable `WARREN_SECTION_KEY`, and the flag
//! `--section-key`. Everything wrong is told at once, each with the place where it was given.

mod advertise;
mod amqp;
mod auth;
mod cluster;
mod file;
mod level;
mod limits;
mod listen;
mod load;
mod log;
mod node;
mod raft;
mod report;
mod secret;
mod setting;
mod storage;
mod units;

pub use advertise::AdvertiseConfig;
pub use amqp::AmqpConfig;
pub use auth::AuthConfig;
pub use cluster::{ClusterConfig, Peer};
pub use level::{level, show_level};
pub use limits::LimitsConfig;
pub use listen::ListenConfig;
pub use load::{Inputs, Loaded};
pub use log::{LogConfig, LogFormat};
pub use node::{DefinitionsSource, NodeConfig};
pub use raft::RaftConfig;
pub use report::{ConfigError, Problem};
pub use secret::Secret;
pub use setting::{Kind, Setting};
pub use storage::StorageConfig;

/// Everything a node is told at its start.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub node: NodeConfig,
    pub cluster: ClusterConfig,
    pub listen: ListenConfig,
    pub advertise: AdvertiseConfig,
    pub log: LogConfig,
    pub raft: RaftConfig,
    pub storage: StorageConfig,
    pub limits: LimitsConfig,
    pub amqp: AmqpConfig,
    pub auth: AuthConfig,
}

/// The tables of the file, in the order they are shown.
const SECTIONS: [(&str, &[Setting]); 10] = [
    ("node", node::SETTINGS),
    ("cluster", cluster::SETTINGS),
    ("listen", listen::SETTINGS),
    ("advertise", advertise::SETTINGS),
    ("log", log::SETTINGS),
    ("raft", raft::SETTINGS),
    ("storage", storage::SETTINGS),
    ("limits", limits::SETTINGS),
    ("amqp", amqp::SETTINGS),
    ("auth", auth::SETTINGS),
];

impl Config {
    /// Reads all sources and checks the whole.
    ///
    /// # Errors
    /// Every problem found, in every source.
    pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
        load::load(inputs)
    }

    /// All settings there are.
    pub fn settings() -> impl Iterator<Item = &'static Setting> {
        SECTIONS.into_iter().flat_map(|(_, settings)| settings)
    }

    /// The configuration in force on one line, secrets as `***`.
    #[must_use]
    pub fn effective(&self) -> String {
        let shown =
            Self::settings().map(|setting| format!("{}={}", setting.name, (setting.show)(self)));
        shown.collect::<Vec<_>>().join(" ")
    }
}
