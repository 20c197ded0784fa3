//! A node as a process: log, signals, exit. Not here: the command line (`warren-cli`), the node itself (`node`).

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use warren_codec::KNOWN_VERSIONS;

use crate::config::Loaded;
use crate::failure::{Failure, StartError};
use crate::identity::SOFTWARE;
use crate::node::Node;
use crate::telemetry;

/// Why the process ends with another code than zero.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("the log cannot be set up: {0}")]
    Log(String),
    #[error("signals cannot be taken: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    /// The process must exit at once: nothing is flushed or handed over.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl RunError {
    /// Whether the node can only start with another data directory, or other software.
    #[must_use]
    pub fn cannot_start_so(&self) -> bool {
        match self {
            Self::Start(StartError::Formation(error)) => error.cannot_start_so(),
            Self::Failed(Failure::Formation(error)) => error.cannot_start_so(),
            Self::Log(_) | Self::Signals(_) | Self::Start(_) | Self::Failed(_) => false,
        }
    }
}

/// Runs a node until SIGTERM or SIGINT ends it in good order; a second signal ends it at once.
///
/// # Errors
/// The caller prints it and exits, not with zero.
pub async fn run(loaded: Loaded) -> Result<(), RunError> {
    let Loaded { config, warnings } = loaded;
    telemetry::init(&config.log).map_err(|error| RunError::Log(error.to_string()))?;
    info!(version = SOFTWARE, knows = %KNOWN_VERSIONS, config = %config.effective(), "effective configuration");
    for warning in warnings {
        warn!("{warning}");
    }
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };

    let mut starting = Box::pin(Node::start(config, stop.clone()));
    let started = tokio::select! {
        biased; // a start that has just succeeded is ended in good order below
        started = &mut starting => started,
        name = signalled() => {
            info!(signal = name, "stopping before the node has started");
            stop.cancel();
            starting.await
        }
    };
    let node = match started {
        Ok(node) => node,
        Err(error) if error.is_stopped() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !stop.is_cancelled() {
        let name = tokio::select! {
            biased; // a failure is more urgent
            failure = node.failed() => return Err(end_at_once(node, failure)),
            name = signalled() => name,
            never = tell_ready(&node) => match never {},
        };
        info!(signal = name, "stopping");
    }
    tokio::select! {
        biased; // the end in good order, if it is reached
        () = node.shutdown() => Ok(()),
        name = signalled() => {
            warn!(signal = name, "ended at once");
            std::process::exit(1);
        }
    }
}

/// Says once that the node serves.
async fn tell_ready(node: &Node) -> std::convert::Infallible {
    node.ready().await;
    let addresses = node.addresses();
    info!(grpc = %addresses.grpc, amqp = %addresses.amqp, node = %addresses.node, cluster = %node.cluster(), "ready");
    std::future::pending().await
}

/// Nothing may be flushed or answered after an engine has failed, so the node is not dropped either.
fn end_at_once(node: Node, failure: Failure) -> RunError {
    error!(%failure, "the node cannot go on");
    std::mem::forget(node);
    failure.into()
}
