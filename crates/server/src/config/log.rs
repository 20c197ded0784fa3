//! `[log]`: what is logged and in which form. Not here: setting the log up (`telemetry`).

use tracing_subscriber::EnvFilter;

use super::Config;
use super::report::Report;
use super::setting::{Kind, Setting};

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// As `tracing_subscriber::EnvFilter` reads it.
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

const FORMATS: &[&str] = &["text", "json"];

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "log.filter",
        about: "levels, such as info or info,warren_raft=debug; openraft is at error unless named [default: info]",
        kind: Kind::Text,
        set: |config, text| {
            config.log.filter = text.to_owned();
            Ok(())
        },
        show: |config| format!("{:?}", config.log.filter),
    },
    Setting {
        name: "log.format",
        about: "text or json, to standard error [default: text]",
        kind: Kind::Choice(FORMATS),
        set: |config, text| {
            config.log.format = match text {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(None),
            };
            Ok(())
        },
        show: |config| {
            let name = match config.log.format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            };
            name.to_owned()
        },
    },
];

pub(super) fn check(config: &Config, report: &mut Report) {
    if let Err(error) = EnvFilter::try_new(&config.log.filter) {
        report.wrong(
            "log.filter",
            format!("{:?} is no filter: {error}", config.log.filter),
        );
    }
}
