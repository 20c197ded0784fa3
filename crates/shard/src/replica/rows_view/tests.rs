//! Rows are read the same whether changes were written or not. The oracle writes after every entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use warren_queue::entry::SettleReason;
use warren_queue::rows::{ProducerRow, SettledRow};
use warren_storage::{StateOptions, StateStore};
use warren_types::{
    BatchSequence, ExchangeName, Facts, GroupId, PositionRange, QueueName, ReplicaId, Run, VhostId,
};

use super::*;
use crate::audit::{Seen, digest_of};

/// One entry's changes, by what is there already.
#[derive(Clone, Debug)]
enum Step {
    Block {
        slot: usize,
        level: u8,
        count: u64,
    },
    DeleteBlock(Index),
    /// A small row of a block: settled, counts, marks or timer.
    Put {
        kind: u8,
        block: Index,
        value: u64,
    },
    Delete(Index),
    Queue {
        slot: usize,
        next: u64,
    },
    DropQueue(usize),
    Origin {
        incarnation: u128,
        last: u64,
    },
    Producer {
        slot: usize,
        name: u8,
        seen: u64,
    },
    Outgoing {
        number: u64,
    },
    WriteOut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..3_u8, 1..4_u64)
            .prop_map(|(slot, level, count)| Step::Block { slot, level, count }),
        3 => any::<Index>().prop_map(Step::DeleteBlock),
        5 => (0..4_u8, any::<Index>(), 1..9_u64)
            .prop_map(|(kind, block, value)| Step::Put { kind, block, value }),
        3 => any::<Index>().prop_map(Step::Delete),
        2 => (0..2_usize, 0..9_u64).prop_map(|(slot, next)| Step::Queue { slot, next }),
        1 => (0..2_usize).prop_map(Step::DropQueue),
        1 => (0..3_u128, 0..9_u64)
            .prop_map(|(incarnation, last)| Step::Origin { incarnation, last }),
        2 => (0..2_usize, 0..3_u8, 0..9_u64)
            .prop_map(|(slot, name, seen)| Step::Producer { slot, name, seen }),
        1 => (0..4_u64).prop_map(|number| Step::Outgoing { number }),
        3 => Just(Step::WriteOut),
    ]
}

/// What there is, so that changes are such as a store makes: a block is put once and deleted once.
#[derive(Default)]
struct World {
    queues: [u64; 2],
    next_queue: u64,
    next: u64,
    blocks: Vec<RowKey>,
    small: BTreeSet<RowKey>,
}

impl World {
    fn queue(&mut self, slot: usize) -> QueueId {
        if self.queues[slot] == 0 {
            self.next_queue += 1;
            self.queues[slot] = self.next_queue;
        }
        QueueId(self.queues[slot])
    }

    fn changes(&mut self, step: &Step) -> Vec<Change> {
        match step {
            Step::Block { slot, level, count } => self.block(*slot, *level, *count),
            Step::DeleteBlock(index) => self.delete_block(index),
            Step::Put { kind, block, value } => self.put(*kind, block, *value),
            Step::Delete(index) => self.delete(index),
            Step::Queue { slot, next } => {
                let queue = self.queue(*slot);
                vec![self.set(RowKey::Queue(queue), Row::Queue(queue_row(queue, *next)))]
            }
            Step::DropQueue(slot) => self.drop_queue(*slot),
            Step::Origin { incarnation, last } => {
                let row = OriginRow {
                    run: Run(1),
                    last: BatchSequence(*last),
                    exceptions: Vec::new(),
                    remembered_from: BatchSequence(0),
                    places: Vec::new(),
                };
                vec![self.set(RowKey::Origin(Incarnation(*incarnation)), Row::Origin(row))]
            }
            Step::Producer { slot, name, seen } => {
                let queue = self.queue(*slot);
                let producer = ProducerId(Bytes::from(vec![*name]));
                let row = ProducerRow {
                    seen: ShardTime(*seen),
                    window: vec![0; 16],
                    ..ProducerRow::default()
                };
                vec![self.set(RowKey::Producer { queue, producer }, Row::Producer(row))]
            }
            Step::Outgoing { number } => {
                let key = RowKey::Outgoing {
                    shard: ShardId(3),
                    number: *number,
                };
                vec![self.set(key, Row::Outgoing(outgoing_row(*number)))]
            }
            Step::WriteOut => Vec::new(),
        }
    }

    fn set(&mut self, key: RowKey, row: Row) -> Change {
        self.small.insert(key.clone());
        Change::Put(key, row)
    }

    fn block(&mut self, slot: usize, level: u8, count: u64) -> Vec<Change> {
        let queue = self.queue(slot);
        let first = Position(self.next);
        self.next += count + 1; // a gap now and then is another priority's
        let priority = Priority::clamped(level);
        let key = RowKey::Block {
            queue,
            priority,
            first,
        };
        self.blocks.push(key.clone());
        let sizes = vec![3; usize::try_from(count).unwrap()];
        let facts = Facts {
            size: sizes.clone(),
            body_size: sizes,
            ..Facts::default()
        };
        let row = BlockRow {
            first,
            payload: Bytes::from(vec![level; 3 * usize::try_from(count).unwrap()]),
            facts: Arc::new(facts),
        };
        vec![Change::Put(key, Row::Block(row))]
    }

    fn delete_block(&mut self, index: &Index) -> Vec<Change> {
        if self.blocks.is_empty() {
            return Vec::new();
        }
        let key = self.blocks.swap_remove(index.index(self.blocks.len()));
        let mut changes: Vec<Change> = (0..4)
            .map(|kind| small_key(&key, kind, 0))
            .filter(|small| self.small.remove(small))
            .map(Change::Delete)
            .collect();
        changes.push(Change::Delete(key));
        changes
    }

    fn put(&mut self, kind: u8, block: &Index, value: u64) -> Vec<Change> {
        if self.blocks.is_empty() {
            return Vec::new();
        }
        let block = &self.blocks[block.index(self.blocks.len())];
        let key = small_key(block, kind, value);
        let at = Position(value);
        let row = match kind {
            0 => Row::Settled(SettledRow {
                ranges: vec![PositionRange::one(at)],
            }),
            1 => Row::Counts(CountsRow {
                counts: vec![(at, 1, 1)],
                delayed: vec![(at, ShardTime(value))],
                said: vec![],
            }),
            2 => Row::Marks(MarksRow {
                released: vec![PositionRange::one(at)],
                ..MarksRow::default()
            }),
            _ => Row::Timer,
        };
        vec![self.set(key, row)]
    }

    fn delete(&mut self, index: &Index) -> Vec<Change> {
        if self.small.is_empty() {
            return Vec::new();
        }
        let at = index.index(self.small.len());
        let key = self.small.iter().nth(at).unwrap().clone();
        self.small.remove(&key);
        vec![Change::Delete(key)]
    }

    fn drop_queue(&mut self, slot: usize) -> Vec<Change> {
        let queue = self.queue(slot);
        self.queues[slot] = 0;
        self.blocks
            .retain(|key| !matches!(key, RowKey::Block { queue: of, .. } if *of == queue));
        self.small.retain(|key| {
            !matches!(
                key,
                RowKey::Settled { queue: of, .. }
                | RowKey::Counts { queue: of, .. }
                | RowKey::Marks { queue: of, .. }
                | RowKey::Timer { queue: of, .. }
                | RowKey::Producer { queue: of, .. }
                    if *of == queue
            )
        });
        vec![Change::DeleteQueueRows(queue)]
    }
}

fn small_key(block: &RowKey, kind: u8, value: u64) -> RowKey {
    let RowKey::Block {
        queue,
        priority,
        first,
    } = *block
    else {
        panic!("{block:?} is no block")
    };
    match kind {
        0 => RowKey::Settled {
            queue,
            priority,
            first,
        },
        1 => RowKey::Counts {
            queue,
            priority,
            first,
        },
        2 => RowKey::Marks {
            queue,
            priority,
            first,
        },
        _ => RowKey::Timer {
            queue,
            at: ShardTime(value),
            priority,
            first,
        },
    }
}

fn queue_row(queue: QueueId, next: u64) -> QueueRow {
    QueueRow {
        queue,
        vhost: VhostId(1),
        name: QueueName::try_from("q").unwrap(),
        next: Position(next),
        levels: Vec::new(),
        counters: warren_queue::rows::Counters::default(),
        fencing: 0,
        memories: Vec::new(),
    }
}

fn outgoing_row(number: u64) -> OutgoingRow {
    OutgoingRow {
        queue: QueueId(1),
        ranges: vec![PositionRange::one(Position(number))],
        queues: vec![QueueId(2)],
        reason: SettleReason::Rejected,
        exchange: ExchangeName::try_from("").unwrap(),
        routing_key: None,
        priority: None,
        at: ShardTime(1),
        arrived: Vec::new(),
    }
}

/// A replica whose changes are written when it is told to.
struct Subject {
    state: ReplicaState,
    rows: RowsView,
}

impl Subject {
    fn open(store: &StateStore, group: u32) -> Self {
        let state = store.replica(GroupId(group), ReplicaId(1)).unwrap();
        let rows = RowsView::new(state.clone());
        Self { state, rows }
    }

    fn write_out(&self) {
        let mut batch = RowBatch::default();
        self.rows.give(&mut batch);
        self.state
            .write(batch, Bytes::from_static(b"meta"))
            .unwrap();
    }
}

/// Everything that can be asked.
fn answers(rows: &RowsView, world: &World) -> String {
    let mut told = format!(
        "{:?} {:?} {:?}",
        rows.queues(),
        rows.origins(),
        rows.outgoing()
    );
    for key in world.small.iter().chain(&world.blocks) {
        told += &format!("{key:?}: {:?}\n", rows.get(key));
    }
    for queue in (1..=world.next_queue).map(QueueId) {
        told += &format!(
            "{queue:?} {:?} {:?} {:?} {:?}\n",
            rows.timers(queue, 3),
            rows.timers(queue, 100),
            rows.delayed(queue),
            rows.producers(queue)
        );
        for priority in (0..3).map(Priority::clamped) {
            for at in (0..world.next + 1).map(Position) {
                told += &format!(
                    "{at:?} {:?} {:?} {:?}\n",
                    rows.block_at_or_after(queue, priority, at),
                    rows.block_holding(queue, priority, at),
                    rows.marks_at_or_after(queue, priority, at)
                );
            }
        }
    }
    told
}

/// What an audit of all rows sees.
fn digested(rows: &RowsView) -> Seen {
    digest_of(&rows.freeze(&AuditPlace::start()).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_are_the_same_written_or_not(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), StateOptions::default()).unwrap();
        let (oracle, subject) = (Subject::open(&store, 1), Subject::open(&store, 2));
        let mut world = World::default();
        for step in &steps {
            let changes = world.changes(step);
            oracle.rows.take(&mut changes.clone(), 8);
            oracle.write_out();
            subject.rows.take(&mut changes.clone(), 8);
            if matches!(step, Step::WriteOut) {
                subject.write_out();
            }
            let (expected, found) = (answers(&oracle.rows, &world), answers(&subject.rows, &world));
            prop_assert!(expected == found, "after {step:?}:\n{expected}\n{found}");
            prop_assert_eq!(digested(&oracle.rows), digested(&subject.rows), "after {:?}", step);
        }
        subject.write_out();
        prop_assert_eq!(answers(&oracle.rows, &world), answers(&subject.rows, &world));
    }
}
