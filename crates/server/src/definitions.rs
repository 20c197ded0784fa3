//! Loads definitions at a node's start, as `node.load_definitions` asks (features F31). Not here: importing (`gateway`).

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use warren_gateway::{DefinitionsFile, Gateway, LoadError};

const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The node that leads the topology may have nothing to load: then another does it.
const LEADER_FIRST: Duration = Duration::from_secs(5);

/// Returns when they are loaded, or cannot be, or the node stops.
pub(crate) async fn load(gateway: Gateway, path: PathBuf, stop: CancellationToken) {
    let reading = path.clone();
    let read = tokio::task::spawn_blocking(move || read(&reading)).await;
    let files = match read {
        Ok(Ok(files)) => files,
        Ok(Err(cause)) => {
            return error!(path = %path.display(), %cause, "definitions cannot be read");
        }
        // The runtime ends.
        Err(_) => return,
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

/// Blocks on the disk.
fn read(path: &Path) -> io::Result<Vec<DefinitionsFile>> {
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
    let file = |path: PathBuf| {
        Ok(DefinitionsFile {
            name: path.display().to_string(),
            json: std::fs::read(&path)?,
        })
    };
    paths.into_iter().map(file).collect()
}
