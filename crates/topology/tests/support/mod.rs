//! A formed cluster and short ways to command it. Not here: tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use warren_topology::{
    Addresses, Bind, BindTo, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue,
    ExchangeKind, FormCluster, NewQueueName, Node, Published, QueueOwner, Software, Topology,
    TopologyCommand, TopologyReply, Unbind, Vhost,
};
use warren_types::{
    ClusterId, ClusterVersion, ExchangeName, Incarnation, Member, NodeId, QueueName, ReplicaId,
    RoutingKey, Run, Table, TopologyIndex,
};

pub fn form(nodes: u64, shards: u32) -> FormCluster {
    FormCluster {
        cluster: ClusterId(7),
        name: "test".into(),
        version: ClusterVersion::FIRST,
        nodes: (1..=nodes)
            .map(|id| Node {
                id: NodeId(id),
                incarnation: Incarnation(u128::from(id) + 100),
                addresses: Addresses {
                    node: format!("127.0.0.1:{}", 7200 + id).into(),
                    grpc: format!("127.0.0.1:{}", 7100 + id).into(),
                    amqp: "".into(),
                },
                zone: "".into(),
                leaving: false,
                former: Vec::new(),
                software: Software::default(),
            })
            .collect(),
        topology_members: (1..=nodes)
            .map(|id| Member {
                replica: ReplicaId(id),
                node: NodeId(id),
            })
            .collect(),
        shards,
        replication_factor: 3,
    }
}

pub fn formed() -> Topology {
    let mut topology = Topology::new();
    run(&mut topology, TopologyCommand::FormCluster(form(3, 4)));
    topology
}

/// Applies at the next index.
pub fn run(topology: &mut Topology, command: TopologyCommand) -> TopologyReply {
    topology.apply(TopologyIndex(topology.index().0 + 1), command)
}

pub fn queue(name: &str) -> DeclareQueue {
    DeclareQueue {
        vhost: Vhost::ROOT,
        name: NewQueueName::Named(QueueName::try_from(name).unwrap()),
        durable: true,
        auto_delete: false,
        exclusive: false,
        arguments: Table::new(),
        requester: None,
    }
}

pub fn declare_queue(name: &str) -> TopologyCommand {
    TopologyCommand::DeclareQueue(queue(name))
}

pub fn delete_queue(name: &str) -> TopologyCommand {
    TopologyCommand::DeleteQueue(DeleteQueue {
        vhost: Vhost::ROOT,
        name: QueueName::try_from(name).unwrap(),
        only: None,
        requester: None,
    })
}

pub fn exchange(name: &str, kind: ExchangeKind) -> DeclareExchange {
    DeclareExchange {
        vhost: Vhost::ROOT,
        name: ExchangeName::try_from(name).unwrap(),
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

pub fn declare_exchange(name: &str, kind: ExchangeKind) -> TopologyCommand {
    TopologyCommand::DeclareExchange(exchange(name, kind))
}

pub fn delete_exchange(name: &str) -> TopologyCommand {
    TopologyCommand::DeleteExchange(DeleteExchange {
        vhost: Vhost::ROOT,
        name: ExchangeName::try_from(name).unwrap(),
        if_unused: false,
    })
}

pub fn bind_with(source: &str, key: &str, queue: &str, arguments: Table) -> TopologyCommand {
    TopologyCommand::Bind(Bind {
        vhost: Vhost::ROOT,
        source: ExchangeName::try_from(source).unwrap(),
        to: BindTo::Queue(QueueName::try_from(queue).unwrap()),
        routing_key: RoutingKey::try_from(key).unwrap(),
        arguments,
        requester: None,
    })
}

pub fn bind(source: &str, key: &str, queue: &str) -> TopologyCommand {
    bind_with(source, key, queue, Table::new())
}

pub fn unbind_with(source: &str, key: &str, queue: &str, arguments: Table) -> TopologyCommand {
    TopologyCommand::Unbind(Unbind {
        vhost: Vhost::ROOT,
        source: ExchangeName::try_from(source).unwrap(),
        to: BindTo::Queue(QueueName::try_from(queue).unwrap()),
        routing_key: RoutingKey::try_from(key).unwrap(),
        arguments,
        requester: None,
    })
}

pub fn unbind(source: &str, key: &str, queue: &str) -> TopologyCommand {
    unbind_with(source, key, queue, Table::new())
}

pub fn bind_exchange(source: &str, key: &str, to: &str) -> TopologyCommand {
    TopologyCommand::Bind(Bind {
        vhost: Vhost::ROOT,
        source: ExchangeName::try_from(source).unwrap(),
        to: BindTo::Exchange(ExchangeName::try_from(to).unwrap()),
        routing_key: RoutingKey::try_from(key).unwrap(),
        arguments: Table::new(),
        requester: None,
    })
}

pub fn unbind_exchange(source: &str, key: &str, to: &str) -> TopologyCommand {
    TopologyCommand::Unbind(Unbind {
        vhost: Vhost::ROOT,
        source: ExchangeName::try_from(source).unwrap(),
        to: BindTo::Exchange(ExchangeName::try_from(to).unwrap()),
        routing_key: RoutingKey::try_from(key).unwrap(),
        arguments: Table::new(),
        requester: None,
    })
}

pub fn connection(number: u64) -> QueueOwner {
    QueueOwner::Connection {
        node: NodeId(1),
        run: Run(1),
        connection: number,
    }
}

/// Names of the queues a message goes to, sorted.
pub fn routed(topology: &Topology, exchange: &str, key: &str) -> Vec<String> {
    routed_as(topology, &Published::new(exchange, key))
}

pub fn routed_as(topology: &Topology, message: &Published<'_>) -> Vec<String> {
    let mut targets = warren_topology::Targets::new();
    topology.route(Vhost::ROOT, message, &mut targets).unwrap();
    let mut names: Vec<String> = targets
        .iter()
        .map(|it| {
            let queue = topology.queue_by_id(it.queue).unwrap();
            assert_eq!(queue.shard, it.shard);
            queue.name.to_string()
        })
        .collect();
    names.sort();
    names
}
