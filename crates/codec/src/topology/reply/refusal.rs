//! Refusals on their way to the node that asked. Not here: other replies (`reply`).

use warren_proto::internal_v1 as pb;
use warren_proto::internal_v1::CommandRefusalKind as Kind;
use warren_topology::{ClusterFault, ObjectKind, PlacementFault, Refusal};
use warren_types::{ExchangeName, NodeId, QueueName, UserName, VhostId, VhostName};

use super::version;
use crate::{
    error::{CodecError, malformed},
    topology::objects,
};

pub(super) fn encode(refusal: &Refusal) -> pb::CommandRefusal {
    let of = |kind: Kind| pb::CommandRefusal {
        kind: kind.into(),
        ..pb::CommandRefusal::default()
    };
    let named = |kind: Kind, vhost: &VhostName, name: &str| pb::CommandRefusal {
        vhost: vhost.as_str().into(),
        name: name.into(),
        ..of(kind)
    };
    let numbered = |kind: Kind, number: u64| pb::CommandRefusal { number, ..of(kind) };
    let typed = |kind: Kind, name: &str| pb::CommandRefusal {
        name: name.into(),
        ..of(kind)
    };
    match refusal {
        Refusal::ClusterNotFormed => of(Kind::ClusterNotFormed),
        Refusal::ClusterFormedOtherwise { cluster } => pb::CommandRefusal {
            cluster_id: objects::cluster_id(*cluster),
            ..of(Kind::ClusterFormedOtherwise)
        },
        Refusal::ClusterInvalid { reason } => numbered(Kind::ClusterInvalid, fault(*reason)),
        Refusal::NoSuchNode { node } => numbered(Kind::NoSuchNode, node.0),
        Refusal::OtherIncarnation { node } => numbered(Kind::OtherIncarnation, node.0),
        Refusal::NoSuchVhost { vhost } => numbered(Kind::NoSuchVhost, u64::from(vhost.0)),
        Refusal::NoSuchExchange { vhost, exchange } => {
            named(Kind::NoSuchExchange, vhost, exchange.as_str())
        }
        Refusal::NoSuchQueue { vhost, queue } => named(Kind::NoSuchQueue, vhost, queue.as_str()),
        Refusal::NameReserved { object, name } => pb::CommandRefusal {
            object: self::object(*object).into(),
            name: name.to_string(),
            ..of(Kind::NameReserved)
        },
        Refusal::DefaultExchange => of(Kind::DefaultExchange),
        Refusal::QueueTypeUnavailable { name } => typed(Kind::QueueTypeUnavailable, name),
        Refusal::InequivalentArgument { .. } | Refusal::InvalidArgument { .. } => argument(refusal),
        Refusal::ResourceLocked { vhost, queue } => {
            named(Kind::ResourceLocked, vhost, queue.as_str())
        }
        Refusal::ExclusiveWithoutOwner => of(Kind::ExclusiveWithoutOwner),
        Refusal::ExchangeInUse { vhost, exchange } => {
            named(Kind::ExchangeInUse, vhost, exchange.as_str())
        }
        Refusal::LimitReached { object, limit } => pb::CommandRefusal {
            object: self::object(*object).into(),
            number: *limit,
            ..of(Kind::LimitReached)
        },
        Refusal::NoVhostNamed { vhost } => named(Kind::NoVhostNamed, vhost, ""),
        Refusal::NoSuchUser { user } => typed(Kind::NoSuchUser, user.as_str()),
        Refusal::UserExists { user } => typed(Kind::UserExists, user.as_str()),
        Refusal::VhostProtected { vhost } => named(Kind::VhostProtected, vhost, ""),
        Refusal::VhostLimitReached {
            vhost,
            object,
            limit,
        } => pb::CommandRefusal {
            object: self::object(*object).into(),
            number: *limit,
            ..named(Kind::VhostLimitReached, vhost, "")
        },
        Refusal::BatchInvalid => of(Kind::BatchInvalid),
        Refusal::PlacementRefused { reason } => numbered(Kind::PlacementRefused, number(*reason)),
        Refusal::VersionNotKnown { .. }
        | Refusal::VersionGoesBack { .. }
        | Refusal::SoftwareNotFit { .. } => version::encode(refusal),
    }
}

fn number(fault: PlacementFault) -> u64 {
    let all = PlacementFault::ALL.into_iter();
    let found = (1..).zip(all).find(|(_, it)| *it == fault);
    found.map_or(0, |(number, _)| number)
}

/// The refusals of an argument, which have the most to tell; empty for any other.
fn argument(refusal: &Refusal) -> pb::CommandRefusal {
    if let Refusal::InequivalentArgument {
        object,
        name,
        vhost,
        argument,
        received,
        current,
    } = refusal
    {
        return pb::CommandRefusal {
            kind: Kind::InequivalentArgument.into(),
            object: self::object(*object).into(),
            vhost: vhost.as_str().into(),
            name: name.to_string(),
            argument: argument.to_string(),
            received: received.to_string(),
            current: current.to_string(),
            ..pb::CommandRefusal::default()
        };
    }
    if let Refusal::InvalidArgument {
        object,
        name,
        argument,
        reason,
    } = refusal
    {
        return pb::CommandRefusal {
            kind: Kind::InvalidArgument.into(),
            object: self::object(*object).into(),
            name: name.to_string(),
            argument: argument.to_string(),
            reason: reason.to_string(),
            ..pb::CommandRefusal::default()
        };
    }
    pb::CommandRefusal::default()
}

pub(super) fn decode(it: pb::CommandRefusal) -> Result<Refusal, CodecError> {
    let unknown = || CodecError::UnknownValue {
        what: "refusal",
        number: i64::from(it.kind),
    };
    let vhost = || VhostName::try_from(it.vhost.as_str());
    let exchange = || ExchangeName::try_from(it.name.as_str());
    let user = || UserName::try_from(it.name.as_str());
    let queue = || QueueName::try_from(it.name.as_str());
    let node = NodeId(it.number);
    let vhost_id = || {
        let number = u32::try_from(it.number);
        number.map_err(|_| malformed("refusal", "no vhost's number"))
    };
    let object = || decode_object(it.object);
    Ok(match Kind::try_from(it.kind).map_err(|_| unknown())? {
        Kind::Unspecified | Kind::ExchangeTypeUnavailable => return Err(unknown()),
        Kind::ClusterNotFormed => Refusal::ClusterNotFormed,
        Kind::ClusterFormedOtherwise => Refusal::ClusterFormedOtherwise {
            cluster: objects::decode_cluster_id(&it.cluster_id)?,
        },
        Kind::ClusterInvalid => Refusal::ClusterInvalid {
            reason: decode_fault(it.number)?,
        },
        Kind::NoSuchNode => Refusal::NoSuchNode { node },
        Kind::OtherIncarnation => Refusal::OtherIncarnation { node },
        Kind::NoSuchVhost => Refusal::NoSuchVhost {
            vhost: VhostId(vhost_id()?),
        },
        Kind::NoSuchExchange => Refusal::NoSuchExchange {
            vhost: vhost()?,
            exchange: exchange()?,
        },
        Kind::NoSuchQueue => Refusal::NoSuchQueue {
            vhost: vhost()?,
            queue: queue()?,
        },
        Kind::NameReserved => name_reserved(it)?,
        Kind::DefaultExchange => Refusal::DefaultExchange,
        Kind::QueueTypeUnavailable => Refusal::QueueTypeUnavailable {
            name: it.name.into(),
        },
        Kind::InequivalentArgument => inequivalent(it)?,
        Kind::InvalidArgument => invalid(it)?,
        Kind::ResourceLocked => Refusal::ResourceLocked {
            vhost: vhost()?,
            queue: queue()?,
        },
        Kind::ExclusiveWithoutOwner => Refusal::ExclusiveWithoutOwner,
        Kind::ExchangeInUse => Refusal::ExchangeInUse {
            vhost: vhost()?,
            exchange: exchange()?,
        },
        Kind::LimitReached => Refusal::LimitReached {
            object: object()?,
            limit: it.number,
        },
        Kind::NoVhostNamed => Refusal::NoVhostNamed { vhost: vhost()? },
        Kind::NoSuchUser => Refusal::NoSuchUser { user: user()? },
        Kind::UserExists => Refusal::UserExists { user: user()? },
        Kind::VhostProtected => Refusal::VhostProtected { vhost: vhost()? },
        Kind::VhostLimitReached => vhost_limit(&it)?,
        Kind::BatchInvalid => Refusal::BatchInvalid,
        Kind::PlacementRefused => placement(it.number)?,
        Kind::VersionNotKnown => version::decode_not_known(&it),
        Kind::VersionGoesBack => version::decode_goes_back(&it),
        Kind::SoftwareNotFit => version::decode_not_fit(&it),
    })
}

fn placement(number: u64) -> Result<Refusal, CodecError> {
    let found = (1..).zip(PlacementFault::ALL).find(|(it, _)| *it == number);
    found
        .map(|(_, reason)| Refusal::PlacementRefused { reason })
        .ok_or(CodecError::UnknownValue {
            what: "refusal of a placement",
            number: i64::try_from(number).unwrap_or(i64::MAX),
        })
}

fn name_reserved(it: pb::CommandRefusal) -> Result<Refusal, CodecError> {
    Ok(Refusal::NameReserved {
        object: decode_object(it.object)?,
        name: it.name.into(),
    })
}

fn vhost_limit(it: &pb::CommandRefusal) -> Result<Refusal, CodecError> {
    Ok(Refusal::VhostLimitReached {
        vhost: VhostName::try_from(it.vhost.as_str())?,
        object: decode_object(it.object)?,
        limit: it.number,
    })
}

fn inequivalent(it: pb::CommandRefusal) -> Result<Refusal, CodecError> {
    Ok(Refusal::InequivalentArgument {
        object: decode_object(it.object)?,
        vhost: VhostName::try_from(it.vhost.as_str())?,
        name: it.name.into(),
        argument: it.argument.into(),
        received: it.received.into(),
        current: it.current.into(),
    })
}

fn invalid(it: pb::CommandRefusal) -> Result<Refusal, CodecError> {
    Ok(Refusal::InvalidArgument {
        object: decode_object(it.object)?,
        name: it.name.into(),
        argument: it.argument.into(),
        reason: it.reason.into(),
    })
}

fn object(it: ObjectKind) -> pb::CommandObject {
    match it {
        ObjectKind::Exchange => pb::CommandObject::Exchange,
        ObjectKind::Queue => pb::CommandObject::Queue,
        ObjectKind::Binding => pb::CommandObject::Binding,
        ObjectKind::Vhost => pb::CommandObject::Vhost,
        ObjectKind::User => pb::CommandObject::User,
        ObjectKind::Permission => pb::CommandObject::Permission,
        ObjectKind::Parameter => pb::CommandObject::Parameter,
        ObjectKind::Policy => pb::CommandObject::Policy,
    }
}

fn decode_object(number: i32) -> Result<ObjectKind, CodecError> {
    let unknown = || CodecError::UnknownValue {
        what: "kind of object",
        number: i64::from(number),
    };
    match pb::CommandObject::try_from(number).map_err(|_| unknown())? {
        pb::CommandObject::Exchange => Ok(ObjectKind::Exchange),
        pb::CommandObject::Queue => Ok(ObjectKind::Queue),
        pb::CommandObject::Binding => Ok(ObjectKind::Binding),
        pb::CommandObject::Vhost => Ok(ObjectKind::Vhost),
        pb::CommandObject::User => Ok(ObjectKind::User),
        pb::CommandObject::Permission => Ok(ObjectKind::Permission),
        pb::CommandObject::Parameter => Ok(ObjectKind::Parameter),
        pb::CommandObject::Policy => Ok(ObjectKind::Policy),
        pb::CommandObject::Unspecified => Err(unknown()),
    }
}

fn fault(it: ClusterFault) -> u64 {
    match it {
        ClusterFault::NoNodes => 1,
        ClusterFault::NodeNumbers => 2,
        ClusterFault::Shards => 3,
        ClusterFault::ReplicationFactor => 4,
        ClusterFault::TopologyMembers => 5,
        ClusterFault::Version => 6,
    }
}

fn decode_fault(number: u64) -> Result<ClusterFault, CodecError> {
    match number {
        1 => Ok(ClusterFault::NoNodes),
        2 => Ok(ClusterFault::NodeNumbers),
        3 => Ok(ClusterFault::Shards),
        4 => Ok(ClusterFault::ReplicationFactor),
        5 => Ok(ClusterFault::TopologyMembers),
        6 => Ok(ClusterFault::Version),
        _ => Err(malformed(
            "refusal",
            "what is wrong with the cluster is not known",
        )),
    }
}
