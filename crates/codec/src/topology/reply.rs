//! Replies on their way to the node that asked: `warren.internal.v1.TopologyReply`. Not here: the client's error codes (`gateway`).

use bytes::Bytes;
use prost::Message as _;
use warren_proto::internal_v1 as pb;
use warren_proto::internal_v1::topology_reply as kinds;
use warren_proto::internal_v1::topology_reply::Kind;
use warren_topology::{Declared, TopologyReply};
use warren_types::{ExchangeId, QueueId, QueueName, ShardId, VhostId};

mod refusal;
mod version;

use crate::error::{CodecError, malformed};

const WHAT: &str = "topology reply";

#[must_use]
pub fn encode_reply(reply: &TopologyReply) -> Bytes {
    Bytes::from(encode(reply).encode_to_vec())
}

fn encode(reply: &TopologyReply) -> pb::TopologyReply {
    let kind = match reply {
        TopologyReply::ClusterFormed(it) => Kind::ClusterCreated(created(*it)),
        TopologyReply::NodeUpdated => Kind::NodeUpdated(kinds::NodeUpdated {}),
        TopologyReply::ExchangeDeclared { exchange, declared } => {
            Kind::ExchangeDeclared(kinds::ExchangeDeclared {
                exchange: exchange.0,
                created: created(*declared),
            })
        }
        TopologyReply::ExchangeDeleted { exchange } => {
            Kind::ExchangeDeleted(exchange.map_or(0, |it| it.0))
        }
        TopologyReply::QueueDeclared {
            queue,
            shard,
            name,
            declared,
        } => Kind::QueueDeclared(kinds::QueueDeclared {
            queue: queue.0,
            shard: shard.0,
            name: name.as_str().into(),
            created: created(*declared),
        }),
        TopologyReply::QueueDeleted { queue } => Kind::QueueDeleted(kinds::QueueDeleted {
            queue: queue.map_or(0, |(queue, _)| queue.0),
            shard: queue.map_or(0, |(_, shard)| shard.0),
        }),
        TopologyReply::Bound(it) => Kind::BindingCreated(created(*it)),
        TopologyReply::Unbound { existed } => Kind::BindingExisted(*existed),
        TopologyReply::PolicySet(it) => Kind::PolicyCreated(created(*it)),
        TopologyReply::PolicyDeleted { existed } => Kind::PolicyExisted(*existed),
        TopologyReply::ConsumerNoted { existed } => Kind::ConsumerNoted(*existed),
        TopologyReply::Refused(it) => Kind::Refused(refusal::encode(it)),
        TopologyReply::VhostCreated { vhost, declared } => {
            Kind::VhostCreated(kinds::VhostCreated {
                vhost: vhost.0,
                created: created(*declared),
            })
        }
        TopologyReply::UserCreated(it) => Kind::UserCreated(created(*it)),
        TopologyReply::Done { changed } => Kind::Changed(*changed),
        TopologyReply::Batch(replies) => Kind::Batch(kinds::Batch {
            replies: replies.iter().map(encode).collect(),
        }),
    };
    pb::TopologyReply { kind: Some(kind) }
}

/// # Errors
/// [`CodecError`] if the bytes are no reply, or one of a newer version.
pub fn decode_reply(bytes: &Bytes) -> Result<TopologyReply, CodecError> {
    decode(pb::TopologyReply::decode(bytes.clone()).map_err(CodecError::wire(WHAT))?)
}

fn decode(reply: pb::TopologyReply) -> Result<TopologyReply, CodecError> {
    let kind = reply
        .kind
        .ok_or_else(|| malformed(WHAT, "its kind is not known to this node"))?;
    Ok(match kind {
        Kind::ClusterCreated(it) => TopologyReply::ClusterFormed(declared(it)),
        Kind::NodeUpdated(_) => TopologyReply::NodeUpdated,
        Kind::ExchangeDeclared(it) => TopologyReply::ExchangeDeclared {
            exchange: ExchangeId(it.exchange),
            declared: declared(it.created),
        },
        Kind::ExchangeDeleted(it) => TopologyReply::ExchangeDeleted {
            exchange: (it != 0).then_some(ExchangeId(it)),
        },
        Kind::QueueDeclared(it) => TopologyReply::QueueDeclared {
            queue: QueueId(it.queue),
            shard: ShardId(it.shard),
            name: QueueName::try_from(it.name.as_str())?,
            declared: declared(it.created),
        },
        Kind::QueueDeleted(it) => TopologyReply::QueueDeleted {
            queue: (it.queue != 0).then_some((QueueId(it.queue), ShardId(it.shard))),
        },
        Kind::BindingCreated(it) => TopologyReply::Bound(declared(it)),
        Kind::BindingExisted(existed) => TopologyReply::Unbound { existed },
        Kind::PolicyCreated(it) => TopologyReply::PolicySet(declared(it)),
        Kind::PolicyExisted(existed) => TopologyReply::PolicyDeleted { existed },
        Kind::ConsumerNoted(existed) => TopologyReply::ConsumerNoted { existed },
        Kind::Refused(it) => TopologyReply::Refused(refusal::decode(it)?),
        Kind::VhostCreated(it) => TopologyReply::VhostCreated {
            vhost: VhostId(it.vhost),
            declared: declared(it.created),
        },
        Kind::UserCreated(it) => TopologyReply::UserCreated(declared(it)),
        Kind::Changed(changed) => TopologyReply::Done { changed },
        Kind::Batch(it) => {
            let replies = it.replies.into_iter().map(decode);
            TopologyReply::Batch(replies.collect::<Result<_, _>>()?)
        }
    })
}

fn created(it: Declared) -> bool {
    match it {
        Declared::Created => true,
        Declared::Existed => false,
    }
}

fn declared(created: bool) -> Declared {
    if created {
        Declared::Created
    } else {
        Declared::Existed
    }
}
