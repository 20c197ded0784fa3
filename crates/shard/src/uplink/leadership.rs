//! Waiting for what the local replica knows of its group's leader. Not here: what follows from it (`task`).

use tokio::sync::watch;
use warren_raft::Group;
use warren_types::{Leadership, NodeId};

/// Waits until another node is known to lead; for ever without a replica here that would hear of it.
pub(super) async fn leads_elsewhere(group: Option<&Group>, node: NodeId) {
    let Some(group) = group else {
        return std::future::pending().await;
    };
    let elsewhere = |known: &Leadership| known.leader.is_some_and(|leader| leader.node != node);
    if group.leadership().wait_for(elsewhere).await.is_err() {
        std::future::pending().await
    }
}

/// Waits for news of who leads; for ever without a replica here.
pub(super) async fn moved(leadership: &mut Option<watch::Receiver<Leadership>>) {
    match leadership {
        Some(known) => {
            if known.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
