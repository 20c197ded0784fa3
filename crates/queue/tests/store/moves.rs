//! The law of moves between shards: nothing lost, nothing stored twice, whatever is sent again, cut off or opened anew on either side.
//! Not here: the answers of single commands (`scripts/store_moves.txt`).

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use warren_queue::entry::{
    Arrived, Command, CreateQueue, EndedDelivery, Ending, Enqueue, MoveOut, MoveTarget,
    OriginBatch, OriginPart, ProposalId, Settle, SettleReason, SettleTogether, ShardEntry,
};
use warren_queue::outcome::{BatchVerdict, Output, Reply};
use warren_queue::rows::OutgoingRow;
use warren_types::{
    Attempt, BatchSequence, ExchangeName, Facts, Incarnation, NotStored, Position, PositionRange,
    Priority, QueueId, QueueName, Run, ShardId, ShardTime, Term, TopologyIndex, VhostId,
};

use crate::machine::{Machine, SMALL};
use crate::properties::config;

const SOURCE: QueueId = QueueId(1);
/// The second one never exists: it refuses.
const TARGETS: [QueueId; 2] = [QueueId(11), QueueId(12)];
const SHARD: ShardId = ShardId(2);
/// Where messages go that come with ends of others.
const OUT: QueueId = QueueId(2);
const MISSING: QueueId = QueueId(3);

#[derive(Clone, Debug)]
enum Step {
    Publish(u64),
    Move {
        first: u64,
        count: u64,
        to: u8,
    },
    /// One is acked, one begins its way and a message comes, in one; the message's queue may be gone.
    Together {
        acked: u64,
        dies: u64,
        is_refused: bool,
    },
    /// The first so many on their way are sent, in order, by a leader that knows no answers.
    Send(usize),
    /// An answer that came is taken, in any order.
    Answer(usize),
    ReopenSource,
    ReopenTarget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1..6_u64).prop_map(Step::Publish),
        4 => (1..20_u64, 1..6_u64, 0..3_u8).prop_map(|(first, count, to)| Step::Move { first, count, to }),
        3 => (1..20_u64, 1..20_u64, any::<bool>())
            .prop_map(|(acked, dies, is_refused)| Step::Together { acked, dies, is_refused }),
        4 => (0..5_usize).prop_map(Step::Send),
        3 => (0..4_usize).prop_map(Step::Answer),
        1 => Just(Step::ReopenSource),
        1 => Just(Step::ReopenTarget),
    ];
    prop::collection::vec(step, 1..60)
}

struct World {
    source: Machine,
    target: Machine,
    published: u64,
    /// Refused indexes by number, as the target told.
    answers: BTreeMap<u64, Vec<u32>>,
    /// Requests that were done, and all of them.
    together: u64,
    asked: u64,
}

impl World {
    fn new() -> Self {
        let mut world = World {
            source: Machine::new(SMALL),
            target: Machine::new(SMALL),
            published: 0,
            answers: BTreeMap::new(),
            together: 0,
            asked: 0,
        };
        apply(&mut world.source, Vec::new(), create(SOURCE));
        apply(&mut world.source, Vec::new(), create(OUT));
        apply(&mut world.target, Vec::new(), create(TARGETS[0]));
        world
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish(count) => {
                let ids: Vec<u64> = (0..count).map(|it| self.published + 1 + it).collect();
                self.published += count;
                let block = block(SOURCE, &ids);
                apply(&mut self.source, Vec::new(), block);
            }
            Step::Move { first, count, to } => {
                let queues = match to {
                    0 => vec![TARGETS[0]],
                    1 => vec![TARGETS[1]],
                    _ => TARGETS.to_vec(),
                };
                let it = move_out(Position(first), count, queues);
                let command = Command::MoveOut(it);
                apply(&mut self.source, Vec::new(), command);
            }
            Step::Together {
                acked,
                dies,
                is_refused,
            } => self.end_together(Position(acked), Position(dies), is_refused),
            Step::Send(count) => self.send(count),
            Step::Answer(at) => self.answer(at),
            Step::ReopenSource => {
                let rows = std::mem::take(&mut self.source.rows);
                self.source = Machine::on(rows, SMALL);
            }
            Step::ReopenTarget => {
                let rows = std::mem::take(&mut self.target.rows);
                self.target = Machine::on(rows, SMALL);
            }
        }
    }

    fn end_together(&mut self, acked: Position, dies: Position, is_refused: bool) {
        self.asked += 1;
        let ended = |position| EndedDelivery {
            queue: SOURCE,
            position,
            attempt: Attempt {
                term: Term(1),
                number: self.asked,
            },
        };
        let mut deliveries = vec![ended(dies)];
        let mut endings = vec![Ending::MoveOut(move_out(dies, 1, vec![TARGETS[0]]))];
        if acked != dies {
            deliveries.push(ended(acked));
            endings.push(Ending::Settle(Settle {
                queue: SOURCE,
                ranges: vec![PositionRange::one(acked)],
                reason: SettleReason::Acked,
            }));
        }
        let Command::Enqueue(output) = block(if is_refused { MISSING } else { OUT }, &[1]) else {
            unreachable!("a block")
        };
        let counts = |world: &World| {
            let live = |queue| world.source.store.queue_stats(queue).unwrap().counters;
            (live(SOURCE), live(OUT), world.outgoing())
        };
        let before = counts(self);
        let rows = before.2.iter();
        let ranges: Vec<PositionRange> = rows.flat_map(|(_, row)| row.ranges.clone()).collect();
        let moving = |at| ranges.iter().any(|it| it.contains(at));
        let (is_moving, ends) = (moving(dies) || moving(acked), endings.len() as u64);
        let out = apply(
            &mut self.source,
            Vec::new(),
            Command::SettleTogether(SettleTogether {
                deliveries,
                endings,
                blocks: vec![output],
            }),
        );
        let after = counts(self);
        match out.entries[0].replies[0] {
            Reply::SettledTogether { is_done: true } => {
                assert!(!is_moving && !is_refused);
                assert_eq!(after.0.acked, before.0.acked + ends - 1);
                assert_eq!(after.1.enqueued, before.1.enqueued + 1);
                assert_eq!(after.2.len(), before.2.len() + 1, "it is on its way");
                self.together += 1;
            }
            Reply::SettledTogether { is_done: false } => assert_eq!(after, before, "in part"),
            ref other => panic!("not what was asked: {other:?}"),
        }
    }

    fn outgoing(&self) -> Vec<(u64, OutgoingRow)> {
        let rows = self.source.store.outgoing();
        rows.map(|(_, number, row)| (number, row.clone())).collect()
    }

    fn send(&mut self, count: usize) {
        for (number, row) in self.outgoing().into_iter().take(count) {
            let messages = self
                .source
                .store
                .read(&self.source.rows, row.queue, &row.ranges);
            let ids: Vec<u64> = messages.iter().map(|it| it.position.0).collect();
            let commands: Vec<Command> =
                row.queues.iter().map(|&queue| block(queue, &ids)).collect();
            let part = |command| OriginPart {
                command,
                first: 0,
                count: ids.len() as u32,
            };
            let batch = OriginBatch {
                incarnation: Incarnation(1),
                run: Run(1),
                sequence: BatchSequence(number),
                parts: (0..commands.len() as u32).map(part).collect(),
            };
            let out = apply_all(&mut self.target, vec![batch], commands);
            match &out.entries[0].batches[0].verdict {
                BatchVerdict::Taken { exceptions, .. }
                | BatchVerdict::Duplicate { exceptions, .. } => {
                    let gone = exceptions.iter().filter(|it| it.1 == NotStored::QueueGone);
                    let refused: Vec<u32> = gone.map(|it| it.0).collect();
                    assert_eq!(refused.len(), exceptions.len());
                    let known = self.answers.insert(number, refused.clone());
                    assert!(
                        known.is_none_or(|it| it == refused),
                        "another answer than before"
                    );
                }
                other => panic!("sent in order: {other:?}"),
            }
        }
    }

    fn answer(&mut self, at: usize) {
        let Some((number, row)) = self.outgoing().into_iter().nth(at) else {
            return;
        };
        let Some(refused) = self.answers.get(&number) else {
            return;
        };
        let copies: Vec<Position> = row
            .queues
            .iter()
            .flat_map(|_| row.ranges.iter().flat_map(|it| it.positions()))
            .collect();
        let stored: Vec<Position> = (0..copies.len())
            .filter(|it| !refused.contains(&(*it as u32)))
            .map(|it| copies[it])
            .collect();
        let lost = row.ranges.iter().flat_map(|it| it.positions());
        let lost: Vec<Position> = lost.filter(|it| !stored.contains(it)).collect();
        let command = Command::Arrived(Arrived {
            shard: SHARD,
            number,
            refused: PositionRange::collect(lost),
            keep: false,
        });
        apply(&mut self.source, Vec::new(), command);
    }
}

fn move_out(first: Position, count: u64, queues: Vec<QueueId>) -> MoveOut {
    MoveOut {
        priority: None,
        queue: SOURCE,
        ranges: vec![PositionRange { first, count }],
        reason: SettleReason::Rejected,
        exchange: ExchangeName::try_from("dlx").unwrap(),
        routing_key: None,
        targets: vec![MoveTarget {
            shard: SHARD,
            queues,
        }],
    }
}

fn create(queue: QueueId) -> Command {
    Command::CreateQueue(CreateQueue {
        queue,
        vhost: VhostId(1),
        name: QueueName::try_from("q").unwrap(),
        topology: TopologyIndex(1),
    })
}

/// Messages whose bytes are their ids: in the source an id is a position.
fn block(queue: QueueId, ids: &[u64]) -> Command {
    let encoded: Vec<Vec<u8>> = ids.iter().map(|id| id.to_string().into_bytes()).collect();
    Command::Enqueue(Enqueue {
        queue,
        priority: Priority::DEFAULT,
        facts: Facts {
            size: encoded.iter().map(|it| it.len() as u32).collect(),
            body_size: vec![1; ids.len()],
            ..Facts::default()
        },
        payload: Bytes::from(encoded.concat()),
        producers: Vec::new(),
        raise: None,
        full: Vec::new(),
        dedup: None,
    })
}

fn apply(machine: &mut Machine, origins: Vec<OriginBatch>, command: Command) -> Output {
    apply_all(machine, origins, vec![command])
}

fn apply_all(machine: &mut Machine, origins: Vec<OriginBatch>, commands: Vec<Command>) -> Output {
    let entry = ShardEntry {
        proposal: ProposalId::default(),
        now: ShardTime(1),
        topology: TopologyIndex(1),
        origins,
        commands,
    };
    entry.validate().expect("a leader may propose it");
    machine.apply(entry)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn moved_messages_are_in_one_place_whatever_is_sent_again_and_opened_anew(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        while !world.outgoing().is_empty() {
            world.send(usize::MAX);
            world.answer(0);
        }
        let all = [PositionRange { first: Position(1), count: 10_000 }];
        let ids = |machine: &Machine, queue| -> Vec<u64> {
            let read = machine.store.read(&machine.rows, queue, &all);
            read.iter().map(|it| String::from_utf8(it.message.to_vec()).unwrap().parse().unwrap()).collect()
        };
        let (here, mut there) = (ids(&world.source, SOURCE), ids(&world.target, TARGETS[0]));
        let counters = world.source.store.queue_stats(SOURCE).unwrap().counters;
        prop_assert_eq!(counters.enqueued, world.published);
        prop_assert_eq!(there.len() as u64, counters.dead_lettered, "what left as dead-lettered is there, once");
        prop_assert_eq!(ids(&world.source, OUT).len() as u64, world.together);
        prop_assert_eq!(here.len() as u64 + counters.dead_lettered + counters.rejected + counters.acked, world.published);
        there.sort_unstable();
        there.dedup();
        prop_assert_eq!(there.len() as u64, counters.dead_lettered, "twice in the target");
        prop_assert!(there.iter().all(|it| !here.contains(it)), "in both");
    }
}
