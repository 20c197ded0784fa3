//! Taking scheduled messages back (features A30): asked of their shard's leader, answered after commit. Not here: handles, and who may
//! (`warren-gateway`).

use tokio::sync::oneshot;
use warren_types::Position;

use crate::Broker;
use crate::api::{CancelResult, Target, Unavailable};
use crate::uplink::door::{Ask, Request};

impl Broker {
    /// Takes messages of a queue back that are scheduled: one result per position, in order. It may be asked again: what was taken back
    /// is remembered, and the answer is the same.
    ///
    /// # Errors
    /// The leader could not be asked, or did not answer: whether they are taken back is not known.
    pub async fn cancel_scheduled(
        &self,
        target: Target,
        positions: Vec<Position>,
    ) -> Result<Vec<CancelResult>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Ask(Ask::CancelScheduled {
            queue: target.queue,
            positions,
            reply,
        });
        self.ask(target.shard, request).await?;
        answer.await.map_err(|_| Unavailable::NoQuorum)
    }
}
