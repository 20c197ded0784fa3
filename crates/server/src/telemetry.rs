//! The log: to standard error, as text or JSON. Not here: metrics (`management`), what is logged.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};

/// Sets the process's log up; once.
///
/// # Errors
/// There is one already.
pub(crate) fn init(config: &LogConfig) -> Result<(), TryInitError> {
    // `Config::load` has refused a filter that cannot be read.
    let filter =
        EnvFilter::try_new(levels(&config.filter)).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Text => {
            let colours = io::stderr().is_terminal();
            registry
                .with(fmt::layer().with_writer(io::stderr).with_ansi(colours))
                .try_init()
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().with_writer(io::stderr))
            .try_init(),
    }
}

/// openraft tells every step of every group; what of it matters to an operator our own crates tell.
fn levels(filter: &str) -> String {
    if filter.contains("openraft") {
        filter.to_owned()
    } else {
        format!("{filter},openraft=error")
    }
}
