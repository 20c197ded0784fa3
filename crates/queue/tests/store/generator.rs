//! Random entries as a leader might propose them. Not here: nonsensical ones (`nonsense`).

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use warren_queue::entry::{
    AckWithOutputs, Activate, AttemptOutcome, Cancel, Command, CreateQueue, Dedup, DeleteQueue,
    DropParked, EndedDelivery, Ending, Enqueue, EnqueueTogether, HandOut, IndexRange, OriginBatch,
    OriginPart, Park, ParkCause, ProposalId, Purge, PurgeStates, Rearm, Release, Remark, Return,
    ReturnKind, Said, Settle, SettleReason, SettleTogether, ShardEntry,
};
use warren_types::{
    Attempt, BatchSequence, Facts, Incarnation, Position, PositionRange, Priority, ProducerId,
    ProducerSpan, QueueId, QueueName, Run, ShardTime, Term, TopologyIndex, VhostId,
};

use crate::model::Model;

/// An entry but for its batches' sequences, which depend on what was taken before.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) now: u64,
    pub(crate) commands: Vec<Command>,
    pub(crate) batches: Vec<BatchPlan>,
    /// Per command: which batches its messages belong to, and where it is cut in two.
    pub(crate) owners: Vec<(usize, usize, u32)>,
}

#[derive(Clone, Debug)]
pub(crate) struct BatchPlan {
    node: u128,
    run: u64,
    /// 1 is the next one, 0 the last one again.
    step: i64,
}

impl Plan {
    pub(crate) fn entry(self, model: &Model) -> ShardEntry {
        let mut planned = std::collections::BTreeMap::new();
        let mut origins: Vec<OriginBatch> = Vec::new();
        for it in &self.batches {
            let last = planned
                .entry((it.node, it.run))
                .or_insert_with(|| model.last(it.node, it.run));
            let sequence = last.saturating_add_signed(it.step).max(1);
            *last = (*last).max(if it.step == 1 { sequence } else { 0 });
            let (incarnation, run, sequence) =
                (Incarnation(it.node), Run(it.run), BatchSequence(sequence));
            origins.push(OriginBatch {
                incarnation,
                run,
                sequence,
                parts: Vec::new(),
            });
        }
        for (number, (command, (left, right, cut))) in
            self.commands.iter().zip(&self.owners).enumerate()
        {
            let count = match command {
                Command::Enqueue(it) => it.facts.count() as u32,
                // One batch has it all, in parts.
                Command::EnqueueTogether(it) => {
                    let mut first = 0;
                    for block in &it.blocks {
                        let (command, count) = (number as u32, block.facts.count() as u32);
                        if *left < origins.len() {
                            origins[*left].parts.push(OriginPart {
                                command,
                                first,
                                count,
                            });
                        }
                        first += count;
                    }
                    continue;
                }
                _ => continue,
            };
            let command = number as u32;
            let cut = cut % (count + 1);
            for (owner, first, count) in [(*left, 0, cut), (*right, cut, count - cut)] {
                if count > 0 && owner < origins.len() {
                    origins[owner].parts.push(OriginPart {
                        command,
                        first,
                        count,
                    });
                }
            }
        }
        ShardEntry {
            proposal: ProposalId::default(),
            now: ShardTime(self.now),
            topology: TopologyIndex(1),
            origins,
            commands: self.commands,
        }
    }
}

pub(crate) fn plans() -> impl Strategy<Value = Vec<Plan>> {
    prop::collection::vec((plan(), any::<bool>()), 1..40).prop_map(ask_again)
}

/// Some entries end the same deliveries together once more, under the same attempts.
fn ask_again(drawn: Vec<(Plan, bool)>) -> Vec<Plan> {
    let mut last = None;
    let plans = drawn.into_iter().map(|(mut plan, again)| {
        let ends = |it: &&Command| matches!(it, Command::SettleTogether(_));
        let newer = plan.commands.iter().rfind(ends).cloned();
        let has_room = plan.commands.len() < COMMANDS_MAX;
        plan.commands
            .extend(last.clone().filter(|_| again && has_room));
        last = newer.or(last.take());
        plan
    });
    plans.collect()
}

const COMMANDS_MAX: usize = 7;

fn plan() -> impl Strategy<Value = Plan> {
    let day = 24 * 60 * 60 * 1_000_u64;
    let now = prop_oneof![20 => 0..10_000_u64, 1 => (0..30_u64).prop_map(move |days| days * day)];
    let commands = prop::collection::vec(command(), 0..COMMANDS_MAX);
    let batch = (
        1..3_u128,
        prop_oneof![9 => Just(1_u64), 1 => Just(2)],
        prop_oneof![8 => Just(1_i64), 2 => -2..4_i64],
    );
    let batches = prop::collection::vec(
        batch.prop_map(|(node, run, step)| BatchPlan { node, run, step }),
        0..4,
    );
    let owners = prop::collection::vec((0..5_usize, 0..5_usize, any::<u32>()), COMMANDS_MAX);
    (now, commands, batches, owners).prop_map(|(now, commands, batches, owners)| Plan {
        now,
        commands,
        batches,
        owners,
    })
}

fn queue() -> impl Strategy<Value = QueueId> {
    prop_oneof![10 => Just(1_u64), 4 => Just(2), 1 => Just(9)].prop_map(QueueId)
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![4 => Just(4_u8), 2 => Just(9), 1 => Just(0)].prop_map(Priority::clamped)
}

/// Ascending, apart, near the beginning of the queue.
fn ranges() -> impl Strategy<Value = Vec<PositionRange>> {
    let pairs = prop::collection::vec((0..8_u64, prop_oneof![6 => 1..4_u64, 1 => 5..40_u64]), 0..6);
    let start = prop_oneof![2 => 1..30_u64, 1 => 1..120_u64];
    (start, pairs).prop_map(|(start, pairs)| {
        let mut at = start;
        let ranges = pairs.into_iter().map(|(skip, count)| {
            let first = Position(at + skip);
            at += skip + count;
            PositionRange { first, count }
        });
        ranges.collect()
    })
}

fn reason() -> impl Strategy<Value = SettleReason> {
    prop_oneof![
        Just(SettleReason::Acked),
        Just(SettleReason::Rejected),
        Just(SettleReason::Expired),
        Just(SettleReason::Dropped),
        Just(SettleReason::DeadLettered),
        Just(SettleReason::NoAck),
        Just(SettleReason::Purged),
    ]
}

fn return_kind() -> impl Strategy<Value = ReturnKind> {
    prop_oneof![Just(ReturnKind::Failed), Just(ReturnKind::Untouched)]
}

fn states() -> impl Strategy<Value = PurgeStates> {
    any::<[bool; 5]>().prop_map(
        |[ready, delayed, scheduled, parked, dead_lettering]| PurgeStates {
            dead_lettering,
            ready,
            delayed,
            scheduled,
            parked,
        },
    )
}

/// Each delivery once.
fn settle_together(
    ends: BTreeSet<(QueueId, Position, u8)>,
    number: u64,
    blocks: Vec<Enqueue>,
) -> SettleTogether {
    let attempt = Attempt {
        term: Term(1),
        number,
    };
    let mut it = SettleTogether {
        deliveries: Vec::new(),
        endings: Vec::new(),
        blocks,
    };
    for (queue, position, how) in ends {
        let known = it.deliveries.last();
        if known.is_some_and(|it| (it.queue, it.position) == (queue, position)) {
            continue;
        }
        it.deliveries.push(EndedDelivery {
            queue,
            position,
            attempt,
        });
        let ranges = vec![PositionRange::one(position)];
        let kind = ReturnKind::Failed;
        let said = Said::new(AttemptOutcome::Failed, "it failed", "", "");
        if let (2, Some(said)) = (how, said) {
            let ranges = ranges.clone();
            it.endings.push(Ending::Remark(Remark {
                queue,
                ranges,
                said,
            }));
        }
        it.endings.push(match how {
            0 => Ending::Settle(Settle {
                queue,
                ranges,
                reason: SettleReason::Acked,
            }),
            1 => Ending::Settle(Settle {
                queue,
                ranges,
                reason: SettleReason::Rejected,
            }),
            2 => Ending::Return(Return {
                queue,
                ranges,
                kind,
                not_before: None,
            }),
            _ => Ending::Park(Park {
                queue,
                ranges,
                cause: ParkCause::Rejected,
                kind,
            }),
        });
    }
    it
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let kind = return_kind();
    let position = || (1..150_u64).prop_map(Position);
    let early = || prop_oneof![1 => 1..20_u64, 1 => 1..150_u64].prop_map(Position);
    prop_oneof![
        10 => enqueue().prop_map(Command::Enqueue),
        8 => (queue(), ranges(), reason()).prop_map(|(queue, ranges, reason)| {
            Command::Settle(Settle { queue, ranges, reason })
        }),
        3 => (queue(), ranges(), kind, prop::option::of(0..9_000_u64)).prop_map(|(queue, ranges, kind, at)| {
            Command::Return(Return { queue, ranges, kind, not_before: at.map(ShardTime) })
        }),
        3 => (queue(), priority(), prop::option::of(position()), ranges(), ranges()).prop_map(
            |(queue, priority, up_to, except, positions)| {
                Command::HandOut(HandOut { queue, priority, up_to, except, positions })
            }
        ),
        2 => (queue(), ranges(), any::<bool>()).prop_map(|(queue, ranges, hand_out)| {
            Command::Release(Release { queue, ranges, hand_out })
        }),
        3 => prop::collection::vec(enqueue(), 1..4).prop_map(|blocks| {
            Command::EnqueueTogether(EnqueueTogether { blocks })
        }),
        3 => (queue(), position(), prop::collection::vec(enqueue(), 1..3)).prop_map(|(queue, position, blocks)| {
            let attempt = Attempt { term: Term(1), number: 1 };
            Command::AckWithOutputs(AckWithOutputs { queue, position, attempt, blocks })
        }),
        3 => (prop::collection::btree_set((queue(), early(), 0..4_u8), 1..4), 1..4_u64, prop::collection::vec(enqueue(), 0..3))
            .prop_map(|(ends, number, blocks)| Command::SettleTogether(settle_together(ends, number, blocks))),
        2 => (queue(), ranges()).prop_map(|(queue, ranges)| {
            Command::Cancel(Cancel { queue, ranges })
        }),
        2 => (queue(), ranges(), return_kind()).prop_map(|(queue, ranges, kind)| {
            Command::Park(Park { queue, ranges, cause: ParkCause::Rejected, kind })
        }),
        2 => (queue(), ranges(), "[a-d]{1,3}").prop_map(|(queue, ranges, reason)| {
            let said = Said::new(AttemptOutcome::Failed, &reason, "", "").unwrap();
            Command::Remark(Remark { queue, ranges, said })
        }),
        2 => (queue(), 0..6_u64).prop_map(|(queue, keep)| {
            Command::DropParked(DropParked { queue, keep })
        }),
        1 => (queue(), prop::collection::vec((priority(), position()), 0..4)).prop_map(
            |(queue, blocks)| Command::Rearm(Rearm { queue, blocks })
        ),
        4 => (1..3_u64).prop_map(|queue| {
            let (queue, topology) = (QueueId(queue), TopologyIndex(1));
            Command::CreateQueue(CreateQueue { queue, vhost: VhostId(1), name: QueueName::try_from("q").unwrap(), topology })
        }),
        1 => (queue(), position(), ranges(), states()).prop_map(|(queue, below, except, states)| {
            Command::Purge(Purge { queue, below, except, states })
        }),
        1 => (queue(), 0..9_u64).prop_map(|(queue, fencing)| {
            Command::Activate(Activate { queue, fencing })
        }),
        1 => Just(Command::DeleteQueue(DeleteQueue { queue: QueueId(2), topology: TopologyIndex(1) })),
    ]
}

fn enqueue() -> impl Strategy<Value = Enqueue> {
    let body = prop::collection::vec((0..50_u32, prop::option::of(0..100_u64)), 1..12);
    let span = || {
        (
            0..3_u8,
            0..3_u64,
            prop_oneof![4 => 0..30_u64, 1 => 0..3_000_u64],
            any::<u16>(),
        )
    };
    let producers = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(span(), 1..3)];
    (
        queue(),
        priority(),
        body,
        any::<bool>(),
        producers,
        prop::option::of(0..20_u32),
        prop::option::of(0..9_000_u64),
        prop::option::of((0..12_u32, 1..4_u32)),
        prop::option::of(((1..3_000_u64, 1..6_u64), any::<[u8; 12]>())),
    )
        .prop_map(
            |(queue, priority, body, scheduled, producers, raise, expiry, full, dedup)| {
                let due = body.iter().map(|(_, due)| due.map(ShardTime));
                let expires = |at: u64| {
                    let each = (0..body.len() as u64).map(|it| Some(ShardTime(at + it)));
                    each.collect()
                };
                let keys = dedup.map_or(Vec::new(), |(_, drawn)| {
                    drawn.into_iter().take(body.len()).collect()
                });
                let facts = Facts {
                    // Few keys, with one of two bodies each; 0 = none.
                    dedup_hash: keys.iter().map(|it| u64::from(it % 7)).collect(),
                    dedup_body: keys.iter().map(|it| u64::from(it % 16 / 15) + 1).collect(),
                    size: body.iter().map(|(bytes, _)| bytes + 1).collect(),
                    body_size: body.iter().map(|(bytes, _)| *bytes).collect(),
                    due: if scheduled { due.collect() } else { Vec::new() },
                    expiry: expiry.map_or(Vec::new(), expires),
                    ..Facts::default()
                };
                let payload = vec![7; facts.size.iter().sum::<u32>() as usize];
                let producers = spans(producers, facts.count() as u32);
                Enqueue {
                    queue,
                    priority,
                    facts,
                    payload: Bytes::from(payload),
                    producers,
                    raise,
                    full: full
                        .map(|(first, count)| IndexRange { first, count })
                        .into_iter()
                        .collect(),
                    dedup: dedup.map(|((window_ms, keys_max), _)| Dedup {
                        window_ms,
                        keys_max,
                    }),
                }
            },
        )
}

/// Each message belongs to one producer at most; a producer numbers its messages upwards.
fn spans(drawn: Vec<(u8, u64, u64, u16)>, count: u32) -> Vec<ProducerSpan> {
    let mut free: Vec<u32> = (0..count).collect();
    let spans = drawn.into_iter().map(|(producer, epoch, base, mask)| {
        let (mine, rest) = free.iter().partition(|&&at| mask >> (at % 16) & 1 == 1);
        free = rest;
        let mine: Vec<u32> = mine;
        ProducerSpan {
            producer: ProducerId(Bytes::from(vec![producer])),
            epoch,
            sequences: mine.into_iter().zip(base..).collect(),
        }
    });
    spans.collect()
}
