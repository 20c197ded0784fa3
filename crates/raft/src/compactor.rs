//! Makes applied state durable and then shortens the logs behind it: flush, virtual snapshot, purge. Not here: removing
//! segments or rows (`storage`).
//!
//! I3: only what was applied before a flush that has ended may be purged. All risky work is done here, outside openraft: an
//! error in its own snapshot calls would end the group's core.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::convert::{self, ReplicaMeta};
use crate::group::Replica;
use crate::node::Inner;
use crate::options::CompactionOptions;

/// How often the bytes applied since the last flush are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs as long as the node.
pub(crate) async fn run(node: Weak<Inner>) {
    let mut flushed_at = Instant::now();
    let mut flushed_bytes = 0;
    loop {
        let Some(options) = node.upgrade().map(|it| it.parts.options.compaction.clone()) else {
            return;
        };
        tokio::time::sleep(LOOK_EVERY.min(options.every)).await;
        let Some(node) = node.upgrade() else { return };
        let applied = node.parts.appliers.bytes_applied();
        let due = flushed_at.elapsed() >= options.every
            || applied.saturating_sub(flushed_bytes) >= options.applied_bytes;
        if !due {
            continue;
        }
        flushed_at = Instant::now();
        flushed_bytes = applied;
        if let Err(cause) = compact(&node).await {
            // The store is poisoned then; the process ends by itself.
            warn!(cause, "flush failed");
        }
    }
}

/// Flushes once for all groups if anything was applied, then shortens each log that can be.
pub(crate) async fn compact(node: &Inner) -> Result<(), String> {
    let replicas = node.replicas();
    node.parts.appliers.write_out().await;
    if replicas.iter().any(needs_flush) {
        let state = node.parts.state.clone();
        let flushed = tokio::task::spawn_blocking(move || state.flush()).await;
        flushed
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
    }
    // Also without a flush: what a follower held back may be free now.
    for replica in replicas {
        shorten(&replica, &node.parts.options.compaction).await;
    }
    Ok(())
}

/// Whether more is applied than is on disk: a node at rest does not touch its disk.
fn needs_flush(replica: &Arc<Replica>) -> bool {
    replica.state.durable_meta() != replica.state.meta()
}

async fn shorten(replica: &Replica, options: &CompactionOptions) {
    let shared = &replica.shared;
    let Some(raft) = shared.raft() else { return };
    let durable = replica
        .state
        .durable_meta()
        .and_then(|bytes| ReplicaMeta::decode(&bytes).ok());
    let Some(durable) = durable.and_then(|meta| meta.applied) else {
        return;
    };
    let Some(upto) = purge_upto(replica, durable.index, options) else {
        return;
    };
    if raft.trigger().snapshot().await.is_err() {
        return;
    }
    // openraft purges what its own record of the snapshot covers, and that arrives in its own time.
    let mut metrics = raft.metrics();
    let covered = async {
        loop {
            let snapshot = metrics.borrow_watched().snapshot.map(|id| id.index);
            if snapshot >= Some(upto) {
                return true;
            }
            if metrics.changed().await.is_err() {
                return false;
            }
        }
    };
    if !tokio::time::timeout(Duration::from_secs(5), covered)
        .await
        .unwrap_or(false)
    {
        return;
    }
    debug!(group = %shared.group, upto, "log is purged");
    // The core has ended if this fails; the supervisor sees it.
    let _ = raft.trigger().purge_log(upto).await;
}

/// The last index to purge, if there is anything worth purging.
fn purge_upto(replica: &Replica, durable: u64, options: &CompactionOptions) -> Option<u64> {
    // Entries are of any size: so many of the largest would fill a disk.
    let before = |bytes| {
        let kept = convert::index_to_raft(replica.log.newest_within(bytes));
        kept.checked_sub(1).map(|last| last.min(durable))
    };
    let upto = durable.checked_sub(options.keep_entries);
    let mut upto = upto.max(before(options.keep_bytes))?;
    let status = replica.shared.raft()?.metrics();
    let metrics = status.borrow_watched();
    let purged = metrics.purged.map(|id| id.index);
    let seen_since = Instant::now().checked_sub(options.follower_seen_within);
    for (follower, matched) in metrics.replication.iter().flatten() {
        let acked = metrics
            .heartbeat
            .as_ref()
            .and_then(|all| all.get(follower))
            .copied()
            .flatten();
        let seen = seen_since
            .is_none_or(|since| acked.is_some_and(|at| convert::instant(at.into_inner()) >= since));
        if seen && *follower != replica.shared.replica.0 {
            upto = upto.min(matched.map_or(0, |id| id.index));
        }
    }
    // A follower that needs too much will be sent a snapshot instead.
    upto = upto.max(durable.saturating_sub(options.keep_entries_max));
    upto = upto.max(before(options.keep_bytes_max).unwrap_or(0));
    (purged < Some(upto)).then_some(upto)
}
