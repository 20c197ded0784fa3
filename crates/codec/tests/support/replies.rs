//! One of every reply and refusal. Not here: tests, commands (`samples`).
#![allow(unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

use warren_topology::{ClusterFault, Declared, ObjectKind, Refusal, TopologyReply};
use warren_types::*;

fn queue_name(name: &str) -> QueueName {
    QueueName::try_from(name).unwrap()
}

fn user_name() -> UserName {
    UserName::try_from("u").unwrap()
}

fn refusals() -> Vec<Refusal> {
    let vhost = VhostName::try_from("/").unwrap();
    let exchange = ExchangeName::try_from("x").unwrap();
    let queue = queue_name("q");
    vec![
        Refusal::ClusterNotFormed,
        Refusal::ClusterFormedOtherwise {
            cluster: ClusterId(3),
        },
        Refusal::ClusterInvalid {
            reason: ClusterFault::TopologyMembers,
        },
        Refusal::NoSuchNode { node: NodeId(1) },
        Refusal::OtherIncarnation { node: NodeId(1) },
        Refusal::NoSuchVhost { vhost: VhostId(2) },
        Refusal::NoSuchExchange {
            vhost: vhost.clone(),
            exchange: exchange.clone(),
        },
        Refusal::NoSuchQueue {
            vhost: vhost.clone(),
            queue: queue.clone(),
        },
        Refusal::NameReserved {
            object: ObjectKind::Queue,
            name: "amq.q".into(),
        },
        Refusal::DefaultExchange,
        Refusal::QueueTypeUnavailable {
            name: "stream".into(),
        },
        Refusal::InequivalentArgument {
            object: ObjectKind::Exchange,
            name: "x".into(),
            vhost: vhost.clone(),
            argument: "durable".into(),
            received: "a".into(),
            current: "b".into(),
        },
        Refusal::InvalidArgument {
            object: ObjectKind::Queue,
            name: "q".into(),
            argument: "x".into(),
            reason: "r".into(),
        },
        Refusal::ResourceLocked {
            vhost: vhost.clone(),
            queue: queue.clone(),
        },
        Refusal::ExclusiveWithoutOwner,
        Refusal::ExchangeInUse { vhost, exchange },
        Refusal::LimitReached {
            object: ObjectKind::Binding,
            limit: 5,
        },
    ]
}

fn tenancy_refusals() -> Vec<Refusal> {
    vec![
        Refusal::NoVhostNamed {
            vhost: VhostName::try_from("v").unwrap(),
        },
        Refusal::NoSuchUser { user: user_name() },
        Refusal::UserExists { user: user_name() },
        Refusal::VhostProtected {
            vhost: VhostName::try_from("v").unwrap(),
        },
        Refusal::VhostLimitReached {
            vhost: VhostName::try_from("v").unwrap(),
            object: ObjectKind::Parameter,
            limit: 1,
        },
        Refusal::LimitReached {
            object: ObjectKind::Permission,
            limit: 2,
        },
        Refusal::BatchInvalid,
        Refusal::PlacementRefused {
            reason: warren_topology::PlacementFault::Nothing,
        },
        Refusal::PlacementRefused {
            reason: warren_topology::PlacementFault::NoSuchGroup,
        },
        Refusal::ClusterInvalid {
            reason: ClusterFault::Version,
        },
        Refusal::VersionNotKnown {
            version: ClusterVersion(3),
            node: NodeId(2),
            knows: KnownVersions::FIRST,
        },
        Refusal::VersionGoesBack {
            version: ClusterVersion(1),
            finalised: ClusterVersion(2),
        },
        Refusal::SoftwareNotFit {
            node: NodeId(2),
            knows: KnownVersions::FIRST,
            finalised: ClusterVersion(2),
        },
    ]
}

pub fn replies() -> Vec<TopologyReply> {
    let mut replies = vec![
        TopologyReply::ClusterFormed(Declared::Created),
        TopologyReply::ClusterFormed(Declared::Existed),
        TopologyReply::NodeUpdated,
        TopologyReply::ExchangeDeclared {
            exchange: ExchangeId(4),
            declared: Declared::Existed,
        },
        TopologyReply::ExchangeDeleted { exchange: None },
        TopologyReply::ExchangeDeleted {
            exchange: Some(ExchangeId(5)),
        },
        TopologyReply::QueueDeclared {
            queue: QueueId(6),
            shard: ShardId(2),
            name: queue_name("q"),
            declared: Declared::Created,
        },
        TopologyReply::QueueDeleted { queue: None },
        TopologyReply::QueueDeleted {
            queue: Some((QueueId(6), ShardId(2))),
        },
        TopologyReply::Bound(Declared::Created),
        TopologyReply::Unbound { existed: true },
        TopologyReply::VhostCreated {
            vhost: VhostId(4),
            declared: Declared::Created,
        },
        TopologyReply::UserCreated(Declared::Existed),
        TopologyReply::Done { changed: true },
        TopologyReply::Batch(vec![
            TopologyReply::Done { changed: false },
            TopologyReply::Refused(Refusal::DefaultExchange),
        ]),
        TopologyReply::ConsumerNoted { existed: true },
        TopologyReply::PolicySet(Declared::Created),
        TopologyReply::PolicyDeleted { existed: true },
    ];
    let refusals = refusals().into_iter().chain(tenancy_refusals());
    replies.extend(refusals.map(TopologyReply::Refused));
    replies
}
