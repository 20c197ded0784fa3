//! Fixed values of what came to stored formats with messages' states. Not here: tests, the rest (`samples`).

use bytes::Bytes;
use warren_queue::{entry::*, rows::*};
use warren_types::*;

use super::{entry, facts, queue_row, ranges};

pub(super) fn origin_row() -> OriginRow {
    OriginRow {
        run: Run(2),
        last: BatchSequence(9),
        exceptions: vec![(BatchSequence(8), vec![(1, NotStored::Duplicate)])],
        remembered_from: BatchSequence(3),
        places: vec![],
    }
}

/// An entry with what came to commands later, and with the commands that came later.
pub fn entry_of_states() -> ShardEntry {
    let queue = QueueId(300);
    let commands = vec![
        Command::Enqueue(Enqueue {
            queue,
            priority: Priority::DEFAULT,
            facts: facts(),
            payload: Bytes::from_static(b"abcdefg"),
            producers: vec![],
            raise: None,
            full: vec![IndexRange { first: 1, count: 1 }],
            dedup: None,
        }),
        Command::Release(Release {
            queue,
            ranges: ranges(),
            hand_out: true,
        }),
        Command::Purge(Purge {
            queue,
            below: Position(50),
            except: vec![],
            states: PurgeStates {
                ready: false,
                delayed: false,
                scheduled: true,
                parked: true,
                dead_lettering: false,
            },
        }),
        Command::Park(Park {
            queue,
            ranges: ranges(),
            cause: ParkCause::DeliveryLimit,
            kind: ReturnKind::Failed,
        }),
        Command::Rearm(Rearm {
            queue,
            blocks: vec![(Priority::MAX, Position(4))],
        }),
    ];
    ShardEntry {
        origins: vec![],
        commands,
        ..entry()
    }
}

/// What came later.
pub(super) fn rows_of_states(
    queue: QueueId,
    priority: Priority,
    first: Position,
) -> Vec<(&'static str, RowKey, Row)> {
    let marks = RowKey::Marks {
        queue,
        priority,
        first,
    };
    let timer = RowKey::Timer {
        queue,
        at: ShardTime(9_000),
        priority,
        first,
    };
    let counts = RowKey::Counts {
        queue,
        priority,
        first,
    };
    let row = MarksRow {
        released: ranges(),
        parked: vec![
            (Position(4), ParkCause::Rejected),
            (Position(9), ParkCause::DeliveryLimit),
        ],
        timer: Some(ShardTime(9_000)),
    };
    let delayed = CountsRow {
        counts: vec![(Position(4), 1, 2), (Position(10), 0, 1)],
        delayed: vec![(Position(10), ShardTime(77))],
        said: vec![],
    };
    let remarks = CountsRow {
        counts: vec![(Position(4), 1, 2)],
        delayed: vec![],
        said: vec![
            (Position(4), vec![said_at(70), said_at(80)]),
            (Position(5), vec![said_at(90)]),
        ],
    };
    vec![
        ("marks", marks, Row::Marks(row)),
        ("timer", timer, Row::Timer),
        ("delayed", counts.clone(), Row::Counts(delayed)),
        ("remarks", counts, Row::Counts(remarks)),
    ]
}

/// An entry with the commands that came with cancels.
pub fn entry_of_cancels() -> ShardEntry {
    let queue = QueueId(300);
    let commands = vec![Command::Cancel(Cancel {
        queue,
        ranges: ranges(),
    })];
    ShardEntry {
        origins: vec![],
        commands,
        ..entry()
    }
}

/// An entry with what came with the limit of parked messages.
pub fn entry_of_parked() -> ShardEntry {
    let queue = QueueId(300);
    let commands = vec![Command::DropParked(DropParked { queue, keep: 9 })];
    ShardEntry {
        origins: vec![],
        commands,
        ..entry()
    }
}

/// What came with cancels.
pub(super) fn rows_of_memories(
    queue: QueueId,
    priority: Priority,
) -> Vec<(&'static str, RowKey, Row)> {
    let of = MemoryOf::Cancels;
    let at = ShardTime(9_000);
    let mut remembering = queue_row(queue, priority);
    remembering.counters.cancelled = 6;
    remembering.memories = vec![(of, MemorySpan { first: 2, next: 7 })];
    let mut placed = origin_row();
    placed.places = vec![(BatchSequence(9), vec![Position(4), Position(0)])];
    vec![
        (
            "memory",
            RowKey::Memory { queue, of, key: 77 },
            Row::Memory(MemoryRow {
                number: 6,
                at,
                check: 0,
            }),
        ),
        (
            "memory_order",
            RowKey::MemoryOrder {
                queue,
                of,
                number: 6,
            },
            Row::MemoryOrder(MemoryOrderRow { key: 77, at }),
        ),
        (
            "queue_with_memories",
            RowKey::Queue(queue),
            Row::Queue(remembering),
        ),
        (
            "origin_with_places",
            RowKey::Origin(Incarnation(258)),
            Row::Origin(placed),
        ),
        (
            "memory_of_a_key",
            RowKey::Memory {
                queue,
                of: MemoryOf::Dedup,
                key: 77,
            },
            Row::Memory(MemoryRow {
                number: 6,
                at,
                check: 99,
            }),
        ),
    ]
}

/// An entry of a queue that deduplicates.
pub fn entry_of_keys() -> ShardEntry {
    let mut entry = entry_of_states();
    if let Some(Command::Enqueue(it)) = entry.commands.first_mut() {
        it.facts.dedup_body = vec![10, 11];
        it.dedup = Some(Dedup {
            window_ms: 600_000,
            keys_max: 100_000,
        });
    }
    entry.commands.truncate(1);
    entry
}

/// An entry with an atomic batch.
pub fn entry_of_a_batch() -> ShardEntry {
    let blocks = entry_of_keys().commands.into_iter().filter_map(|it| {
        if let Command::Enqueue(it) = it {
            Some(it)
        } else {
            None
        }
    });
    let blocks = blocks.collect();
    ShardEntry {
        commands: vec![Command::EnqueueTogether(EnqueueTogether { blocks })],
        ..entry_of_keys()
    }
}

/// An entry with an ack that has outputs.
pub fn entry_of_outputs() -> ShardEntry {
    let mut entry = entry_of_a_batch();
    let batches = std::mem::take(&mut entry.commands).into_iter();
    let outputs = batches.filter_map(|it| {
        let Command::EnqueueTogether(it) = it else {
            return None;
        };
        Some(Command::AckWithOutputs(AckWithOutputs {
            queue: QueueId(3),
            position: Position(17),
            attempt: Attempt {
                term: Term(4),
                number: 9,
            },
            blocks: it.blocks,
        }))
    });
    entry.commands = outputs.collect();
    entry.origins = Vec::new();
    entry
}

/// An entry with deliveries that end in one.
pub fn entry_of_ends() -> ShardEntry {
    let mut entry = entry_of_outputs();
    let mut blocks = Vec::new();
    for command in std::mem::take(&mut entry.commands) {
        if let Command::AckWithOutputs(it) = command {
            blocks = it.blocks;
        }
    }
    let one = |position| vec![PositionRange::one(Position(position))];
    let delivered = |queue, position| EndedDelivery {
        queue: QueueId(queue),
        position: Position(position),
        attempt: Attempt {
            term: Term(4),
            number: position + 1,
        },
    };
    entry.commands = vec![Command::SettleTogether(SettleTogether {
        deliveries: vec![delivered(3, 17), delivered(3, 18), delivered(300, 5)],
        endings: vec![
            Ending::Settle(Settle {
                queue: QueueId(3),
                ranges: one(17),
                reason: SettleReason::Acked,
            }),
            Ending::Remark(Remark {
                queue: QueueId(3),
                ranges: one(18),
                said: said_at(0).said,
            }),
            Ending::Return(Return {
                queue: QueueId(3),
                ranges: one(18),
                kind: ReturnKind::Failed,
                not_before: Some(ShardTime(900)),
            }),
            Ending::Park(Park {
                queue: QueueId(300),
                ranges: one(5),
                cause: ParkCause::Rejected,
                kind: ReturnKind::Untouched,
            }),
        ],
        blocks,
    })];
    entry
}

/// An entry with what a consumer says of deliveries.
pub fn entry_of_remarks() -> ShardEntry {
    let queue = QueueId(300);
    let commands = vec![Command::Remark(Remark {
        queue,
        ranges: ranges(),
        said: said_at(0).said,
    })];
    ShardEntry {
        origins: vec![],
        commands,
        ..entry()
    }
}

fn said_at(at: u64) -> SaidAt {
    let said = Said::new(
        AttemptOutcome::Failed,
        "no answer",
        "after 30 s",
        "worker-1",
    );
    SaidAt {
        at: ShardTime(at),
        said: said.unwrap(),
    }
}

/// An entry with a dead letter that begins its way together with another end.
pub fn entry_of_dying() -> ShardEntry {
    let mut entry = entry_of_ends();
    let dying = Ending::MoveOut(MoveOut {
        queue: QueueId(300),
        ranges: vec![PositionRange::one(Position(5))],
        reason: SettleReason::Rejected,
        exchange: ExchangeName::try_from("dead").unwrap(),
        routing_key: Some(RoutingKey::try_from("letters").unwrap()),
        priority: None,
        targets: vec![MoveTarget {
            shard: ShardId(9),
            queues: vec![QueueId(4), QueueId(5)],
        }],
    });
    for command in &mut entry.commands {
        if let Command::SettleTogether(it) = command {
            it.endings.pop();
            it.endings.push(dying.clone());
        }
    }
    entry
}
