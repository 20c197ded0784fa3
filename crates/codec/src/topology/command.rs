//! Entries of the topology group's log: `warren.stored.v1.TopologyEntry`. Not here: what the commands do (`warren-topology`).

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use warren_proto::stored_v1 as pb;
use warren_proto::stored_v1::topology_command::Kind;
use warren_queue::entry::ProposalId;
use warren_topology::{
    Batch, Bind, BindTo, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue,
    FinaliseVersion, FormCluster, NewQueueName, NoteConsumer, TopologyCommand, Unbind, UpdateNode,
};
use warren_types::{
    ClusterVersion, ExchangeName, GroupId, NodeId, QueueId, QueueName, RoutingKey, Run, ShardTime,
    Table, VhostId,
};

use super::{objects, placement, policy, tenancy};
use crate::{
    error::{CodecError, malformed},
    version::stored_version,
    wire::{Field, Fields},
};

const WHAT: &str = "topology entry";
const FORMAT: u32 = 1;
/// Numbers of the commands that hold others: named when what they hold is not known.
const TENANCY: u32 = 40;
const BATCH: u32 = 41;
const PLACEMENT: u32 = 70;
/// Number of `TopologyEntry.command`.
const COMMAND_FIELD: u64 = 8;

/// The payload of one normal entry of the topology group's log.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyEntry {
    /// Tells the proposing node which of its proposals this is.
    pub proposal: ProposalId,
    /// The proposer's stamp; 0 = none.
    pub now: ShardTime,
    pub command: TopologyCommand,
}

#[must_use]
pub fn encode_topology_entry(entry: &TopologyEntry) -> Bytes {
    let message = pb::TopologyEntry {
        format_version: FORMAT,
        finalized_version: stored_version(entry.command.since()),
        proposer_node: entry.proposal.node.0,
        proposer_run: entry.proposal.run.0,
        proposal_sequence: entry.proposal.number,
        leader_time_ms: entry.now.0,
        command: Some(wrapped(&entry.command)),
        ..pb::TopologyEntry::default()
    };
    let mut out = BytesMut::with_capacity(message.encoded_len());
    message
        .encode(&mut out)
        .expect("the buffer has the length it asked for, and grows");
    out.freeze()
}

/// # Errors
/// [`CodecError`]; with a command this version does not know, [`CodecError::UnknownCommand`].
pub fn decode_topology_entry(bytes: &Bytes) -> Result<TopologyEntry, CodecError> {
    let entry = pb::TopologyEntry::decode(bytes.clone()).map_err(CodecError::wire(WHAT))?;
    let unknown = |number| CodecError::UnknownCommand {
        number,
        format_version: entry.format_version,
        finalized_version: entry.finalized_version,
    };
    let command = entry
        .command
        .ok_or_else(|| malformed(WHAT, "there is no command"))?;
    let Some(kind) = command.kind else {
        return Err(unknown(command_number(bytes)?));
    };
    if let Some(number) = set_aside(&kind) {
        return Err(unknown(number));
    }
    if entry.format_version != FORMAT {
        return Err(CodecError::UnknownFormat {
            what: WHAT,
            found: entry.format_version,
            known: FORMAT,
        });
    }
    Ok(TopologyEntry {
        proposal: ProposalId {
            node: NodeId(entry.proposer_node),
            run: Run(entry.proposer_run),
            number: entry.proposal_sequence,
        },
        now: ShardTime(entry.leader_time_ms),
        command: decode(kind)?,
    })
}

/// The field number in the command; 0 = it has no field at all.
fn command_number(bytes: &Bytes) -> Result<u32, CodecError> {
    let mut fields = Fields::new(WHAT, bytes);
    while let Some((number, field)) = fields.next()? {
        if let (COMMAND_FIELD, Field::Bytes { from, to }) = (number, field) {
            let command = bytes.slice(from..to);
            let first = Fields::new(WHAT, &command).next()?;
            return Ok(first.map_or(0, |(number, _)| u32::try_from(number).unwrap_or(u32::MAX)));
        }
    }
    Ok(0)
}

/// The number of a command that has one, but that this version neither writes nor understands.
fn set_aside(kind: &Kind) -> Option<u32> {
    match kind {
        Kind::FormCluster(_)
        | Kind::UpdateNode(_)
        | Kind::DeclareExchange(_)
        | Kind::DeleteExchange(_)
        | Kind::DeclareQueue(_)
        | Kind::RemoveQueue(_)
        | Kind::Bind(_)
        | Kind::Unbind(_)
        | Kind::NoteConsumer(_)
        | Kind::SetPolicy(_)
        | Kind::DeletePolicy(_)
        | Kind::FinalizeVersion(_) => None,
        Kind::AddNode(_) => Some(2),
        Kind::RemoveNode(_) => Some(4),
        Kind::PlaceGroup(_) => Some(11),
        Kind::Tenancy(it) => it.kind.is_none().then_some(TENANCY),
        Kind::Placement(it) => it.kind.is_none().then_some(PLACEMENT),
        Kind::Batch(it) => {
            let mut kinds = it.commands.iter().map(|it| it.kind.as_ref());
            kinds.find_map(|kind| kind.map_or(Some(BATCH), set_aside))
        }
    }
}

fn encode(command: &TopologyCommand) -> Kind {
    match command {
        TopologyCommand::FormCluster(it) => Kind::FormCluster(form_cluster(it)),
        TopologyCommand::UpdateNode(it) => Kind::UpdateNode(update_node(it)),
        TopologyCommand::DeclareExchange(it) => Kind::DeclareExchange(pb::DeclareExchange {
            exchange: Some(pb::StoredExchange {
                vhost: it.vhost.0,
                name: it.name.as_str().into(),
                r#type: it.kind.name().into(),
                durable: it.durable,
                auto_delete: it.auto_delete,
                internal: it.internal,
                arguments: objects::table(&it.arguments),
                ..pb::StoredExchange::default()
            }),
        }),
        TopologyCommand::DeleteExchange(it) => Kind::DeleteExchange(pb::DeleteExchange {
            vhost: it.vhost.0,
            name: it.name.as_str().into(),
            if_unused: it.if_unused,
        }),
        TopologyCommand::DeclareQueue(it) => Kind::DeclareQueue(declare_queue(it)),
        TopologyCommand::DeleteQueue(it) => Kind::RemoveQueue(pb::RemoveQueue {
            vhost: it.vhost.0,
            name: it.name.as_str().into(),
            queue: it.only.map_or(0, |it| it.0),
            requester: it.requester.as_ref().map(objects::owner),
        }),
        TopologyCommand::Bind(it) => Kind::Bind(pb::Bind {
            binding: Some(binding(
                it.vhost,
                &it.source,
                &it.to,
                &it.routing_key,
                &it.arguments,
            )),
            requester: it.requester.as_ref().map(objects::owner),
        }),
        TopologyCommand::SetPolicy(it) => Kind::SetPolicy(policy::set(it)),
        TopologyCommand::DeletePolicy(it) => Kind::DeletePolicy(policy::delete(it)),
        TopologyCommand::NoteConsumer(it) => {
            Kind::NoteConsumer(pb::NoteConsumer { queue: it.queue.0 })
        }
        TopologyCommand::Unbind(it) => Kind::Unbind(pb::Unbind {
            binding: Some(binding(
                it.vhost,
                &it.source,
                &it.to,
                &it.routing_key,
                &it.arguments,
            )),
            requester: it.requester.as_ref().map(objects::owner),
        }),
        TopologyCommand::Tenancy(it) => Kind::Tenancy(tenancy::encode(it)),
        TopologyCommand::Placement(it) => Kind::Placement(placement::encode(it)),
        TopologyCommand::Batch(it) => Kind::Batch(pb::Batch {
            commands: it.commands.iter().map(wrapped).collect(),
        }),
        TopologyCommand::FinaliseVersion(it) => Kind::FinalizeVersion(pb::FinalizeVersion {
            version: it.version.0,
        }),
    }
}

fn wrapped(it: &TopologyCommand) -> pb::TopologyCommand {
    pb::TopologyCommand {
        kind: Some(encode(it)),
    }
}

fn decode_batch(it: pb::Batch) -> Result<Batch, CodecError> {
    let commands = it.commands.into_iter();
    let commands = commands.map(|it| decode(there(it.kind)?));
    Ok(Batch {
        commands: commands.collect::<Result<_, _>>()?,
    })
}

fn decode(kind: Kind) -> Result<TopologyCommand, CodecError> {
    Ok(match kind {
        Kind::FormCluster(it) => TopologyCommand::FormCluster(decode_form_cluster(it)?),
        Kind::UpdateNode(it) => TopologyCommand::UpdateNode(decode_update_node(it)?),
        Kind::DeclareExchange(it) => {
            let it = objects::decode_exchange(&there(it.exchange)?)?;
            TopologyCommand::DeclareExchange(DeclareExchange {
                vhost: it.vhost,
                name: it.name,
                kind: it.kind,
                durable: it.durable,
                auto_delete: it.auto_delete,
                internal: it.internal,
                arguments: it.arguments,
            })
        }
        Kind::DeleteExchange(it) => TopologyCommand::DeleteExchange(DeleteExchange {
            vhost: VhostId(it.vhost),
            name: ExchangeName::try_from(it.name.as_str())?,
            if_unused: it.if_unused,
        }),
        Kind::DeclareQueue(it) => TopologyCommand::DeclareQueue(decode_declare_queue(it)?),
        Kind::RemoveQueue(it) => TopologyCommand::DeleteQueue(DeleteQueue {
            vhost: VhostId(it.vhost),
            name: QueueName::try_from(it.name.as_str())?,
            only: (it.queue != 0).then_some(QueueId(it.queue)),
            requester: it.requester.map(objects::decode_owner),
        }),
        Kind::Bind(it) => {
            let end = decode_binding(&there(it.binding)?)?;
            TopologyCommand::Bind(Bind {
                vhost: end.vhost,
                source: end.source,
                to: end.to,
                routing_key: end.routing_key,
                arguments: end.arguments,
                requester: it.requester.map(objects::decode_owner),
            })
        }
        Kind::Unbind(it) => {
            let end = decode_binding(&there(it.binding)?)?;
            TopologyCommand::Unbind(Unbind {
                vhost: end.vhost,
                source: end.source,
                to: end.to,
                routing_key: end.routing_key,
                arguments: end.arguments,
                requester: it.requester.map(objects::decode_owner),
            })
        }
        Kind::SetPolicy(it) => TopologyCommand::SetPolicy(policy::decode_set(it)?),
        Kind::DeletePolicy(it) => TopologyCommand::DeletePolicy(policy::decode_delete(it)?),
        Kind::NoteConsumer(it) => TopologyCommand::NoteConsumer(decode_note(it)),
        Kind::Tenancy(it) => TopologyCommand::Tenancy(tenancy::decode(it)?),
        Kind::Placement(it) => TopologyCommand::Placement(placement::decode(it)?),
        Kind::Batch(it) => TopologyCommand::Batch(decode_batch(it)?),
        Kind::FinalizeVersion(it) => TopologyCommand::FinaliseVersion(FinaliseVersion {
            version: ClusterVersion(it.version),
        }),
        Kind::AddNode(_) | Kind::RemoveNode(_) | Kind::PlaceGroup(_) => {
            return Err(malformed("command", "its number is set aside"));
        }
    })
}

fn update_node(it: &UpdateNode) -> pb::UpdateNode {
    pb::UpdateNode {
        node: Some(objects::node(&warren_topology::Node {
            id: it.node,
            incarnation: it.incarnation,
            addresses: it.addresses.clone(),
            zone: it.zone.clone(),
            leaving: false,
            former: Vec::new(),
            software: it.software.clone(),
        })),
    }
}

fn decode_update_node(it: pb::UpdateNode) -> Result<UpdateNode, CodecError> {
    let node = objects::decode_node(there(it.node)?)?;
    Ok(UpdateNode {
        node: node.id,
        incarnation: node.incarnation,
        addresses: node.addresses,
        zone: node.zone,
        software: node.software,
    })
}

fn decode_note(it: pb::NoteConsumer) -> NoteConsumer {
    NoteConsumer {
        queue: QueueId(it.queue),
    }
}

pub(super) fn there<T>(part: Option<T>) -> Result<T, CodecError> {
    part.ok_or_else(|| malformed(WHAT, "a part is missing"))
}

fn form_cluster(it: &FormCluster) -> pb::FormCluster {
    pb::FormCluster {
        cluster_id: objects::cluster_id(it.cluster),
        name: it.name.to_string(),
        nodes: it.nodes.iter().map(objects::node).collect(),
        groups: vec![pb::StoredGroup {
            group: GroupId::TOPOLOGY.0,
            generation: 1,
            replicas: it.topology_members.iter().map(objects::replica).collect(),
            ..pb::StoredGroup::default()
        }],
        shards: it.shards,
        replication_factor: it.replication_factor,
        finalized_version: it.version.0,
    }
}

fn decode_form_cluster(it: pb::FormCluster) -> Result<FormCluster, CodecError> {
    let [topology] = &it.groups[..] else {
        return Err(malformed(WHAT, "only the topology group exists before"));
    };
    let nodes = it.nodes.into_iter().map(objects::decode_node);
    Ok(FormCluster {
        cluster: objects::decode_cluster_id(&it.cluster_id)?,
        name: it.name.into(),
        version: objects::decode_version(it.finalized_version),
        nodes: nodes.collect::<Result<_, _>>()?,
        topology_members: objects::decode_group(topology).members,
        shards: it.shards,
        replication_factor: it.replication_factor,
    })
}

fn declare_queue(it: &DeclareQueue) -> pb::DeclareQueue {
    let (name, name_prefix, name_token) = match &it.name {
        NewQueueName::Named(name) => (name.as_str().into(), String::new(), Bytes::new()),
        NewQueueName::Generated { prefix, token } => (
            String::new(),
            prefix
                .as_ref()
                .map_or_else(String::new, |it| it.as_str().into()),
            Bytes::copy_from_slice(&token.to_be_bytes()),
        ),
    };
    pb::DeclareQueue {
        queue: Some(pb::StoredQueue {
            vhost: it.vhost.0,
            name,
            durable: it.durable,
            auto_delete: it.auto_delete,
            exclusive: it.exclusive,
            arguments: objects::table(&it.arguments),
            ..pb::StoredQueue::default()
        }),
        name_prefix,
        name_token,
        requester: it.requester.as_ref().map(objects::owner),
    }
}

fn decode_declare_queue(it: pb::DeclareQueue) -> Result<DeclareQueue, CodecError> {
    let queue = there(it.queue)?;
    let name = if queue.name.is_empty() {
        let token = it.name_token[..]
            .try_into()
            .map_err(|_| malformed(WHAT, "a name's token does not have 16 bytes"))?;
        let prefix = (!it.name_prefix.is_empty()).then_some(it.name_prefix);
        NewQueueName::Generated {
            prefix: prefix
                .map(|it| QueueName::try_from(it.as_str()))
                .transpose()?,
            token: u128::from_be_bytes(token),
        }
    } else {
        NewQueueName::Named(QueueName::try_from(queue.name.as_str())?)
    };
    Ok(DeclareQueue {
        vhost: VhostId(queue.vhost),
        name,
        durable: queue.durable,
        auto_delete: queue.auto_delete,
        exclusive: queue.exclusive,
        arguments: objects::decode_table(&queue.arguments)?,
        requester: it.requester.map(objects::decode_owner),
    })
}

fn binding(
    vhost: VhostId,
    source: &ExchangeName,
    to: &BindTo,
    routing_key: &RoutingKey,
    arguments: &Table,
) -> pb::StoredBinding {
    let (target, destination) = match to {
        BindTo::Queue(name) => (pb::BindingTarget::Queue, name.as_str()),
        BindTo::Exchange(name) => (pb::BindingTarget::Exchange, name.as_str()),
    };
    pb::StoredBinding {
        vhost: vhost.0,
        source: source.as_str().into(),
        target: target.into(),
        destination: destination.into(),
        routing_key: routing_key.as_str().into(),
        arguments: objects::table(arguments),
    }
}

/// What `Bind` and `Unbind` share.
struct Ends {
    vhost: VhostId,
    source: ExchangeName,
    to: BindTo,
    routing_key: RoutingKey,
    arguments: Table,
}

fn decode_binding(it: &pb::StoredBinding) -> Result<Ends, CodecError> {
    let to = it.destination.as_str();
    Ok(Ends {
        vhost: VhostId(it.vhost),
        source: ExchangeName::try_from(it.source.as_str())?,
        to: match objects::decode_target(it.target)? {
            objects::Target::Queue => BindTo::Queue(QueueName::try_from(to)?),
            objects::Target::Exchange => BindTo::Exchange(ExchangeName::try_from(to)?),
        },
        routing_key: RoutingKey::try_from(it.routing_key.as_str())?,
        arguments: objects::decode_table(&it.arguments)?,
    })
}
