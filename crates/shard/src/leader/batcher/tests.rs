//! What becomes of batches in an entry.

use warren_types::{BatchSequence, Position, PositionRange, ProducerId};

use super::*;

fn part(queue: u64, sizes: &[u32]) -> Part {
    let bytes: usize = sizes.iter().map(|&size| size as usize).sum();
    Part {
        queue: QueueId(queue),
        priority: Priority::DEFAULT,
        facts: Facts {
            size: sizes.to_vec(),
            body_size: sizes.to_vec(),
            ..Facts::default()
        },
        payload: Bytes::from(vec![queue as u8; bytes]),
        producers: Vec::new(),
    }
}

fn batch(sequence: u64, parts: Vec<Part>) -> Batch {
    Batch {
        sequence: BatchSequence(sequence),
        topology: TopologyIndex(1),
        parts,
        storing: Storing::Each,
    }
}

fn build(batcher: &mut Batcher) -> ShardEntry {
    batcher
        .build(
            ProposalId::default(),
            ShardTime(1),
            TopologyIndex(1),
            |_, _| Some(7),
            |_, blocks| vec![Vec::new(); blocks.len()],
            |_| None,
        )
        .unwrap()
}

#[test]
fn batches_of_one_queue_share_a_block() {
    let mut batcher = Batcher::default();
    batcher.batch(
        Incarnation(1),
        Run(1),
        batch(1, vec![part(5, &[2, 3])]),
        ShardTime(1_000),
        |_| None,
    );
    batcher.batch(
        Incarnation(2),
        Run(1),
        batch(9, vec![part(6, &[1]), part(5, &[4])]),
        ShardTime(1_000),
        |_| None,
    );
    let entry = build(&mut batcher);
    assert_eq!(entry.commands.len(), 2);
    let Command::Enqueue(block) = &entry.commands[0] else {
        panic!("an enqueue comes first")
    };
    assert_eq!(
        (block.queue, block.facts.count(), block.payload.len()),
        (QueueId(5), 3, 9)
    );
    assert_eq!(block.raise, Some(7));
    assert_eq!(
        entry.origins[1].parts,
        vec![
            OriginPart {
                command: 1,
                first: 0,
                count: 1
            },
            OriginPart {
                command: 0,
                first: 2,
                count: 1
            }
        ]
    );
    assert!(batcher.is_empty());
}

#[test]
fn atomic_batch_has_blocks_of_its_own_and_keeps_its_place() {
    let mut batcher = Batcher::default();
    let atomic = Batch {
        storing: Storing::Together,
        ..batch(2, vec![part(5, &[1, 1]), part(6, &[1])])
    };
    let batches = [
        batch(1, vec![part(5, &[1])]),
        atomic,
        batch(3, vec![part(5, &[1])]),
    ];
    for batch in batches {
        batcher.batch(Incarnation(1), Run(1), batch, ShardTime(1_000), |_| None);
    }
    let entry = build(&mut batcher);
    let counts = entry.commands.iter().map(|it| {
        if let Command::EnqueueTogether(it) = it {
            return it.blocks.iter().map(|it| it.facts.count()).collect();
        }
        let Command::Enqueue(it) = it else {
            panic!("not a block: {it:?}")
        };
        vec![it.facts.count()]
    });
    assert_eq!(counts.collect::<Vec<_>>(), [vec![1], vec![2, 1], vec![1]]);
    let part = |command, first, count| OriginPart {
        command,
        first,
        count,
    };
    let parts = entry.origins.iter().map(|it| it.parts.clone());
    assert_eq!(
        parts.collect::<Vec<_>>(),
        [
            vec![part(0, 0, 1)],
            vec![part(1, 0, 2), part(1, 2, 1)],
            vec![part(2, 0, 1)]
        ]
    );
    assert_eq!(entry.validate(), Ok(()));
}

#[test]
fn creations_come_first_and_shift_the_origins() {
    let mut batcher = Batcher::default();
    batcher.batch(
        Incarnation(1),
        Run(1),
        batch(1, vec![part(5, &[2])]),
        ShardTime(1_000),
        |_| None,
    );
    batcher.command(Command::DeleteQueue(warren_queue::entry::DeleteQueue {
        queue: QueueId(4),
        topology: TopologyIndex(3),
    }));
    let entry = build(&mut batcher);
    assert!(matches!(entry.commands[0], Command::DeleteQueue(_)));
    assert_eq!(entry.origins[0].parts[0].command, 1);
}

#[test]
fn settles_of_one_queue_and_reason_are_joined() {
    let mut batcher = Batcher::default();
    for first in [3, 1, 2, 9] {
        batcher.command(Command::Settle(Settle {
            queue: QueueId(5),
            ranges: vec![PositionRange::one(Position(first))],
            reason: SettleReason::Acked,
        }));
    }
    let entry = build(&mut batcher);
    let Command::Settle(settle) = &entry.commands[0] else {
        panic!("one settle")
    };
    assert_eq!(
        settle.ranges,
        vec![
            PositionRange {
                first: Position(1),
                count: 3
            },
            PositionRange::one(Position(9))
        ]
    );
}

#[test]
fn optional_columns_are_padded_when_parts_differ() {
    let mut batcher = Batcher::default();
    let mut dated = part(5, &[1]);
    dated.facts.expiry = vec![Some(ShardTime(77))];
    dated.producers = vec![ProducerSpan {
        producer: ProducerId(Bytes::from_static(b"p")),
        epoch: 0,
        sequences: vec![(0, 4)],
    }];
    batcher.batch(
        Incarnation(1),
        Run(1),
        batch(1, vec![part(5, &[1, 1])]),
        ShardTime(1_000),
        |_| None,
    );
    batcher.batch(
        Incarnation(1),
        Run(1),
        batch(2, vec![dated]),
        ShardTime(1_000),
        |_| None,
    );
    batcher.batch(
        Incarnation(1),
        Run(1),
        batch(3, vec![part(5, &[1])]),
        ShardTime(1_000),
        |_| None,
    );
    let entry = build(&mut batcher);
    let Command::Enqueue(block) = &entry.commands[0] else {
        panic!("one block")
    };
    assert_eq!(
        block.facts.expiry,
        vec![None, None, Some(ShardTime(1_077)), None]
    );
    assert_eq!(block.producers[0].sequences, vec![(2, 4)]);
}

#[test]
fn command_of_a_later_version_than_is_finalised_is_not_proposed() {
    let mut batcher = Batcher::default();
    let (queue, fencing) = (QueueId(5), 1);
    let command = || Command::Activate(warren_queue::entry::Activate { queue, fencing });
    batcher.allow(ClusterVersion(0));
    let refused = batcher.offer(command()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "it needs version 1, and the cluster has finalised version 0"
    );
    batcher.command(command());
    assert!(batcher.is_empty());
    batcher.allow(ClusterVersion::FIRST);
    assert_eq!(batcher.offer(command()), Ok(()));
    assert_eq!(build(&mut batcher).commands, [command()]);
    // What is allowed stays so for the next entry.
    assert_eq!(batcher.offer(command()), Ok(()));
}

fn ends(position: u64) -> Ends {
    let (queue, position) = (QueueId(5), Position(position));
    Ends {
        deliveries: vec![EndedDelivery {
            queue,
            position,
            attempt: warren_types::Attempt::default(),
        }],
        endings: vec![Ending::Settle(Settle {
            queue,
            ranges: vec![PositionRange::one(position)],
            reason: SettleReason::Acked,
        })],
    }
}

#[test]
fn what_ends_in_one_waits_for_the_next_entry_when_this_one_is_full() {
    let mut batcher = Batcher::default();
    assert!(!batcher.knows_together());
    batcher.allow(SettleTogether::SINCE);
    assert!(batcher.knows_together());
    let large = || Part {
        payload: Bytes::from(vec![0; ENTRY_BYTES_MAX]),
        ..part(5, &[1])
    };
    for position in 1..=3 {
        batcher.settle_together(ends(position), vec![large()], ShardTime(1), |_| None);
    }
    let mut built = Vec::new();
    while !batcher.is_empty() {
        for command in build(&mut batcher).commands {
            let Command::SettleTogether(it) = command else {
                panic!("{command:?}")
            };
            built.push((it.deliveries[0].position.0, it.blocks.len()));
        }
        assert!(built.len() <= 3);
    }
    assert_eq!(built, [(1, 1), (2, 1), (3, 1)]);
}
