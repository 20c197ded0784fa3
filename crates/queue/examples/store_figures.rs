//! Prints what `apply` costs per message, in blocks of 100, on rows in memory. Not here: disk, log, network; pass or fail.
//! Run with `cargo run --release --package warren-queue --example store_figures`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use warren_queue::entry::{
    ApplyContext, Command, CreateQueue, Enqueue, OriginBatch, OriginPart, ProposalId, Return,
    ReturnKind, Settle, SettleReason, ShardEntry,
};
use warren_queue::outcome::Output;
use warren_queue::rows::{
    BlockRow, Change, CountsRow, MarksRow, OriginRow, OutgoingRow, QueueRow, Row, RowKey, Rows,
};
use warren_queue::store::{Store, StoreOptions};
use warren_types::{
    BatchSequence, Facts, Incarnation, LogIndex, Position, PositionRange, Priority, ProducerId,
    ProducerSpan, QueueId, QueueName, Run, ShardId, ShardTime, Term, TopologyIndex, VhostId,
};

const QUEUE: QueueId = QueueId(1);
const BLOCK: u64 = 100;
const MESSAGES: u64 = 2_000_000;

#[derive(Default)]
struct MapRows(BTreeMap<RowKey, Row>);

impl MapRows {
    fn block(row: Option<(&RowKey, &Row)>) -> Option<BlockRow> {
        match row {
            Some((_, Row::Block(row))) => Some(row.clone()),
            _ => None,
        }
    }
}

impl Rows for MapRows {
    fn get(&self, key: &RowKey) -> Option<Row> {
        self.0.get(key).cloned()
    }

    fn block_at_or_after(
        &self,
        queue: QueueId,
        priority: Priority,
        from: Position,
    ) -> Option<BlockRow> {
        Self::block(
            self.0
                .range(
                    RowKey::Block {
                        queue,
                        priority,
                        first: from,
                    }..,
                )
                .next(),
        )
    }

    fn block_holding(
        &self,
        queue: QueueId,
        priority: Priority,
        position: Position,
    ) -> Option<BlockRow> {
        Self::block(
            self.0
                .range(
                    ..=RowKey::Block {
                        queue,
                        priority,
                        first: position,
                    },
                )
                .next_back(),
        )
    }

    fn queues(&self) -> Vec<QueueRow> {
        Vec::new()
    }

    fn origins(&self) -> Vec<(Incarnation, OriginRow)> {
        Vec::new()
    }

    fn outgoing(&self) -> Vec<((ShardId, u64), OutgoingRow)> {
        Vec::new()
    }

    fn producers(&self, _: QueueId) -> Vec<(ProducerId, ShardTime)> {
        Vec::new()
    }
    fn timers(&self, _: QueueId, _: usize) -> Vec<(ShardTime, Priority, Position)> {
        Vec::new()
    }

    fn delayed(&self, _: QueueId) -> Vec<(Priority, CountsRow)> {
        Vec::new()
    }

    fn marks_at_or_after(
        &self,
        _: QueueId,
        _: Priority,
        _: Position,
    ) -> Option<(Position, MarksRow)> {
        None
    }
}

struct Bench {
    store: Store,
    rows: MapRows,
    out: Output,
    index: u64,
    nanos: u128,
}

impl Bench {
    fn new() -> Self {
        let rows = MapRows::default();
        let store = Store::open(&rows, StoreOptions::default());
        let mut bench = Self {
            store,
            rows,
            out: Output::default(),
            index: 0,
            nanos: 0,
        };
        if let Ok(name) = QueueName::try_from("orders") {
            let create = CreateQueue {
                queue: QUEUE,
                vhost: VhostId(1),
                name,
                topology: TopologyIndex(1),
            };
            bench.apply(vec![Command::CreateQueue(create)], Vec::new());
        }
        bench.nanos = 0;
        bench
    }

    /// Times `apply` alone; the rows are brought up to date outside of it.
    fn apply(&mut self, commands: Vec<Command>, origins: Vec<OriginBatch>) {
        self.index += 1;
        let (proposal, topology) = (ProposalId::default(), TopologyIndex(1));
        let entry = ShardEntry {
            proposal,
            now: ShardTime(self.index),
            topology,
            origins,
            commands,
        };
        let at = ApplyContext {
            index: LogIndex(self.index),
            term: Term(1),
        };
        let start = Instant::now();
        self.store.apply(&self.rows, at, entry, &mut self.out);
        self.nanos += start.elapsed().as_nanos();
        for change in self.out.changes.drain(..) {
            match change {
                Change::Put(key, row) => drop(self.rows.0.insert(key, row)),
                Change::Delete(key) => drop(self.rows.0.remove(&key)),
                Change::DeleteQueueRows(_) => {}
            }
        }
        self.out.effects.clear();
        self.out.entries.clear();
    }

    fn enqueue(&mut self, producers: Vec<ProducerSpan>) -> (Command, Vec<OriginBatch>) {
        let facts = Facts {
            size: vec![1_024; BLOCK as usize],
            body_size: vec![1_000; BLOCK as usize],
            ..Facts::default()
        };
        let payload = Bytes::from_static(b"not looked at");
        let raise = Some(1_000);
        let enqueue = Enqueue {
            queue: QUEUE,
            priority: Priority::DEFAULT,
            facts,
            payload,
            producers,
            raise,
            full: Vec::new(),
            dedup: None,
        };
        let sequence = BatchSequence(self.store.last_batch(Incarnation(1)).1.0 + 1);
        let parts = vec![OriginPart {
            command: 0,
            first: 0,
            count: BLOCK as u32,
        }];
        (
            Command::Enqueue(enqueue),
            vec![OriginBatch {
                incarnation: Incarnation(1),
                run: Run(1),
                sequence,
                parts,
            }],
        )
    }

    fn report(&self, what: &str) {
        println!(
            "{what:<66} {:>6.1} ns per message",
            self.nanos as f64 / MESSAGES as f64
        );
    }
}

fn settle(ranges: Vec<PositionRange>) -> Command {
    Command::Settle(Settle {
        queue: QUEUE,
        ranges,
        reason: SettleReason::Acked,
    })
}

/// Enqueue a block, settle the one before it, in one entry; `settles` says how.
fn steady(what: &str, settles: impl Fn(u64) -> Vec<Command>) {
    let mut bench = Bench::new();
    for block in 0..MESSAGES / BLOCK {
        let (enqueue, origins) = bench.enqueue(Vec::new());
        let mut commands = vec![enqueue];
        if block > 0 {
            commands.extend(settles(1 + (block - 1) * BLOCK));
        }
        bench.apply(commands, origins);
    }
    bench.report(what);
}

fn whole(first: u64) -> Vec<PositionRange> {
    vec![PositionRange {
        first: Position(first),
        count: BLOCK,
    }]
}

/// Every second position, then the others.
fn scattered(first: u64) -> Vec<PositionRange> {
    let ones = |from: u64| {
        (from..first + BLOCK)
            .step_by(2)
            .map(|at| PositionRange::one(Position(at)))
    };
    ones(first).chain(ones(first + 1)).collect()
}

fn main() {
    steady("enqueue and settle, one range per block", |first| {
        vec![settle(whole(first))]
    });
    steady(
        "enqueue and settle, one range per message, one command",
        |first| vec![settle(scattered(first))],
    );
    steady("enqueue and settle, one command per message", |first| {
        (first..first + BLOCK)
            .map(|at| settle(vec![PositionRange::one(Position(at))]))
            .collect()
    });
    steady("enqueue, return all, settle", |first| {
        let (ranges, kind) = (whole(first), ReturnKind::Untouched);
        vec![
            Command::Return(Return {
                queue: QUEUE,
                ranges,
                kind,
                not_before: None,
            }),
            settle(whole(first)),
        ]
    });

    let mut producer = Bench::new();
    for block in 0..MESSAGES / BLOCK {
        let sequences = (0..BLOCK)
            .map(|at| (at as u32, block * BLOCK + at))
            .collect();
        let span = ProducerSpan {
            producer: ProducerId(Bytes::from_static(b"p")),
            epoch: 1,
            sequences,
        };
        let (enqueue, origins) = producer.enqueue(vec![span]);
        producer.apply(vec![enqueue, settle(whole(1 + block * BLOCK))], origins);
    }
    producer.report("enqueue with producer sequences, settle in the same entry");

    let mut backlog = Bench::new();
    for _ in 0..MESSAGES / BLOCK {
        let (enqueue, origins) = backlog.enqueue(Vec::new());
        backlog.apply(vec![enqueue], origins);
    }
    backlog.report("backlog: enqueue alone, descriptors evicted");
    backlog.nanos = 0;
    for block in 0..MESSAGES / BLOCK {
        backlog.apply(vec![settle(whole(1 + block * BLOCK))], Vec::new());
    }
    backlog.report("backlog: settle from the head, descriptors read again");
}
