//! What this node knows of its replicas by audits, for those who show it. Not here: how it came about (`replica`, `leader`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use warren_types::{Member, ReplicaId, ShardId};

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
    /// The voters at that time.
    in_doubt: Option<BTreeSet<ReplicaId>>,
}

impl AuditBook {
    pub(crate) fn open(&self, shard: ShardId) {
        let known = Known {
            clean_at_ms: None,
            since: Instant::now(),
            in_doubt: None,
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
            known.in_doubt = None;
        }
    }

    /// True: it was not in doubt before.
    pub(super) fn doubt(&self, shard: ShardId, voters: &[Member]) -> bool {
        let mut shards = self.inner.shards.lock();
        let Some(known) = shards.get_mut(&shard) else {
            return false;
        };
        let voters = voters.iter().map(|it| it.replica).collect();
        known.in_doubt.replace(voters).is_none()
    }

    /// Who votes now. A doubt ends when one of those that voted then is gone: it may have been the wrong one. If others differ, too, the next
    /// comparison says so.
    pub(crate) fn voters(&self, shard: ShardId, voters: &[Member]) {
        let votes = |it: &ReplicaId| voters.iter().any(|member| member.replica == *it);
        if let Some(known) = self.inner.shards.lock().get_mut(&shard) {
            known.in_doubt.take_if(|then| !then.iter().all(votes));
        }
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
            in_doubt: known.in_doubt.is_some(),
        });
        views.collect()
    }
}

#[cfg(test)]
mod tests {
    use warren_types::NodeId;

    use super::*;

    fn voters(replicas: &[u64]) -> Vec<Member> {
        let members = replicas.iter().map(|it| Member {
            replica: ReplicaId(*it),
            node: NodeId(*it),
        });
        members.collect()
    }

    #[test]
    fn doubt_ends_when_all_agree_or_one_it_was_about_votes_no_more() {
        let (book, shard) = (AuditBook::default(), ShardId(1));
        let in_doubt = || book.views()[0].in_doubt;
        book.open(shard);
        assert!(!in_doubt());
        assert!(book.doubt(shard, &voters(&[1, 2, 3])));
        assert!(!book.doubt(shard, &voters(&[1, 2, 3])), "it was before");
        book.voters(shard, &voters(&[1, 2, 3, 4]));
        assert!(in_doubt(), "one more changes nothing");
        book.voters(shard, &voters(&[1, 3]));
        assert!(!in_doubt());
        book.doubt(shard, &voters(&[1, 3]));
        book.clean(shard);
        assert!(!in_doubt());
    }
}
