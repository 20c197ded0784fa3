//! Nodes, groups, vhosts, exchanges, queues, bindings and owners as stored messages. Not here: commands and snapshots, which hold them.

use bytes::{Bytes, BytesMut};
use warren_proto::stored_v1 as pb;
use warren_topology::{
    Addresses, Copies, Exchange, ExchangeKind, Node, Placement, Queue, QueueOwner, QueueType,
    Software,
};
use warren_types::{
    ClusterId, ClusterVersion, ExchangeId, ExchangeName, Generation, GroupId, KnownVersions,
    Member, NodeId, QueueId, QueueName, ReplicaId, Run, ShardId, Table, TopologyIndex, VhostId,
};

use crate::{
    entry::incarnation,
    error::{CodecError, malformed},
    version::stored_version,
};

pub(super) fn cluster_id(id: ClusterId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

pub(super) fn decode_cluster_id(bytes: &[u8]) -> Result<ClusterId, CodecError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(ClusterId(u128::from_be_bytes(bytes))),
        Err(_) => Err(malformed("cluster id", "it does not have 16 bytes")),
    }
}

/// Empty = an empty table.
pub(super) fn table(table: &Table) -> Bytes {
    if table.is_empty() {
        return Bytes::new();
    }
    let mut out = BytesMut::new();
    table.encode(&mut out);
    out.freeze()
}

/// Its strings are copied: what is kept for long must not pin the buffer it came in.
pub(super) fn decode_table(bytes: &Bytes) -> Result<Table, CodecError> {
    if bytes.is_empty() {
        return Ok(Table::new());
    }
    Ok(Table::decode(&Bytes::copy_from_slice(bytes))?)
}

pub(super) fn node(it: &Node) -> pb::StoredNode {
    pb::StoredNode {
        node: it.id.0,
        incarnation: Bytes::copy_from_slice(&it.incarnation.0.to_be_bytes()),
        node_endpoint: it.addresses.node.to_string(),
        client_endpoint: it.addresses.grpc.to_string(),
        amqp_endpoint: it.addresses.amqp.to_string(),
        zone: it.zone.to_string(),
        leaving: it.leaving,
        former_incarnations: it
            .former
            .iter()
            .map(|it| Bytes::copy_from_slice(&it.0.to_be_bytes()))
            .collect(),
        min_version: stored_version(it.software.versions.oldest),
        max_version: stored_version(it.software.versions.newest),
        software: it.software.name.to_string(),
        ..pb::StoredNode::default()
    }
}

pub(super) fn decode_node(it: pb::StoredNode) -> Result<Node, CodecError> {
    Ok(Node {
        id: NodeId(it.node),
        incarnation: incarnation(&it.incarnation)?,
        addresses: Addresses {
            node: it.node_endpoint.into(),
            grpc: it.client_endpoint.into(),
            amqp: it.amqp_endpoint.into(),
        },
        zone: it.zone.into(),
        leaving: it.leaving,
        former: it
            .former_incarnations
            .iter()
            .map(|it| incarnation(it))
            .collect::<Result<_, _>>()?,
        software: Software {
            versions: KnownVersions {
                oldest: decode_version(it.min_version),
                newest: decode_version(it.max_version),
            },
            name: it.software.into(),
        },
    })
}

/// Nodes of the time before versions were told know the first.
pub(super) fn decode_version(stored: u32) -> ClusterVersion {
    ClusterVersion(stored).max(ClusterVersion::FIRST)
}

pub(super) fn replica(it: &Member) -> pb::StoredReplica {
    pb::StoredReplica {
        replica: it.replica.0,
        node: it.node.0,
        learner: false,
    }
}

fn learner(it: &Member) -> pb::StoredReplica {
    pb::StoredReplica {
        learner: true,
        ..replica(it)
    }
}

fn decode_replica(it: &pb::StoredReplica) -> Member {
    Member {
        replica: ReplicaId(it.replica),
        node: NodeId(it.node),
    }
}

pub(super) fn group(it: &Placement) -> pb::StoredGroup {
    let members = it.members.iter().map(replica);
    let (copies, placed) = copies(it.copies);
    pb::StoredGroup {
        group: it.group.0,
        generation: it.generation.0,
        replicas: members.chain(it.learners.iter().map(learner)).collect(),
        former: it.former.iter().map(replica).collect(),
        changing: !it.settled,
        copies,
        placed,
    }
}

pub(super) fn decode_group(it: &pb::StoredGroup) -> Placement {
    let of = |learner: bool| {
        let replicas = it.replicas.iter().filter(move |it| it.learner == learner);
        replicas.map(decode_replica).collect()
    };
    Placement {
        group: GroupId(it.group),
        generation: Generation(it.generation),
        members: of(false),
        learners: of(true),
        former: it.former.iter().map(decode_replica).collect(),
        settled: !it.changing,
        copies: decode_copies(it.copies, it.placed),
    }
}

pub(super) fn copies(it: Copies) -> (u32, bool) {
    match it {
        Copies::Factor => (0, false),
        Copies::Count(count) => (count, false),
        Copies::Placed(count) => (count, true),
    }
}

pub(super) fn decode_copies(count: u32, placed: bool) -> Copies {
    match (count, placed) {
        (0, _) => Copies::Factor,
        (_, false) => Copies::Count(count),
        (_, true) => Copies::Placed(count),
    }
}

pub(super) fn decode_kind(name: &str) -> Result<ExchangeKind, CodecError> {
    ExchangeKind::try_from(name)
        .map_err(|_| malformed("exchange", "its type is not known to this node"))
}

pub(super) fn exchange(it: &Exchange) -> pb::StoredExchange {
    pb::StoredExchange {
        exchange: it.id.0,
        vhost: it.vhost.0,
        name: it.name.as_str().into(),
        r#type: it.kind.name().into(),
        durable: it.durable,
        auto_delete: it.auto_delete,
        internal: it.internal,
        arguments: table(&it.arguments),
        changed_index: it.declared_at.0,
        ..pb::StoredExchange::default()
    }
}

pub(super) fn decode_exchange(it: &pb::StoredExchange) -> Result<Exchange, CodecError> {
    Ok(Exchange {
        id: ExchangeId(it.exchange),
        vhost: VhostId(it.vhost),
        name: ExchangeName::try_from(it.name.as_str())?,
        kind: decode_kind(&it.r#type)?,
        durable: it.durable,
        auto_delete: it.auto_delete,
        internal: it.internal,
        arguments: decode_table(&it.arguments)?,
        declared_at: TopologyIndex(it.changed_index),
    })
}

pub(super) fn owner(it: &QueueOwner) -> pb::StoredOwner {
    match it {
        QueueOwner::Connection {
            node,
            run,
            connection,
        } => pb::StoredOwner {
            node: node.0,
            run: run.0,
            connection: *connection,
            client: String::new(),
        },
        QueueOwner::Client(client) => pb::StoredOwner {
            client: client.to_string(),
            ..pb::StoredOwner::default()
        },
    }
}

pub(super) fn decode_owner(it: pb::StoredOwner) -> QueueOwner {
    if it.node == 0 {
        QueueOwner::Client(it.client.into())
    } else {
        QueueOwner::Connection {
            node: NodeId(it.node),
            run: Run(it.run),
            connection: it.connection,
        }
    }
}

pub(super) fn queue(it: &Queue) -> pb::StoredQueue {
    let owner = it.owner.as_ref().map(owner).unwrap_or_default();
    pb::StoredQueue {
        queue: it.id.0,
        vhost: it.vhost.0,
        name: it.name.as_str().into(),
        durable: it.durable,
        auto_delete: it.auto_delete,
        exclusive: it.owner.is_some(),
        owner: owner.client,
        owner_node: owner.node,
        owner_run: owner.run,
        owner_connection: owner.connection,
        arguments: table(&it.arguments),
        shard: it.shard.0,
        changed_index: it.declared_at.0,
        renewed_index: if it.renewed_at == it.declared_at {
            0
        } else {
            it.renewed_at.0
        },
        had_consumer: it.had_consumer,
        ..pb::StoredQueue::default()
    }
}

/// The declared type stands in the arguments.
pub(super) fn decode_queue(it: pb::StoredQueue) -> Result<Queue, CodecError> {
    let arguments = decode_table(&it.arguments)?;
    let declared = arguments.get_str("x-queue-type");
    let queue_type = QueueType::ALL
        .into_iter()
        .find(|known| Some(known.name()) == declared)
        .ok_or_else(|| malformed("queue", "its type is not known to this node"))?;
    let owner = pb::StoredOwner {
        node: it.owner_node,
        run: it.owner_run,
        connection: it.owner_connection,
        client: it.owner,
    };
    Ok(Queue {
        id: QueueId(it.queue),
        vhost: VhostId(it.vhost),
        name: QueueName::try_from(it.name.as_str())?,
        shard: ShardId(it.shard),
        queue_type,
        durable: it.durable,
        auto_delete: it.auto_delete,
        owner: it.exclusive.then(|| decode_owner(owner)),
        arguments,
        declared_at: TopologyIndex(it.changed_index),
        renewed_at: TopologyIndex(it.renewed_index.max(it.changed_index)),
        had_consumer: it.had_consumer,
    })
}

/// What a binding leads to.
pub(super) enum Target {
    Queue,
    Exchange,
}

pub(super) fn decode_target(number: i32) -> Result<Target, CodecError> {
    let unknown = || CodecError::UnknownValue {
        what: "binding target",
        number: i64::from(number),
    };
    match pb::BindingTarget::try_from(number).map_err(|_| unknown())? {
        pb::BindingTarget::Queue => Ok(Target::Queue),
        pb::BindingTarget::Exchange => Ok(Target::Exchange),
        pb::BindingTarget::Unspecified => Err(unknown()),
    }
}
