//! How many bytes of message bodies a vhost may store (features E2): summed over the queues of all leaders about once a second, and
//! nothing is published into a vhost that has them. Not here: who waits how (`grpc`, `amqp`), what the nodes tell each other (`usage`).
//!
//! The sums are a second old at most, so what comes in within it exceeds the quota. Dead letters and redriven messages go on: they are
//! stored already.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};
use warren_shard::api::Target;
use warren_topology::Topology;
use warren_types::VhostId;

use crate::gateway::Gateway;
use crate::operations::target_of;

/// A leader that does not answer by then keeps its last sum.
const WITHIN: Duration = Duration::from_secs(1);
const ASKED_AT_ONCE: usize = 32;
/// A publish that waits looks so often whether there is room again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What is stored, and which vhosts are over their quota.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    here: Mutex<HashMap<VhostId, u64>>,
    /// Kept beside `over`: where no vhost is over its quota a publish looks at this alone.
    any: AtomicBool,
    over: Mutex<BTreeSet<VhostId>>,
}

impl Quotas {
    /// As measured last.
    pub(crate) fn here(&self, vhost: VhostId) -> u64 {
        self.here.lock().get(&vhost).copied().unwrap_or(0)
    }

    /// Compares what all nodes store with the quotas.
    pub(crate) fn judge(&self, elsewhere: &HashMap<VhostId, u64>, topology: &Topology) {
        let is_over = |vhost: &VhostId, quota: u64| {
            let elsewhere = elsewhere.get(vhost).copied().unwrap_or(0);
            self.here(*vhost).saturating_add(elsewhere) >= quota
        };
        let vhosts = topology.vhosts();
        let with_quota = vhosts.filter_map(|it| Some((it.id, it.limits.bytes?)));
        let over: BTreeSet<VhostId> = with_quota
            .filter(|(vhost, quota)| is_over(vhost, *quota))
            .map(|(vhost, _)| vhost)
            .collect();
        self.any.store(!over.is_empty(), Ordering::Release);
        *self.over.lock() = over;
    }

    /// Whether the vhost stores as much as it may.
    pub(crate) fn is_over(&self, vhost: VhostId) -> bool {
        self.any.load(Ordering::Acquire) && self.over.lock().contains(&vhost)
    }
}

impl Gateway {
    /// Asks the leaders on this node what the queues of vhosts with a quota store.
    ///
    /// # Cancel safety
    /// What was measured before stays.
    pub async fn measure_stored(&self) {
        let (broker, topology) = (self.broker(), self.topology());
        let mut here = HashMap::new();
        for vhost in topology.vhosts().filter(|it| it.limits.bytes.is_some()) {
            let led: Vec<Target> = topology
                .queues()
                .filter(|it| it.vhost == vhost.id)
                .map(target_of)
                .filter(|it| broker.leader_of(it.shard) == Some(broker.node()))
                .collect();
            let asked = stream::iter(led).map(|target| broker.queue_stats(target));
            let sum =
                asked
                    .buffer_unordered(ASKED_AT_ONCE)
                    .fold(Some(0_u64), |sum, stats| async move {
                        let bytes = stats.ok()?.map_or(0, |it| it.body_bytes);
                        Some(sum?.saturating_add(bytes))
                    });
            let sum = timeout(WITHIN, sum).await.ok().flatten();
            here.insert(
                vhost.id,
                sum.unwrap_or_else(|| self.quotas().here(vhost.id)),
            );
        }
        *self.quotas().here.lock() = here;
    }

    /// Returns when the vhost may store more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn quota_room(&self, vhost: VhostId) {
        while self.quotas().is_over(vhost) {
            sleep(LOOK_AGAIN).await;
        }
    }
}
