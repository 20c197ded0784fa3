//! What happens when a bound is reached. Not here: bounds that only save memory (`properties` runs with tiny ones).

use bytes::Bytes;
use warren_queue::entry::{
    AttemptOutcome, Command, CreateQueue, Enqueue, HandOut, OriginBatch, OriginPart, ProposalId,
    Remark, Said, Settle, SettleReason, ShardEntry,
};
use warren_queue::outcome::{BatchVerdict, Output, Reply};
use warren_queue::rows::RowKey;
use warren_queue::store::{
    EXCEPTIONS_MAX, MARK_AHEAD_MAX, ORIGIN_BATCHES_REMEMBERED, PRODUCERS_MAX, RELEASED_RANGES_MAX,
    StoreOptions,
};
use warren_types::{
    BatchSequence, Facts, Incarnation, NotStored, Position, PositionRange, Priority, ProducerId,
    ProducerSpan, QueueId, QueueName, Run, ShardTime, TopologyIndex, VhostId,
};

use crate::machine::{LARGE, Machine, SMALL};

pub(crate) const QUEUE: QueueId = QueueId(1);
pub(crate) const NODE: Incarnation = Incarnation(7);

pub(crate) fn machine(options: StoreOptions) -> Machine {
    let mut machine = Machine::new(options);
    let name = QueueName::try_from("orders").unwrap();
    let create = CreateQueue {
        queue: QUEUE,
        vhost: VhostId(1),
        name,
        topology: TopologyIndex(1),
    };
    machine.apply(entry(1, vec![Command::CreateQueue(create)], Vec::new()));
    machine
}

pub(crate) fn entry(now: u64, commands: Vec<Command>, origins: Vec<OriginBatch>) -> ShardEntry {
    let (proposal, topology) = (ProposalId::default(), TopologyIndex(1));
    ShardEntry {
        proposal,
        now: ShardTime(now),
        topology,
        origins,
        commands,
    }
}

pub(crate) fn batch(sequence: u64, count: u32) -> OriginBatch {
    let parts = if count > 0 {
        vec![OriginPart {
            command: 0,
            first: 0,
            count,
        }]
    } else {
        Vec::new()
    };
    OriginBatch {
        incarnation: NODE,
        run: Run(1),
        sequence: BatchSequence(sequence),
        parts,
    }
}

pub(crate) fn enqueue(queue: QueueId, count: usize, producers: Vec<ProducerSpan>) -> Command {
    let facts = Facts {
        size: vec![1; count],
        body_size: vec![1; count],
        ..Facts::default()
    };
    let (priority, payload) = (Priority::DEFAULT, Bytes::from(vec![0; count]));
    Command::Enqueue(Enqueue {
        queue,
        priority,
        facts,
        payload,
        producers,
        raise: None,
        full: Vec::new(),
        dedup: None,
    })
}

fn span(producer: u64, sequence: u64) -> ProducerSpan {
    let producer = ProducerId(Bytes::copy_from_slice(&producer.to_be_bytes()));
    ProducerSpan {
        producer,
        epoch: 1,
        sequences: vec![(0, sequence)],
    }
}

fn stored(out: &Output) -> u64 {
    match out.entries[0].replies[0] {
        Reply::Enqueued { count, .. } => count,
        ref other => panic!("not enqueued: {other:?}"),
    }
}

#[test]
fn producers_more_than_remembered_forget_the_one_unseen_longest() {
    let mut machine = machine(LARGE);
    let mut publish = |now, producer| {
        let all = PositionRange {
            first: Position(1),
            count: u64::MAX,
        };
        let settle = Settle {
            queue: QUEUE,
            ranges: vec![all],
            reason: SettleReason::Acked,
        };
        let commands = vec![
            enqueue(QUEUE, 1, vec![span(producer, 5)]),
            Command::Settle(settle),
        ];
        let stored = stored(&machine.apply(entry(now, commands, Vec::new())));
        let rows = machine.rows.0.keys();
        let rows = rows
            .rev()
            .take_while(|key| matches!(key, RowKey::Producer { .. }));
        (stored, if now == 0 { rows.count() } else { 0 })
    };
    for producer in 0..=PRODUCERS_MAX as u64 {
        assert_eq!(publish(10 + producer, producer), (1, 0));
    }
    assert_eq!(
        publish(0, 1),
        (0, PRODUCERS_MAX),
        "the second one is still known"
    );
    assert_eq!(
        publish(0, 0),
        (1, PRODUCERS_MAX),
        "the first one was forgotten"
    );
}

#[test]
fn exceptions_of_old_batches_are_forgotten_by_age() {
    let mut machine = machine(SMALL);
    for sequence in 1..=ORIGIN_BATCHES_REMEMBERED + 2 {
        let gone = u32::from(sequence <= 4);
        machine.apply(entry(
            1,
            vec![enqueue(QueueId(9), 1, Vec::new())],
            vec![batch(sequence, gone)],
        ));
    }
    let recorded = |sequence| {
        machine
            .store
            .recorded(NODE, Run(1), BatchSequence(sequence))
    };
    assert_eq!(recorded(2), BatchVerdict::DuplicateForgotten);
    assert_eq!(
        recorded(3),
        BatchVerdict::Duplicate {
            exceptions: vec![(0, NotStored::QueueGone)],
            places: Vec::new(),
        }
    );
    assert_eq!(
        recorded(5),
        BatchVerdict::Duplicate {
            exceptions: Vec::new(),
            places: Vec::new(),
        }
    );
}

#[test]
fn exceptions_more_than_remembered_forget_the_oldest_batches_but_never_the_last() {
    let mut machine = machine(SMALL);
    let half = EXCEPTIONS_MAX / 2;
    for (sequence, count) in [(1, half), (2, half), (3, 1), (4, EXCEPTIONS_MAX + 5)] {
        let commands = vec![enqueue(QueueId(9), count, Vec::new())];
        machine.apply(entry(1, commands, vec![batch(sequence, count as u32)]));
        let recorded =
            |sequence| match machine
                .store
                .recorded(NODE, Run(1), BatchSequence(sequence))
            {
                BatchVerdict::Duplicate { exceptions, .. } => Some(exceptions.len()),
                _ => None,
            };
        match sequence {
            3 => assert_eq!(
                (recorded(1), recorded(2), recorded(3)),
                (None, Some(half), Some(1))
            ),
            4 => assert_eq!((recorded(3), recorded(4)), (None, Some(EXCEPTIONS_MAX + 5))),
            _ => assert_eq!(recorded(sequence), Some(half)),
        }
    }
}

#[test]
fn released_ranges_more_than_kept_forget_the_lowest() {
    let mut machine = machine(SMALL);
    let count = 2 * RELEASED_RANGES_MAX as u64 + 20;
    let except = (0..count / 2)
        .map(|at| PositionRange::one(Position(1 + 2 * at)))
        .collect();
    let (up_to, positions) = (Some(Position(count)), Vec::new());
    let hand_out = HandOut {
        queue: QUEUE,
        priority: Priority::DEFAULT,
        up_to,
        except,
        positions,
    };
    let commands = vec![
        enqueue(QUEUE, count as usize, Vec::new()),
        Command::HandOut(hand_out),
    ];
    machine.apply(entry(1, commands, Vec::new()));
    let released = machine.store.opening(&machine.rows, QUEUE).unwrap().levels[0]
        .released
        .clone();
    assert_eq!(released.len(), RELEASED_RANGES_MAX);
    assert_eq!(
        released.last(),
        Some(&PositionRange::one(Position(count - 1)))
    );
}

#[test]
fn mark_far_ahead_is_cut() {
    let mut machine = machine(SMALL);
    let up_to = Some(Position(u64::MAX));
    let hand_out = HandOut {
        queue: QUEUE,
        priority: Priority::DEFAULT,
        up_to,
        except: Vec::new(),
        positions: Vec::new(),
    };
    machine.apply(entry(1, vec![Command::HandOut(hand_out)], Vec::new()));
    assert_eq!(
        machine.store.opening(&machine.rows, QUEUE).unwrap().levels[0].handed_out,
        Position(1 + MARK_AHEAD_MAX)
    );
}

#[test]
fn purge_of_a_long_queue_on_rows_leaves_nothing() {
    let mut machine = machine(SMALL);
    for _ in 0..500 {
        machine.apply(entry(1, vec![enqueue(QUEUE, 3, Vec::new())], Vec::new()));
    }
    let purge = warren_queue::entry::Purge {
        queue: QUEUE,
        below: Position(u64::MAX),
        except: Vec::new(),
        states: warren_queue::entry::PurgeStates::default(),
    };
    let out = machine.apply(entry(1, vec![Command::Purge(purge)], Vec::new()));
    assert_eq!(out.entries[0].replies, vec![Reply::Purged { count: 1_500 }]);
    let keys: Vec<_> = machine.rows.0.keys().cloned().collect();
    assert_eq!(keys, vec![RowKey::Shard, RowKey::Queue(QUEUE)]);
}

#[test]
fn words_beyond_what_a_block_keeps_are_not_kept_until_some_leave() {
    let mut machine = machine(SMALL);
    let facts = Facts {
        size: vec![0; 100],
        body_size: vec![0; 100],
        ..Facts::default()
    };
    let block = Enqueue {
        queue: QUEUE,
        priority: Priority::DEFAULT,
        facts,
        payload: Bytes::new(),
        producers: Vec::new(),
        raise: None,
        full: Vec::new(),
        dedup: None,
    };
    machine.apply(entry(2, vec![Command::Enqueue(block)], Vec::new()));
    let mut say = |first: u64, count: u64| {
        let detail = "x".repeat(Said::DETAIL_BYTES_MAX);
        let remark = Remark {
            queue: QUEUE,
            ranges: vec![PositionRange {
                first: Position(first),
                count,
            }],
            said: Said::new(AttemptOutcome::Failed, "", &detail, "").unwrap(),
        };
        let out = machine.apply(entry(3, vec![Command::Remark(remark)], Vec::new()));
        match out.entries[0].replies[0] {
            Reply::Remarked { count } => count,
            ref other => panic!("{other:?}"),
        }
    };
    // 64 KiB hold 56 of 1,152 bytes.
    assert_eq!(say(1, 100), 56);
    assert_eq!(say(1, 1), 0);
    let settle = Settle {
        queue: QUEUE,
        ranges: vec![PositionRange {
            first: Position(1),
            count: 3,
        }],
        reason: SettleReason::Acked,
    };
    machine.apply(entry(4, vec![Command::Settle(settle)], Vec::new()));
    let mut say = |first: u64| {
        let said = Said::new(AttemptOutcome::Failed, "again", "", "").unwrap();
        let ranges = vec![PositionRange::one(Position(first))];
        let remark = Remark {
            queue: QUEUE,
            ranges,
            said,
        };
        machine.apply(entry(5, vec![Command::Remark(remark)], Vec::new()))
    };
    let out = say(90);
    assert_eq!(out.entries[0].replies, [Reply::Remarked { count: 1 }]);
}
