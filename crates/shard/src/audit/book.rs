//! What this node knows of its replicas by audits, for those who show it. Not here: how it came about (`replica`, `leader`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use warren_types::ShardId;

use crate::time::wall_clock_ms;

/// One shard's replica on this node, as audits found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditView {
    pub shard: ShardId,
    /// When all of its rows were last seen to be the same as on most replicas; milliseconds since the epoch, by this node's clock.
    pub clean_at_ms: Option<u64>,
    /// How long ago that was; since the replica was opened if it never was.
    pub since_clean: Duration,
    /// Replicas differ, and it is not known which are right.
    pub in_doubt: bool,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct AuditBook {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    shards: Mutex<BTreeMap<ShardId, Known>>,
    audits: AtomicU64,
}

struct Known {
    clean_at_ms: Option<u64>,
    since: Instant,
    in_doubt: bool,
}

impl AuditBook {
    pub(crate) fn open(&self, shard: ShardId) {
        let known = Known {
            clean_at_ms: None,
            since: Instant::now(),
            in_doubt: false,
        };
        self.inner.shards.lock().insert(shard, known);
    }

    pub(crate) fn close(&self, shard: ShardId) {
        self.inner.shards.lock().remove(&shard);
    }

    /// An audit was carried out here.
    pub(super) fn audited(&self) {
        self.inner.audits.fetch_add(1, Ordering::Relaxed);
    }

    /// All rows of a replica were compared, and are right.
    pub(super) fn clean(&self, shard: ShardId) {
        if let Some(known) = self.inner.shards.lock().get_mut(&shard) {
            known.clean_at_ms = Some(wall_clock_ms());
            known.since = Instant::now();
            known.in_doubt = false;
        }
    }

    /// True: it was not in doubt before.
    pub(super) fn doubt(&self, shard: ShardId) -> bool {
        let mut shards = self.inner.shards.lock();
        let known = shards.get_mut(&shard);
        known.is_some_and(|known| !std::mem::replace(&mut known.in_doubt, true))
    }

    pub(crate) fn audits(&self) -> u64 {
        self.inner.audits.load(Ordering::Relaxed)
    }

    pub(crate) fn views(&self) -> Vec<AuditView> {
        let shards = self.inner.shards.lock();
        let views = shards.iter().map(|(shard, known)| AuditView {
            shard: *shard,
            clean_at_ms: known.clean_at_ms,
            since_clean: known.since.elapsed(),
            in_doubt: known.in_doubt,
        });
        views.collect()
    }
}
