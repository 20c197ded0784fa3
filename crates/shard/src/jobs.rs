//! Long jobs that nodes run for clients: asking another node for its jobs, or to steer one, and being asked. Not here: the jobs
//! (`gateway`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::timeout;
use tracing::debug;
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::forward_service_client::ForwardServiceClient;
use warren_raft::{Lane, Peers};
use warren_types::NodeId;

/// How long the other node has to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// Answers for this node; it must not block.
pub type JobsKeeper = Arc<dyn Fn(wire::JobsRequest) -> wire::JobsResponse + Send + Sync>;

/// Who is asked for jobs of this node. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct JobsDoor {
    keeper: Arc<RwLock<Option<JobsKeeper>>>,
}

impl JobsDoor {
    pub(crate) fn open(&self, keeper: JobsKeeper) {
        *self.keeper.write() = Some(keeper);
    }

    /// Answers another node; before this one has clients it has no jobs.
    pub(crate) fn answer(&self, request: wire::JobsRequest) -> wire::JobsResponse {
        let keeper = self.keeper.read().clone();
        keeper.map_or_else(wire::JobsResponse::default, |keeper| keeper(request))
    }
}

/// Asks a node. `None`: it does not answer.
pub(crate) async fn ask(
    peers: &Peers,
    node: NodeId,
    request: wire::JobsRequest,
) -> Option<wire::JobsResponse> {
    let channel = peers.channel(node, Lane::Forward)?;
    let mut client = ForwardServiceClient::new(channel);
    match timeout(WITHIN, client.jobs(request)).await {
        Ok(Ok(answer)) => Some(answer.into_inner()),
        Ok(Err(status)) => {
            debug!(node_id = %node, error = %status, "jobs not told");
            None
        }
        Err(_) => {
            debug!(node_id = %node, "jobs not told in time");
            None
        }
    }
}
