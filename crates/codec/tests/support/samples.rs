//! One fixed value of everything that is stored. Not here: tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]
#![allow(clippy::indexing_slicing)]

#[path = "policies.rs"]
mod policies;
#[path = "tenancy.rs"]
mod tenancy;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use warren_codec::{TopologyEntry, encode_message};
use warren_queue::{entry::*, rows::*};
use warren_topology::{
    Addresses, Bind, BindTo, DeclareExchange, DeclareQueue, DeleteExchange, ExchangeKind,
    FormCluster, NewQueueName, QueueOwner, Refusal, Topology, TopologyCommand, TopologyReply,
    Unbind, UpdateNode, Vhost,
};
use warren_types::*;

#[path = "samples_of_placement.rs"]
mod placement;
#[path = "samples_of_states.rs"]
mod states;
#[path = "samples_of_versions.rs"]
mod versions;
use placement::node;
pub use states::*;

fn queue_name(name: &str) -> QueueName {
    QueueName::try_from(name).unwrap()
}

pub fn encoded_message() -> Bytes {
    let mut out = BytesMut::new();
    let message = Message {
        exchange: ExchangeName::try_from("amq.direct").unwrap(),
        routing_key: RoutingKey::try_from("orders").unwrap(),
        properties: PropertiesBuilder::new()
            .content_type("text/plain")
            .delivery_mode(2)
            .build()
            .unwrap(),
        body: Bytes::from_static(b"hello"),
        priority: Priority::DEFAULT,
        ttl_ms: None,
        delay_ms: None,
        group_hash: 0,
        fairness_hash: 0,
        dedup_hash: 0,
        user: Some(UserName::try_from("guest").unwrap()),
        trace: Bytes::from_static(b"00-1-2-01\n"),
        died: false,
    };
    encode_message(&mut out, &message, ShardTime(1_700_000_000_000));
    out.freeze()
}

fn facts() -> Facts {
    Facts {
        size: vec![3, 4],
        body_size: vec![1, 2],
        expiry: vec![None, Some(ShardTime(9))],
        due: vec![],
        group_hash: vec![5, 6],
        fairness_hash: vec![],
        dedup_hash: vec![7, 8],
        dedup_body: vec![],
    }
}

fn ranges() -> Vec<PositionRange> {
    vec![
        PositionRange::one(Position(4)),
        PositionRange {
            first: Position(9),
            count: 3,
        },
    ]
}

pub fn entry() -> ShardEntry {
    let queue = QueueId(300);
    let batch = |sequence| OriginBatch {
        incarnation: Incarnation(0x0102),
        run: Run(2),
        sequence: BatchSequence(sequence),
        parts: vec![OriginPart {
            command: 0,
            first: 0,
            count: 2,
        }],
    };
    ShardEntry {
        proposal: ProposalId {
            node: NodeId(1),
            run: Run(2),
            number: 3,
        },
        now: ShardTime(1_700_000_000_000),
        topology: TopologyIndex(77),
        origins: vec![batch(8), batch(9)],
        commands: shard_commands(queue),
    }
}

fn shard_commands(queue: QueueId) -> Vec<Command> {
    let mut commands = vec![
        Command::Enqueue(Enqueue {
            queue,
            priority: Priority::DEFAULT,
            facts: facts(),
            payload: Bytes::from_static(b"abcdefg"),
            producers: vec![ProducerSpan {
                producer: ProducerId(Bytes::from_static(b"p")),
                epoch: 1,
                sequences: vec![(0, 41), (1, 42)],
            }],
            raise: Some(0),
            full: vec![],
            dedup: None,
        }),
        Command::Settle(Settle {
            queue,
            ranges: ranges(),
            reason: SettleReason::NoAck,
        }),
        Command::Return(Return {
            queue,
            ranges: ranges(),
            kind: ReturnKind::Failed,
            not_before: Some(ShardTime(5)),
        }),
        Command::HandOut(HandOut {
            queue,
            priority: Priority::MAX,
            up_to: Some(Position(100)),
            except: ranges(),
            positions: vec![],
        }),
    ];
    commands.extend(more_shard_commands(queue));
    commands
}

fn more_shard_commands(queue: QueueId) -> Vec<Command> {
    vec![
        Command::Release(Release {
            queue,
            ranges: ranges(),
            hand_out: false,
        }),
        Command::CreateQueue(CreateQueue {
            queue,
            vhost: VhostId(1),
            name: queue_name("orders"),
            topology: TopologyIndex(7),
        }),
        Command::DeleteQueue(DeleteQueue {
            queue,
            topology: TopologyIndex(8),
        }),
        Command::Purge(Purge {
            queue,
            below: Position(50),
            except: ranges(),
            states: PurgeStates::default(),
        }),
    ]
}

fn queue_row(queue: QueueId, priority: Priority) -> QueueRow {
    QueueRow {
        queue,
        vhost: VhostId(1),
        name: queue_name("orders"),
        next: Position(12),
        levels: vec![LevelRow {
            priority,
            head: Position(4),
            live: 5,
            handed_out: Position(6),
            released: ranges(),
            scheduled: 0,
            parked: 0,
        }],
        counters: Counters {
            enqueued: 11,
            acked: 1,
            rejected: 2,
            expired: 3,
            dropped: 0,
            dead_lettered: 0,
            no_ack: 0,
            purged: 0,
            live_body_bytes: 500,
            ..Counters::default()
        },
        fencing: 0,
        memories: vec![],
    }
}

pub fn rows() -> Vec<(&'static str, RowKey, Row)> {
    let queue = QueueId(300);
    let (priority, first) = (Priority::DEFAULT, Position(4));
    let mut rows = vec![
        (
            "shard",
            RowKey::Shard,
            Row::Shard(ShardRow {
                now: ShardTime(5),
                topology: TopologyIndex(6),
                moved_out: std::collections::BTreeMap::new(),
            }),
        ),
        (
            "origin",
            RowKey::Origin(Incarnation(258)),
            Row::Origin(origin_row()),
        ),
        (
            "queue",
            RowKey::Queue(queue),
            Row::Queue(queue_row(queue, priority)),
        ),
        (
            "block",
            RowKey::Block {
                queue,
                priority,
                first,
            },
            Row::Block(BlockRow {
                first,
                facts: Arc::new(facts()),
                payload: Bytes::from_static(b"abcdefg"),
            }),
        ),
    ];
    rows.extend(rows_of_block(queue, priority, first));
    rows.extend(rows_of_states(queue, priority, first));
    rows.extend(rows_of_memories(queue, priority));
    rows
}

fn rows_of_block(
    queue: QueueId,
    priority: Priority,
    first: Position,
) -> Vec<(&'static str, RowKey, Row)> {
    vec![
        (
            "settled",
            RowKey::Settled {
                queue,
                priority,
                first,
            },
            Row::Settled(SettledRow { ranges: ranges() }),
        ),
        (
            "counts",
            RowKey::Counts {
                queue,
                priority,
                first,
            },
            Row::Counts(CountsRow {
                counts: vec![(Position(4), 1, 2), (Position(10), 0, 1)],
                delayed: vec![],
                said: vec![],
            }),
        ),
        (
            "producer",
            RowKey::Producer {
                queue,
                producer: ProducerId(Bytes::from_static(b"p-1")),
            },
            Row::Producer(ProducerRow {
                epoch: 1,
                last: 42,
                window: vec![3, 0],
                seen: ShardTime(9),
            }),
        ),
    ]
}

fn commands() -> Vec<(&'static str, TopologyCommand)> {
    let mut commands = cluster_commands();
    commands.extend(object_commands());
    commands.extend(tenancy::commands());
    commands.extend(exchange_bindings());
    let noted = warren_topology::NoteConsumer { queue: QueueId(1) };
    commands.push(("note_consumer", TopologyCommand::NoteConsumer(noted)));
    commands.extend(policies::policies());
    commands.extend(placement::commands());
    commands
}

/// From exchange `x` to the predeclared fanout.
fn exchange_bindings() -> Vec<(&'static str, TopologyCommand)> {
    let name = |name| ExchangeName::try_from(name).unwrap();
    let to = BindTo::Exchange(name("amq.fanout"));
    vec![
        (
            "bind_exchange",
            TopologyCommand::Bind(Bind {
                vhost: Vhost::ROOT,
                source: name("x"),
                to: to.clone(),
                routing_key: RoutingKey::try_from("k").unwrap(),
                arguments: Table::new(),
                requester: None,
            }),
        ),
        (
            "unbind_exchange",
            TopologyCommand::Unbind(Unbind {
                vhost: Vhost::ROOT,
                source: name("x"),
                to,
                routing_key: RoutingKey::try_from("other").unwrap(),
                arguments: Table::new(),
                requester: None,
            }),
        ),
    ]
}

fn cluster_commands() -> Vec<(&'static str, TopologyCommand)> {
    let members = (1..4).map(|id| Member {
        replica: ReplicaId(id),
        node: NodeId(id),
    });
    vec![
        (
            "form_cluster",
            TopologyCommand::FormCluster(FormCluster {
                cluster: ClusterId(7),
                name: "c".into(),
                version: ClusterVersion::FIRST,
                nodes: (1..4).map(node).collect(),
                topology_members: members.collect(),
                shards: 2,
                replication_factor: 3,
            }),
        ),
        (
            "update_node",
            TopologyCommand::UpdateNode(UpdateNode {
                node: NodeId(2),
                incarnation: Incarnation(2),
                addresses: Addresses::default(),
                zone: "y".into(),
                software: warren_topology::Software::default(),
            }),
        ),
    ]
}

fn queue_declares() -> Vec<(&'static str, TopologyCommand)> {
    let vhost = Vhost::ROOT;
    let declare = DeclareQueue {
        vhost,
        name: NewQueueName::Named(queue_name("orders")),
        durable: true,
        auto_delete: true,
        exclusive: true,
        arguments: Table::new().with("x-max-length", 5_i32),
        requester: Some(QueueOwner::Client("me".into())),
    };
    let generated = DeclareQueue {
        name: NewQueueName::Generated {
            prefix: None,
            token: 99,
        },
        requester: Some(connection()),
        ..declare.clone()
    };
    vec![
        ("declare_queue", TopologyCommand::DeclareQueue(declare)),
        (
            "declare_generated",
            TopologyCommand::DeclareQueue(generated),
        ),
    ]
}

fn connection() -> QueueOwner {
    QueueOwner::Connection {
        node: NodeId(1),
        run: Run(2),
        connection: 3,
    }
}

fn object_commands() -> Vec<(&'static str, TopologyCommand)> {
    let vhost = Vhost::ROOT;
    let exchange = ExchangeName::try_from("x").unwrap();
    let routing_key = RoutingKey::try_from("k").unwrap();
    let bind = Bind {
        vhost,
        source: exchange.clone(),
        to: BindTo::Queue(queue_name("orders")),
        routing_key: routing_key.clone(),
        arguments: Table::new().with("a", "b"),
        requester: Some(QueueOwner::Client("me".into())),
    };
    let mut commands = vec![(
        "declare_exchange",
        TopologyCommand::DeclareExchange(DeclareExchange {
            vhost,
            name: exchange.clone(),
            kind: ExchangeKind::Fanout,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::new().with("alternate-exchange", "y"),
        }),
    )];
    commands.extend(queue_declares());
    commands.extend([
        ("bind", TopologyCommand::Bind(bind.clone())),
        (
            "unbind",
            TopologyCommand::Unbind(Unbind {
                vhost,
                source: exchange.clone(),
                to: BindTo::Queue(queue_name("other")),
                routing_key,
                arguments: Table::new(),
                requester: None,
            }),
        ),
        (
            "delete_queue",
            TopologyCommand::DeleteQueue(warren_topology::DeleteQueue {
                vhost,
                name: queue_name("none"),
                only: Some(QueueId(4)),
                requester: Some(connection()),
            }),
        ),
        (
            "delete_exchange",
            TopologyCommand::DeleteExchange(DeleteExchange {
                vhost,
                name: exchange,
                if_unused: true,
            }),
        ),
    ]);
    commands
}

pub fn topology_entries() -> Vec<(&'static str, TopologyEntry)> {
    let later = std::iter::once(tenancy::later_settings()).chain(versions::commands());
    let commands = commands().into_iter().chain(later);
    let commands = commands.chain(placement::later());
    let entries = commands.map(|(name, command)| {
        let entry = TopologyEntry {
            proposal: ProposalId {
                node: NodeId(1),
                run: Run(2),
                number: 3,
            },
            now: ShardTime(4),
            command,
        };
        (name, entry)
    });
    entries.collect()
}

/// The cluster of `topology`, when all nodes know a later version and it is finalised.
pub fn upgraded() -> Topology {
    versions::upgraded(topology())
}

/// That one, with as many copies as somebody wants.
pub fn copies() -> Topology {
    placement::with_copies(upgraded())
}

/// After all the commands: a cluster with an exchange, two exclusive queues and a binding.
pub fn topology() -> Topology {
    let mut topology = Topology::new();
    for (at, (name, command)) in (1..).zip(commands()) {
        let reply = topology.apply(TopologyIndex(at), command);
        let in_use = matches!(reply, TopologyReply::Refused(Refusal::ExchangeInUse { .. }));
        let refused = matches!(reply, TopologyReply::Refused(_));
        assert_eq!(refused, name == "delete_exchange", "{name}: {reply:?}");
        assert_eq!(in_use, refused);
    }
    topology
}
