//! `[limits]`: what clients may ask for. Not here: holding them to it (`gateway`).

use super::Config;
use super::report::Report;
use super::setting::{Kind, Setting};
use super::units::{show_size, size};

#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Body and properties of one message.
    pub max_message_size: u64,
    /// Publishes that clients of this node have not had confirmed yet.
    pub admission_bytes: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_message_size: 16 << 20,
            admission_bytes: 128 << 20,
        }
    }
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "limits.max_message_size",
        about: "the largest message that is taken [default: 16 MiB]",
        kind: Kind::Size,
        set: |config, text| {
            config.limits.max_message_size = size(text)?;
            Ok(())
        },
        show: |config| show_size(config.limits.max_message_size),
    },
    Setting {
        name: "limits.admission_bytes",
        about: "unconfirmed publishes of all clients of this node; beyond it they wait [default: 128 MiB]",
        kind: Kind::Size,
        set: |config, text| {
            config.limits.admission_bytes = size(text)?;
            Ok(())
        },
        show: |config| show_size(config.limits.admission_bytes),
    },
];

/// One message must fit into one frame between nodes.
const MESSAGE_MAX: u64 = 32 << 20;
const MESSAGE_MIN: u64 = 1 << 10;

pub(super) fn check(config: &Config, report: &mut Report) {
    let limits = &config.limits;
    if !(MESSAGE_MIN..=MESSAGE_MAX).contains(&limits.max_message_size) {
        let (min, max) = (show_size(MESSAGE_MIN), show_size(MESSAGE_MAX));
        let found = show_size(limits.max_message_size);
        report.wrong(
            "limits.max_message_size",
            format!("is {found}; allowed are {min} to {max}"),
        );
    }
    if limits.admission_bytes < limits.max_message_size {
        report.wrong(
            "limits.admission_bytes",
            "is less than limits.max_message_size: such a message would never be taken",
        );
    }
}
