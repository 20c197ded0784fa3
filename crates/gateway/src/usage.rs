//! What the clients of all nodes use of vhosts and users with limits: told by each node with its answers to pulses, added up by the
//! others (ADR 0062). Not here: the limits' effects (`places`, `rates`, `quota`), when it is told (`server`).

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use tracing::debug;
use warren_proto::internal_v1::{NodeUsage, UserUsage, VhostUsage};
use warren_types::{UserName, VhostId};

use crate::gateway::Gateway;
use crate::places::{Counts, OfUser};

/// More vhosts, and more users, with limits are not told of: those count on each node alone.
const TOLD_MAX: usize = 4_096;

impl Gateway {
    /// What is used on this node, for the others.
    #[must_use]
    pub fn usage(&self) -> Bytes {
        let (topology, here, now) = (self.topology(), self.places().here(), Instant::now());
        let mut usage = NodeUsage::default();
        for vhost in topology.vhosts() {
            let limits = vhost.limits;
            let is_told = limits.connections.is_some()
                || limits.publishes_per_second.is_some()
                || limits.bytes.is_some();
            if !is_told || usage.vhosts.len() >= TOLD_MAX {
                continue;
            }
            usage.vhosts.push(VhostUsage {
                vhost: vhost.id.0,
                connections: here.vhosts.get(&vhost.id).copied().unwrap_or(0),
                publishes: self.rates().publishes(vhost.id, now),
                stored_bytes: self.quotas().here(vhost.id),
            });
        }
        for (name, it) in here.users {
            let limits = topology.user(name.as_str()).map(|it| it.limits);
            let is_told =
                limits.is_some_and(|it| it.connections.is_some() || it.channels.is_some());
            if is_told && usage.users.len() < TOLD_MAX {
                usage.users.push(UserUsage {
                    user: name.to_string(),
                    connections: it.connections,
                    channels: it.channels,
                });
            }
        }
        usage.encode_to_vec().into()
    }

    /// What is used on the other nodes that are alive.
    pub fn set_usage_elsewhere(&self, others: impl IntoIterator<Item = Bytes>) {
        let mut counts = Counts::default();
        let mut publishing: HashMap<VhostId, u32> = HashMap::new();
        let mut stored: HashMap<VhostId, u64> = HashMap::new();
        for told in others {
            let usage = match NodeUsage::decode(told) {
                Ok(usage) => usage,
                // Of a version that tells it otherwise.
                Err(error) => {
                    debug!(%error, "a node's usage is not readable");
                    continue;
                }
            };
            for it in usage.vhosts {
                let vhost = VhostId(it.vhost);
                add(counts.vhosts.entry(vhost).or_default(), it.connections);
                add(
                    publishing.entry(vhost).or_default(),
                    u32::from(it.publishes),
                );
                let stored = stored.entry(vhost).or_default();
                *stored = stored.saturating_add(it.stored_bytes);
            }
            for it in usage.users {
                let Ok(name) = UserName::try_from(it.user.as_str()) else {
                    continue;
                };
                let OfUser {
                    connections,
                    channels,
                } = counts.users.entry(name).or_default();
                add(connections, it.connections);
                add(channels, it.channels);
            }
        }
        let topology = self.topology();
        self.places().set_elsewhere(counts);
        self.rates().share(&publishing, &topology);
        self.quotas().judge(&stored, &topology);
    }
}

fn add(sum: &mut u32, more: u32) {
    *sum = sum.saturating_add(more);
}
