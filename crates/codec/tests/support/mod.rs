//! Random values of everything that is stored. Not here: tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

mod blocks;
mod messages;
mod moves;
mod states;

use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use warren_queue::{entry::*, rows::*};
use warren_types::*;

use blocks::{block_of_queue, enqueue};
pub use messages::message;
use moves::{move_out, outgoing_row};
use states::{counts_row, marks_row, purge};

pub fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

pub fn priority() -> impl Strategy<Value = Priority> {
    (0..32_u8).prop_map(Priority::clamped)
}

pub fn ranges() -> impl Strategy<Value = Vec<PositionRange>> {
    vec((0..1_000_u64, 1..1_000_u64), 0..5).prop_map(|steps| {
        let mut end = 1;
        let each = steps.into_iter().map(|(gap, count)| {
            let first = Position(end + gap);
            end = first.0 + count;
            PositionRange { first, count }
        });
        each.collect()
    })
}

pub fn time() -> impl Strategy<Value = Option<ShardTime>> {
    option::of((1..u64::MAX).prop_map(ShardTime))
}

fn column<T: std::fmt::Debug + Clone + 'static>(
    of: impl Strategy<Value = T> + 'static,
    count: usize,
) -> BoxedStrategy<Vec<T>> {
    prop_oneof![Just(Vec::new()), vec(of, count..=count)].boxed()
}

/// Facts with a payload that fits them.
pub fn block() -> impl Strategy<Value = (Facts, Bytes)> {
    vec(0..64_u32, 1..6).prop_flat_map(|size| {
        let count = size.len();
        let total: u32 = size.iter().sum();
        let total = usize::try_from(total).unwrap();
        (
            vec(any::<u32>(), count..=count),
            (column(time(), count), column(time(), count)),
            (
                column(any::<u64>(), count),
                column(any::<u64>(), count),
                column(any::<u64>(), count),
                column(any::<u64>(), count),
            ),
            vec(any::<u8>(), total..=total),
        )
            .prop_map(move |(body_size, (expiry, due), hashes, payload)| {
                (
                    Facts {
                        size: size.clone(),
                        body_size,
                        expiry,
                        due,
                        group_hash: hashes.0,
                        fairness_hash: hashes.1,
                        dedup_hash: hashes.2,
                        dedup_body: hashes.3,
                    },
                    Bytes::from(payload),
                )
            })
    })
}

pub fn queue_name() -> impl Strategy<Value = QueueName> {
    "[a-z.é]{1,20}".prop_map(|it| QueueName::try_from(it.as_str()).unwrap())
}

fn producer() -> impl Strategy<Value = ProducerSpan> {
    (bytes(20), any::<u64>(), vec(any::<(u32, u64)>(), 0..4)).prop_map(
        |(producer, epoch, sequences)| ProducerSpan {
            producer: ProducerId(producer),
            epoch,
            sequences,
        },
    )
}

fn reason() -> impl Strategy<Value = SettleReason> {
    prop::sample::select(vec![
        SettleReason::Acked,
        SettleReason::Rejected,
        SettleReason::Expired,
        SettleReason::Dropped,
        SettleReason::DeadLettered,
        SettleReason::NoAck,
        SettleReason::Purged,
        SettleReason::DeliveryLimit,
    ])
}

fn park_cause() -> impl Strategy<Value = ParkCause> {
    prop::sample::select(vec![
        ParkCause::DeliveryLimit,
        ParkCause::Rejected,
        ParkCause::Cycle,
    ])
}

fn command_of_states() -> impl Strategy<Value = Command> {
    let queue = || any::<u64>().prop_map(QueueId);
    let position = || (1..u64::MAX).prop_map(Position);
    prop_oneof![
        (queue(), ranges(), any::<bool>()).prop_map(|(queue, ranges, hand_out)| {
            Command::Release(Release {
                queue,
                ranges,
                hand_out,
            })
        }),
        (queue(), ranges(), park_cause(), any::<bool>()).prop_map(
            |(queue, ranges, cause, failed)| {
                let kind = if failed {
                    ReturnKind::Failed
                } else {
                    ReturnKind::Untouched
                };
                Command::Park(Park {
                    queue,
                    ranges,
                    cause,
                    kind,
                })
            }
        ),
        vec(block_of_queue(), 1..4)
            .prop_map(|blocks| Command::EnqueueTogether(EnqueueTogether { blocks })),
        (
            (queue(), position()),
            any::<(u64, u64)>(),
            vec(block_of_queue(), 1..4)
        )
            .prop_map(|((queue, position), (term, number), blocks)| {
                let term = Term(term);
                Command::AckWithOutputs(AckWithOutputs {
                    queue,
                    position,
                    attempt: Attempt { term, number },
                    blocks,
                })
            }),
        states::settle_together(),
        (queue(), ranges()).prop_map(|(queue, ranges)| Command::Cancel(Cancel { queue, ranges })),
        (queue(), any::<u64>())
            .prop_map(|(queue, keep)| Command::DropParked(DropParked { queue, keep })),
        (queue(), ranges(), states::said()).prop_map(|(queue, ranges, said)| Command::Remark(
            Remark {
                queue,
                ranges,
                said
            }
        )),
        (queue(), vec((priority(), position()), 0..4))
            .prop_map(|(queue, blocks)| Command::Rearm(Rearm { queue, blocks })),
        purge(),
    ]
}

pub fn command() -> impl Strategy<Value = Command> {
    let queue = || any::<u64>().prop_map(QueueId);
    let position = || (1..u64::MAX).prop_map(Position);
    let index = || any::<u64>().prop_map(TopologyIndex);
    let kind = prop::sample::select(vec![ReturnKind::Failed, ReturnKind::Untouched]);
    prop_oneof![
        enqueue(),
        (queue(), ranges(), reason()).prop_map(|(queue, ranges, reason)| Command::Settle(Settle {
            queue,
            ranges,
            reason
        })),
        (queue(), ranges(), kind, time()).prop_map(|(queue, ranges, kind, not_before)| {
            Command::Return(Return {
                queue,
                ranges,
                kind,
                not_before,
            })
        }),
        (
            queue(),
            priority(),
            option::of(position()),
            ranges(),
            ranges()
        )
            .prop_map(|(queue, priority, up_to, except, positions)| {
                Command::HandOut(HandOut {
                    queue,
                    priority,
                    up_to,
                    except,
                    positions,
                })
            }),
        command_of_states(),
        (queue(), any::<u32>(), queue_name(), index()).prop_map(
            |(queue, vhost, name, topology)| {
                Command::CreateQueue(CreateQueue {
                    queue,
                    vhost: VhostId(vhost),
                    name,
                    topology,
                })
            }
        ),
        (queue(), index())
            .prop_map(|(queue, topology)| Command::DeleteQueue(DeleteQueue { queue, topology })),
        (queue(), any::<u64>())
            .prop_map(|(queue, fencing)| Command::Activate(Activate { queue, fencing })),
        move_out().prop_map(Command::MoveOut),
        (any::<(u32, u64, bool)>(), ranges()).prop_map(|((shard, number, keep), refused)| {
            Command::Arrived(Arrived {
                shard: ShardId(shard),
                number,
                refused,
                keep,
            })
        }),
    ]
}

fn batch() -> impl Strategy<Value = OriginBatch> {
    let part = any::<(u32, u32, u32)>().prop_map(|(command, first, count)| OriginPart {
        command,
        first,
        count,
    });
    // Few values, so that batches follow each other, and the ends of the numbers.
    let sequence = prop_oneof![0..4_u64, Just(u64::MAX), Just(u64::MAX - 1)];
    (0..2_u128, 0..2_u64, sequence, vec(part, 0..3)).prop_map(
        |(incarnation, run, sequence, parts)| OriginBatch {
            incarnation: Incarnation(incarnation),
            run: Run(run),
            sequence: BatchSequence(sequence),
            parts,
        },
    )
}

pub fn entry() -> impl Strategy<Value = ShardEntry> {
    (
        any::<(u64, u64, u64)>(),
        any::<(u64, u64)>(),
        vec(batch(), 0..6),
        vec(command(), 0..5),
    )
        .prop_map(
            |(proposal, (now, topology), origins, commands)| ShardEntry {
                proposal: ProposalId {
                    node: NodeId(proposal.0),
                    run: Run(proposal.1),
                    number: proposal.2,
                },
                now: ShardTime(now),
                topology: TopologyIndex(topology),
                origins,
                commands,
            },
        )
}

pub fn key() -> impl Strategy<Value = RowKey> {
    let number = || prop_oneof![0..3_u64, any::<u64>(), Just(u64::MAX)];
    let block = (number(), priority(), number());
    prop_oneof![
        Just(RowKey::Shard),
        any::<u128>().prop_map(|it| RowKey::Origin(Incarnation(it))),
        number().prop_map(|it| RowKey::Queue(QueueId(it))),
        (block, 0..5_u8, number()).prop_map(|((queue, priority, first), kind, at)| {
            let (queue, first) = (QueueId(queue), Position(first));
            match kind {
                0 => RowKey::Block {
                    queue,
                    priority,
                    first,
                },
                1 => RowKey::Settled {
                    queue,
                    priority,
                    first,
                },
                2 => RowKey::Marks {
                    queue,
                    priority,
                    first,
                },
                3 => RowKey::Timer {
                    queue,
                    at: ShardTime(at),
                    priority,
                    first,
                },
                _ => RowKey::Counts {
                    queue,
                    priority,
                    first,
                },
            }
        }),
        (number(), memory_of(), number()).prop_map(|(queue, of, key)| RowKey::Memory {
            queue: QueueId(queue),
            of,
            key
        }),
        (number(), memory_of(), number()).prop_map(|(queue, of, number)| RowKey::MemoryOrder {
            queue: QueueId(queue),
            of,
            number
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(shard, number)| RowKey::Outgoing {
            shard: ShardId(shard),
            number,
        }),
        (number(), bytes(12)).prop_map(|(queue, producer)| RowKey::Producer {
            queue: QueueId(queue),
            producer: ProducerId(producer),
        }),
    ]
}

fn memory_of() -> impl Strategy<Value = MemoryOf> {
    prop::sample::select(MemoryOf::ALL.to_vec())
}

fn origin_row() -> impl Strategy<Value = OriginRow> {
    let reason = prop::sample::select(vec![
        NotStored::QueueGone,
        NotStored::Duplicate,
        NotStored::SequenceTooOld,
        NotStored::ProducerFenced,
        NotStored::QueueFull,
        NotStored::DedupConflict,
        NotStored::BatchRefused,
        NotStored::BatchAborted,
    ]);
    let exceptions = vec(vec((any::<u32>(), reason), 1..4), 0..4);
    let places = vec(
        (any::<u64>(), vec(any::<u64>().prop_map(Position), 1..4)),
        0..4,
    );
    (any::<(u64, u64, u64)>(), exceptions, places).prop_map(
        |((run, last, from), exceptions, places)| OriginRow {
            run: Run(run),
            last: BatchSequence(last),
            exceptions: (1..).map(BatchSequence).zip(exceptions).collect(),
            remembered_from: BatchSequence(from),
            places: places
                .into_iter()
                .map(|(sequence, first)| (BatchSequence(sequence), first))
                .collect(),
        },
    )
}

fn queue_row(queue: QueueId) -> impl Strategy<Value = QueueRow> {
    let level = (priority(), any::<(u64, u64, u64)>(), ranges()).prop_map(
        |(priority, (head, live, mark), released)| LevelRow {
            scheduled: live / 3,
            parked: live / 2,
            priority,
            head: Position(head),
            live,
            handed_out: Position(mark),
            released,
        },
    );
    (
        any::<(u32, u64)>(),
        queue_name(),
        vec(level, 0..3),
        any::<[u64; 17]>(),
    )
        .prop_map(move |((vhost, next), name, levels, it)| QueueRow {
            queue,
            vhost: VhostId(vhost),
            name,
            next: Position(next),
            levels,
            counters: Counters {
                enqueued: it[0],
                acked: it[1],
                rejected: it[2],
                expired: it[3],
                dropped: it[4],
                dead_lettered: it[5],
                no_ack: it[6],
                purged: it[7],
                live_body_bytes: it[8],
                scheduled_body_bytes: it[10],
                parked_body_bytes: it[11],
                cancelled: it[13],
                duplicates: it[16],
            },
            fencing: it[12],
            memories: MemoryOf::ALL
                .into_iter()
                .map(|of| {
                    let (first, next) = (it[14], it[15]);
                    (of, MemorySpan { first, next })
                })
                .collect(),
        })
}

/// A key with a row of its kind.
pub fn row() -> impl Strategy<Value = (RowKey, Row)> {
    key().prop_flat_map(|key| {
        let row = match &key {
            RowKey::Shard => (any::<(u64, u64)>(), vec(any::<(u32, u64)>(), 0..3))
                .prop_map(|((now, topology), moved)| {
                    Row::Shard(ShardRow {
                        now: ShardTime(now),
                        topology: TopologyIndex(topology),
                        moved_out: moved.into_iter().map(|it| (ShardId(it.0), it.1)).collect(),
                    })
                })
                .boxed(),
            RowKey::Outgoing { .. } => outgoing_row().prop_map(Row::Outgoing).boxed(),
            RowKey::Origin(_) => origin_row().prop_map(Row::Origin).boxed(),
            RowKey::Queue(queue) => queue_row(*queue).prop_map(Row::Queue).boxed(),
            RowKey::Block { first, .. } => {
                let first = *first;
                block()
                    .prop_map(move |(facts, payload)| {
                        Row::Block(BlockRow {
                            first,
                            facts: Arc::new(facts),
                            payload,
                        })
                    })
                    .boxed()
            }
            RowKey::Settled { .. } => ranges()
                .prop_map(|ranges| Row::Settled(SettledRow { ranges }))
                .boxed(),
            RowKey::Counts { .. } => counts_row().prop_map(Row::Counts).boxed(),
            RowKey::Marks { .. } => marks_row().prop_map(Row::Marks).boxed(),
            RowKey::Timer { .. } => Just(Row::Timer).boxed(),
            RowKey::Memory { .. } => any::<(u64, u64, u64)>()
                .prop_map(|(number, at, check)| {
                    let at = ShardTime(at);
                    Row::Memory(MemoryRow { number, at, check })
                })
                .boxed(),
            RowKey::MemoryOrder { .. } => any::<(u64, u64)>()
                .prop_map(|(key, at)| {
                    let at = ShardTime(at);
                    Row::MemoryOrder(MemoryOrderRow { key, at })
                })
                .boxed(),
            RowKey::Producer { .. } => (any::<(u64, u64, u64)>(), vec(any::<u64>(), 0..16))
                .prop_map(|((epoch, last, seen), window)| {
                    Row::Producer(ProducerRow {
                        epoch,
                        last,
                        window,
                        seen: ShardTime(seen),
                    })
                })
                .boxed(),
        };
        (Just(key), row)
    })
}
