//! Entries that no leader proposes: `apply` takes them all, the same way on every replica. Not here: what sense would be (`properties`).

use bytes::Bytes;
use proptest::prelude::*;
use warren_queue::entry::{Command, Enqueue, OriginBatch, OriginPart, ProposalId, ShardEntry};
use warren_types::{
    BatchSequence, Facts, Incarnation, Position, PositionRange, Priority, ProducerId, ProducerSpan,
    QueueId, Run, ShardTime, TopologyIndex,
};

use crate::generator;
use crate::machine::{LARGE, Machine, SMALL};
use crate::properties::config;

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..40_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn any_index() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..12_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn any_ranges() -> impl Strategy<Value = Vec<PositionRange>> {
    let range = (any_number(), any_number()).prop_map(|(first, count)| PositionRange {
        first: Position(first),
        count,
    });
    prop::collection::vec(range, 0..6)
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let due = prop::collection::vec(prop::option::of(any_number().prop_map(ShardTime)), 0..8);
    (
        prop::collection::vec(0..9_u32, 0..8),
        prop::collection::vec(any::<u32>(), 0..8),
        due,
    )
        .prop_map(|(size, body_size, due)| Facts {
            size,
            body_size,
            due,
            ..Facts::default()
        })
}

fn any_enqueue() -> impl Strategy<Value = Command> {
    let numbered = prop::collection::vec((any_index(), any_number()), 0..6);
    let span =
        (0..2_u8, any_number(), numbered).prop_map(|(producer, epoch, sequences)| ProducerSpan {
            producer: ProducerId(Bytes::from(vec![producer])),
            epoch,
            sequences,
        });
    let spans = prop::collection::vec(span, 0..3);
    (
        1..3_u64,
        any::<u8>(),
        any_facts(),
        spans,
        prop::option::of(any_index()),
    )
        .prop_map(|(queue, priority, facts, producers, raise)| {
            let (queue, priority) = (QueueId(queue), Priority::clamped(priority));
            Command::Enqueue(Enqueue {
                queue,
                priority,
                facts,
                payload: Bytes::new(),
                producers,
                raise,
                full: Vec::new(),
                dedup: None,
            })
        })
}

/// A sensible command with its ranges replaced.
fn any_command() -> impl Strategy<Value = Command> {
    let ranged = (
        generator::command(),
        any_ranges(),
        any_ranges(),
        any_number(),
    )
        .prop_map(|(command, a, b, number)| match command {
            Command::Settle(it) => Command::Settle(warren_queue::entry::Settle { ranges: a, ..it }),
            Command::Return(it) => Command::Return(warren_queue::entry::Return { ranges: a, ..it }),
            Command::Release(it) => {
                Command::Release(warren_queue::entry::Release { ranges: a, ..it })
            }
            Command::HandOut(it) => Command::HandOut(warren_queue::entry::HandOut {
                up_to: Some(Position(number)),
                except: a,
                positions: b,
                ..it
            }),
            Command::Purge(it) => Command::Purge(warren_queue::entry::Purge {
                below: Position(number),
                except: a,
                ..it
            }),
            Command::Activate(it) => Command::Activate(warren_queue::entry::Activate {
                fencing: number,
                ..it
            }),
            Command::Cancel(it) => Command::Cancel(warren_queue::entry::Cancel { ranges: a, ..it }),
            Command::Park(it) => Command::Park(warren_queue::entry::Park { ranges: a, ..it }),
            Command::Remark(it) => Command::Remark(warren_queue::entry::Remark { ranges: a, ..it }),
            it @ (Command::Enqueue(_)
            | Command::EnqueueTogether(_)
            | Command::AckWithOutputs(_)
            | Command::SettleTogether(_)
            | Command::CreateQueue(_)
            | Command::DeleteQueue(_)
            | Command::MoveOut(_)
            | Command::Arrived(_)
            | Command::DropParked(_)
            | Command::Rearm(_)) => it,
        });
    let together = prop::collection::vec(any_enqueue(), 0..4).prop_map(|blocks| {
        let blocks = blocks.into_iter().filter_map(|it| match it {
            Command::Enqueue(it) => Some(it),
            _ => None,
        });
        Command::EnqueueTogether(warren_queue::entry::EnqueueTogether {
            blocks: blocks.collect(),
        })
    });
    prop_oneof![3 => ranged, 1 => any_enqueue(), 1 => together]
}

fn any_entry() -> impl Strategy<Value = ShardEntry> {
    let part =
        (any_index(), any_index(), any_index()).prop_map(|(command, first, count)| OriginPart {
            command,
            first,
            count,
        });
    let parts = prop::collection::vec(part, 0..4);
    let batch =
        (1..3_u128, 0..3_u64, any_number(), parts).prop_map(|(node, run, sequence, parts)| {
            OriginBatch {
                incarnation: Incarnation(node),
                run: Run(run),
                sequence: BatchSequence(sequence),
                parts,
            }
        });
    let batches = prop::collection::vec(batch, 0..3);
    (
        any_number(),
        any_number(),
        batches,
        prop::collection::vec(any_command(), 0..6),
    )
        .prop_map(|(now, topology, origins, commands)| ShardEntry {
            proposal: ProposalId::default(),
            now: ShardTime(now),
            topology: TopologyIndex(topology),
            origins,
            commands,
        })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn apply_nonsensical_entries_never_fails_and_gives_the_same_rows(entries in prop::collection::vec(any_entry(), 1..30)) {
        let (mut large, mut small, mut anew) = (Machine::new(LARGE), Machine::new(SMALL), Machine::new(SMALL));
        for entry in entries {
            let out = large.apply(entry.clone());
            prop_assert_eq!(&small.apply(entry.clone()).changes, &out.changes);
            anew = Machine::on(anew.rows, SMALL);
            let again = anew.apply(entry);
            prop_assert_eq!(again.changes, out.changes);
            prop_assert_eq!(again.entries, out.entries);
            prop_assert_eq!(&anew.rows, &large.rows);
            prop_assert_eq!(anew.store.digest(), large.store.digest());
            prop_assert_eq!(small.store.digest(), large.store.digest());
        }
    }

    #[test]
    fn validate_any_entry_never_fails(entry in any_entry()) {
        // Whatever it says, it says it without a panic; what it lets pass has parts that name messages.
        if entry.validate().is_ok() {
            for part in entry.origins.iter().flat_map(|batch| &batch.parts) {
                let command = &entry.commands[part.command as usize];
                let count = match command {
                    Command::Enqueue(it) => it.facts.count(),
                    Command::EnqueueTogether(it) => it.blocks.iter().map(|it| it.facts.count()).sum(),
                    other => panic!("no part of {other:?}"),
                };
                prop_assert!(u64::from(part.first) <= count);
            }
        }
    }
}
