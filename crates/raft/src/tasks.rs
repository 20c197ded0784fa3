//! Tasks with an owner: each has a name, ends with the node, and is waited for. Not here: what they do.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span, warn};

/// The tasks of one node, or of one replica.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Tasks that are stopped with these, or alone.
    pub(crate) fn child(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: self.stop.child_token(),
        }
    }

    /// Starts a task. It is dropped at its next await once the tasks are stopped.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let until_stopped = async move {
            tokio::select! {
                biased; // once stopped, nothing more is begun
                () = stop.cancelled() => {}
                () = work => {}
            }
        };
        self.tracker
            .spawn(until_stopped.instrument(debug_span!("task", name)));
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Stops the tasks and waits for them.
    pub(crate) async fn stop(&self, within: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait())
            .await
            .is_err()
        {
            warn!(left = self.tracker.len(), "tasks did not end in time");
        }
    }
}
