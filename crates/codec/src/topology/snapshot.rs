//! The whole topology: `warren.stored.v1.TopologySnapshot`, after four bytes of CRC-32C. Not here: where it is kept (`storage`).

use std::collections::BTreeMap;

use bytes::Bytes;
use warren_proto::stored_v1 as pb;
use warren_topology::{Binding, Cluster, Destination, Topology, TopologyParts, Vhost};
use warren_types::{
    ExchangeId, ExchangeName, QueueId, QueueName, ReplicaId, RoutingKey, TopologyIndex, VhostId,
};

use super::{objects, policy, tenancy};
use crate::{
    error::{CodecError, malformed},
    rows::{check_format, open, seal},
};

const WHAT: &str = "topology snapshot";
const FORMAT: u32 = 1;

#[must_use]
pub fn encode_topology(topology: &Topology) -> Bytes {
    let parts = topology.to_parts();
    let cluster = parts.cluster.as_ref();
    let message = pb::TopologySnapshot {
        format_version: FORMAT,
        finalized_version: cluster.map_or(0, |it| it.finalised_version.0),
        cluster_id: cluster.map_or_else(Bytes::new, |it| objects::cluster_id(it.id)),
        cluster_name: cluster.map_or_else(String::new, |it| it.name.to_string()),
        replication_factor: cluster.map_or(0, |it| it.replication_factor),
        topology_index: parts.index.0,
        nodes: parts.nodes.iter().map(objects::node).collect(),
        groups: parts.placements.iter().map(objects::group).collect(),
        vhosts: parts.vhosts.iter().map(tenancy::vhost).collect(),
        exchanges: parts.exchanges.iter().map(objects::exchange).collect(),
        queues: parts.queues.iter().map(objects::queue).collect(),
        bindings: parts
            .bindings
            .iter()
            .filter_map(|it| binding(topology, it))
            .collect(),
        users: parts.users.iter().map(tenancy::user).collect(),
        permissions: parts.permissions.iter().map(tenancy::permission).collect(),
        topic_permissions: parts
            .topic_permissions
            .iter()
            .map(tenancy::topic_permission)
            .collect(),
        parameters: parts.parameters.iter().map(tenancy::parameter).collect(),
        next_vhost: u64::from(parts.next_vhost.0),
        policies: parts.policies.iter().map(policy::policy).collect(),
        next_exchange: parts.next_exchange.0,
        next_queue: parts.next_queue.0,
        next_replica: parts.next_replica.0,
        ..pb::TopologySnapshot::default()
    };
    seal(&[], &message)
}

/// # Errors
/// [`CodecError`]: the bytes are damaged, of a newer version, or do not fit together.
pub fn decode_topology(bytes: &Bytes) -> Result<Topology, CodecError> {
    let message: pb::TopologySnapshot = open(WHAT, &[], bytes)?;
    check_format(WHAT, message.format_version)?;
    let cluster = if message.cluster_id.is_empty() {
        None
    } else {
        Some(Cluster {
            id: objects::decode_cluster_id(&message.cluster_id)?,
            name: message.cluster_name.into(),
            finalised_version: objects::decode_version(message.finalized_version),
            replication_factor: message.replication_factor,
        })
    };
    let names = Names::new(&message.exchanges, &message.queues)?;
    let parts = TopologyParts {
        index: TopologyIndex(message.topology_index),
        cluster,
        nodes: all(message.nodes, objects::decode_node)?,
        placements: message.groups.iter().map(objects::decode_group).collect(),
        vhosts: all(message.vhosts, tenancy::decode_vhost)?,
        exchanges: all(message.exchanges, |it| objects::decode_exchange(&it))?,
        queues: all(message.queues, objects::decode_queue)?,
        bindings: all(message.bindings, |it| names.binding(&it))?,
        users: all(message.users, tenancy::decode_user)?,
        permissions: all(message.permissions, |it| tenancy::decode_permission(&it))?,
        topic_permissions: all(message.topic_permissions, |it| {
            tenancy::decode_topic_permission(&it)
        })?,
        parameters: all(message.parameters, |it| Ok(tenancy::decode_parameter(it)))?,
        next_vhost: next_vhost(message.next_vhost)?,
        policies: all(message.policies, policy::decode_policy)?,
        next_exchange: ExchangeId(message.next_exchange),
        next_queue: QueueId(message.next_queue),
        next_replica: ReplicaId(message.next_replica),
    };
    Ok(Topology::from_parts(parts)?)
}

/// Snapshots of the time before vhosts could be created do not count them: there is `/` alone.
fn next_vhost(stored: u64) -> Result<VhostId, CodecError> {
    if stored == 0 {
        return Ok(VhostId(Vhost::ROOT.0 + 1));
    }
    let next = u32::try_from(stored);
    Ok(VhostId(next.map_err(|_| {
        malformed(WHAT, "there are no more vhosts to come")
    })?))
}

fn all<T, U>(
    list: Vec<T>,
    decode: impl Fn(T) -> Result<U, CodecError>,
) -> Result<Vec<U>, CodecError> {
    list.into_iter().map(decode).collect()
}

/// Both ends are there: the topology keeps no binding without them.
fn binding(topology: &Topology, it: &Binding) -> Option<pb::StoredBinding> {
    let source = topology.exchange_by_id(it.source)?;
    let (target, destination) = match it.destination {
        Destination::Queue(queue) => {
            let queue = topology.queue_by_id(queue)?;
            (pb::BindingTarget::Queue, queue.name.as_str())
        }
        Destination::Exchange(exchange) => {
            let exchange = topology.exchange_by_id(exchange)?;
            (pb::BindingTarget::Exchange, exchange.name.as_str())
        }
    };
    Some(pb::StoredBinding {
        vhost: source.vhost.0,
        source: source.name.as_str().into(),
        target: target.into(),
        destination: destination.into(),
        routing_key: it.routing_key.as_str().into(),
        arguments: objects::table(&it.arguments),
    })
}

/// Bindings are stored by name and kept by id.
struct Names {
    exchanges: BTreeMap<(VhostId, ExchangeName), ExchangeId>,
    queues: BTreeMap<(VhostId, QueueName), QueueId>,
}

impl Names {
    fn new(
        exchanges: &[pb::StoredExchange],
        queues: &[pb::StoredQueue],
    ) -> Result<Self, CodecError> {
        let mut names = Self {
            exchanges: BTreeMap::new(),
            queues: BTreeMap::new(),
        };
        for it in exchanges {
            let name = ExchangeName::try_from(it.name.as_str())?;
            let id = ExchangeId(it.exchange);
            names.exchanges.insert((VhostId(it.vhost), name), id);
        }
        for it in queues {
            let name = QueueName::try_from(it.name.as_str())?;
            let id = QueueId(it.queue);
            names.queues.insert((VhostId(it.vhost), name), id);
        }
        Ok(names)
    }

    fn binding(&self, it: &pb::StoredBinding) -> Result<Binding, CodecError> {
        let vhost = VhostId(it.vhost);
        let missing = || malformed(WHAT, "a binding has no source or no destination");
        let exchange = |name: &str| -> Result<ExchangeId, CodecError> {
            let name = (vhost, ExchangeName::try_from(name)?);
            self.exchanges.get(&name).copied().ok_or_else(missing)
        };
        let source = exchange(&it.source)?;
        let destination = match objects::decode_target(it.target)? {
            objects::Target::Exchange => Destination::Exchange(exchange(&it.destination)?),
            objects::Target::Queue => {
                let name = (vhost, QueueName::try_from(it.destination.as_str())?);
                Destination::Queue(*self.queues.get(&name).ok_or_else(missing)?)
            }
        };
        Ok(Binding {
            source,
            routing_key: RoutingKey::try_from(it.routing_key.as_str())?,
            arguments: objects::decode_table(&it.arguments)?,
            destination,
        })
    }
}
