//! The listeners for health and metrics: there before anything else of the node, and after everything else of it, so that a probe is
//! answered while the disk is read and while clients leave. Not here: what the pages say (`warren-management`).

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warren_management::{NodeFacts, Overview, Site, serve};
use warren_types::NodeId;

use crate::identity::SOFTWARE;
use crate::listeners::{Bound, ListenError};

pub(crate) struct Pages {
    overview: Overview,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Pages {
    pub(crate) fn serve(
        http: Option<Bound>,
        metrics: Option<Bound>,
        node: NodeId,
    ) -> Result<Self, ListenError> {
        let pages = Self {
            overview: Overview::new(NodeFacts {
                node,
                version: SOFTWARE,
            }),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let http = http.map(Bound::listen).transpose()?;
        let metrics = metrics.map(Bound::listen).transpose()?;
        let sites = [(http, Site::Probes), (metrics, Site::Metrics)];
        for (listener, site) in sites {
            if let Some(listener) = listener {
                let (overview, stop) = (pages.overview.clone(), pages.stop.clone());
                pages.tasks.spawn(serve(listener, site, overview, stop));
            }
        }
        Ok(pages)
    }

    pub(crate) fn overview(&self) -> Overview {
        self.overview.clone()
    }

    /// Ends the listeners.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Pages {
    /// A start that fails leaves no listener behind.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
