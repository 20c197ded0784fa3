//! Loads definitions at a node's start, as `node.load_definitions` asks (features F31). Not here: importing (`gateway`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use warren_gateway::{DefinitionsFile, Gateway, LoadError};

use crate::config::DefinitionsSource;

const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Until a server that gave no definitions is asked again.
const FETCH_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// From the first look-up of the name to the last byte.
const FETCH_WITHIN: Duration = Duration::from_secs(60);
/// As many as an import over gRPC takes.
const FETCHED_BYTES_MAX: u64 = 64 << 20;
/// The node that leads the topology may have nothing to load: then another does it.
const LEADER_FIRST: Duration = Duration::from_secs(5);

/// Why there are no definitions.
#[derive(Debug, Error)]
enum ReadError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Its text would repeat the URL, password and all.
    #[error("the URL cannot be read")]
    BadUrl,
    #[error("{0}")]
    Http(ureq::Error),
}

/// Returns when they are loaded, or cannot be, or the node stops.
pub(crate) async fn load(gateway: Gateway, source: DefinitionsSource, stop: CancellationToken) {
    let Some(files) = read_until_read(&source, &stop).await else {
        return;
    };
    let began = Instant::now();
    loop {
        let is_ours = gateway.leads_topology() || began.elapsed() > LEADER_FIRST;
        let is_formed = gateway.broker().topology().current().cluster().is_some();
        if is_formed && gateway.broker().topology().is_recent() {
            if gateway.has_loaded(&files) {
                return;
            }
            if is_ours {
                match gateway.load_definitions(&files).await {
                    Ok(()) => return,
                    Err(cause @ LoadError::NoDefinitions { .. }) => {
                        return error!(%cause, "definitions are not loaded");
                    }
                    Err(cause @ LoadError::NotNow(_)) => debug!(%cause, "not loaded yet"),
                }
            }
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}

/// A server may come up later than its clients: it is asked until it answers. `None`: there is nothing to load.
async fn read_until_read(
    source: &DefinitionsSource,
    stop: &CancellationToken,
) -> Option<Vec<DefinitionsFile>> {
    loop {
        let reading = source.clone();
        let read = tokio::task::spawn_blocking(move || read(&reading));
        let read = tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return None,
            read = read => read,
        };
        match (source, read) {
            (_, Ok(Ok(files))) => return Some(files),
            (DefinitionsSource::Https(_), Ok(Err(ReadError::Http(cause)))) => {
                warn!(%source, %cause, "definitions cannot be fetched yet");
            }
            (DefinitionsSource::Path(_) | DefinitionsSource::Https(_), Ok(Err(cause))) => {
                error!(%source, %cause, "definitions cannot be read");
                return None;
            }
            // The runtime ends.
            (_, Err(_)) => return None,
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(FETCH_AGAIN_AFTER) => {}
        }
    }
}

/// Blocks on the disk or the network.
fn read(source: &DefinitionsSource) -> Result<Vec<DefinitionsFile>, ReadError> {
    match source {
        DefinitionsSource::Path(path) => Ok(read_path(path)?),
        DefinitionsSource::Https(url) => Ok(vec![DefinitionsFile {
            name: source.to_string(),
            json: fetch(url)?,
        }]),
    }
}

fn read_path(path: &Path) -> std::io::Result<Vec<DefinitionsFile>> {
    let mut paths = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "json") {
                paths.push(path);
            }
        }
        paths.sort();
    } else {
        paths.push(path.to_owned());
    }
    let file = |path: std::path::PathBuf| {
        Ok(DefinitionsFile {
            name: path.display().to_string(),
            json: std::fs::read(&path)?,
        })
    };
    paths.into_iter().map(file).collect()
}

/// Trusts whom the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise); follows redirects, to https only.
fn fetch(url: &str) -> Result<Vec<u8>, ReadError> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let config = Agent::config_builder()
        .https_only(true)
        .timeout_global(Some(FETCH_WITHIN))
        .tls_config(tls)
        .build();
    let failed = |cause| {
        if matches!(cause, ureq::Error::BadUri(_) | ureq::Error::Http(_)) {
            ReadError::BadUrl
        } else {
            ReadError::Http(cause)
        }
    };
    let mut answer = config.new_agent().get(url).call().map_err(failed)?;
    let body = answer.body_mut().with_config().limit(FETCHED_BYTES_MAX);
    body.read_to_vec().map_err(failed)
}
