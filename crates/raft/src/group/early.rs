//! A leader whose process is gone is replaced at once, not after its lease.
//!
//! A follower that sees the leader's node gone (its port refuses, and every connection it had made is closed) starts the
//! election that a leadership transfer starts: voters then do not wait for the leader's lease. That is safe for the log, for
//! which Raft does not rely on leases at all; and it is safe for what leaders do under their lease, because a process that
//! is gone does nothing. A voter believes a candidate only if it sees the leader's node gone itself (`net::service`). A frozen
//! process keeps its sockets and is waited for. Not here: how a node is seen to be gone (`net::peers`).

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::TransferLeaderRequest;
use tokio::sync::watch;
use tracing::info;
use warren_types::{Leader, NodeId};

use super::shared::Shared;
use super::supervisor::Replica;
use crate::net::Peers;

/// Candidates of one group try one after the other.
const STAGGER: Duration = Duration::from_millis(50);
/// After a try without a new leader.
const TRY_AGAIN: Duration = Duration::from_millis(150);
const TRIES_MAX: u32 = 4;

/// Runs as long as the node: looks at all replicas whenever a node is seen to go.
pub(crate) async fn watch_for_gone_leaders(
    peers: Peers,
    mut changes: watch::Receiver<u64>,
    replicas: impl Fn() -> Vec<Arc<Replica>>,
) {
    loop {
        for replica in replicas() {
            let leader = replica.shared.leadership.borrow().leader;
            let Some(leader) = leader.filter(|it| peers.heard(it.node).refused) else {
                continue;
            };
            let attempt = replace(replica.shared.clone(), peers.clone(), leader);
            replica.tasks.spawn("early-election", attempt);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn replace(shared: Arc<Shared>, peers: Peers, gone: Leader) {
    let Some(rank) = rank(&shared, &peers, gone) else {
        return;
    };
    tokio::time::sleep(STAGGER * rank).await;
    let mut tried = false;
    for _ in 0..TRIES_MAX {
        let leader = shared.leadership.borrow().leader;
        if leader.is_some_and(|it| it != gone) || !peers.heard(gone.node).refused {
            return;
        }
        let Some(raft) = shared.raft() else { return };
        let vote = shared.metrics(|metrics| metrics.vote);
        let Some(vote) = vote else { return };
        let asked = if vote.committed && vote.leader_id.node_id == gone.replica.0 {
            let term = vote.leader_id.term;
            info!(group = %shared.group, term, gone = %gone.node, "leader is gone, electing early");
            shared.set_early_from(term);
            let request = TransferLeaderRequest::new(vote, shared.replica.0, None);
            raft.handle_transfer_leader(request).await.map(|_| ())
        } else if tried {
            // An election has come to nothing. A pre-vote does not disturb a leader that was elected a moment ago.
            raft.trigger().elect(true).await
        } else {
            // Another replica was faster: wait for what comes of it.
            Ok(())
        };
        tried = true;
        if asked.is_err() {
            return;
        }
        tokio::time::sleep(TRY_AGAIN + STAGGER * rank).await;
    }
}

/// This replica's turn among the voters that are left; different from group to group, so that leaders spread.
fn rank(shared: &Shared, peers: &Peers, gone: Leader) -> Option<u32> {
    let left: Vec<u64> = shared.metrics(|metrics| {
        let membership = metrics.membership_config.membership();
        let is_left = |replica: &u64| {
            let node = membership
                .get_node(replica)
                .map_or(NodeId(0), |home| NodeId(home.node));
            *replica != gone.replica.0 && (node == peers.node() || !peers.heard(node).refused)
        };
        membership.voter_ids().filter(is_left).collect()
    })?;
    let ours = left.iter().position(|it| *it == shared.replica.0)?;
    let turn = (ours + shared.group.0 as usize) % left.len();
    u32::try_from(turn).ok()
}
