//! What a queue remembers, and forgets when it is too much. Not here: random histories (`properties`).

use warren_queue::entry::{Cancel, Command, OriginPart};
use warren_queue::outcome::{BatchVerdict, Cancelled, Effect, Output};
use warren_queue::rows::RowKey;
use warren_queue::store::{CANCELS_REMEMBERED, PLACED_BATCHES_REMEMBERED, PLACES_MAX};
use warren_types::{BatchSequence, Position, PositionRange, Run, ShardTime};

use crate::limits::{NODE, QUEUE, batch, enqueue, entry, machine};
use crate::machine::{Machine, SMALL};

fn scheduled(count: usize) -> Command {
    let mut command = enqueue(QUEUE, count, Vec::new());
    if let Command::Enqueue(it) = &mut command {
        it.facts.due = vec![Some(ShardTime(1_000)); count];
    }
    command
}

fn cancel(machine: &mut Machine, first: u64, count: u64) -> Cancelled {
    let range = PositionRange {
        first: Position(first),
        count,
    };
    let cancel = Command::Cancel(Cancel {
        queue: QUEUE,
        ranges: vec![range],
    });
    cancelled(machine.apply(entry(1, vec![cancel], Vec::new())))
}

fn cancelled(out: Output) -> Cancelled {
    let cancelled = out.effects.into_iter().find_map(|effect| {
        if let Effect::Cancelled(it) = effect {
            Some(it)
        } else {
            None
        }
    });
    cancelled.expect("each cancel is answered")
}

#[test]
fn cancels_more_than_remembered_forget_the_oldest_and_their_rows() {
    let mut machine = machine(SMALL);
    machine.apply(entry(
        1,
        vec![scheduled(CANCELS_REMEMBERED as usize + 3)],
        Vec::new(),
    ));
    let first = cancel(&mut machine, 1, CANCELS_REMEMBERED);
    assert_eq!(first.left.all.messages, CANCELS_REMEMBERED);
    assert_eq!(cancel(&mut machine, 1, 1).before.len(), 1);
    cancel(&mut machine, CANCELS_REMEMBERED + 1, 2);
    machine = Machine::on(machine.rows, SMALL);
    assert_eq!(cancel(&mut machine, 1, 2).before, Vec::new());
    assert_eq!(
        cancel(&mut machine, 1, CANCELS_REMEMBERED + 2).before,
        vec![PositionRange {
            first: Position(3),
            count: CANCELS_REMEMBERED
        }]
    );
    let count = |is: fn(&RowKey) -> bool| machine.rows.0.keys().filter(|key| is(key)).count();
    let remembered = count(|key| matches!(key, RowKey::Memory { .. }));
    let numbered = count(|key| matches!(key, RowKey::MemoryOrder { .. }));
    assert_eq!(
        (remembered as u64, numbered as u64),
        (CANCELS_REMEMBERED, CANCELS_REMEMBERED)
    );
}

#[test]
fn more_cancelled_in_one_entry_than_remembered_leaves_no_row_too_many() {
    let mut machine = machine(SMALL);
    let count = CANCELS_REMEMBERED + 5;
    machine.apply(entry(1, vec![scheduled(count as usize)], Vec::new()));
    assert_eq!(cancel(&mut machine, 1, count).left.all.messages, count);
    assert_eq!(
        cancel(&mut machine, 1, count).before,
        vec![PositionRange {
            first: Position(6),
            count: CANCELS_REMEMBERED
        }]
    );
}

fn places(machine: &Machine, sequence: u64) -> Option<usize> {
    let recorded = machine
        .store
        .recorded(NODE, Run(1), BatchSequence(sequence));
    match recorded {
        BatchVerdict::Duplicate { places, .. } => Some(places.len()),
        _ => None,
    }
}

#[test]
fn places_of_old_batches_are_forgotten_by_age() {
    let mut machine = machine(SMALL);
    for sequence in 1..=PLACED_BATCHES_REMEMBERED + 1 {
        let commands = vec![scheduled(1)];
        machine.apply(entry(1, commands, vec![batch(sequence, 1)]));
    }
    assert_eq!(
        [places(&machine, 1), places(&machine, 2)],
        [Some(0), Some(1)]
    );
}

#[test]
fn places_more_than_remembered_forget_the_oldest_batches_but_never_the_last() {
    let mut machine = machine(SMALL);
    let many = PLACES_MAX + 1;
    for (sequence, count) in [(1, 10), (2, PLACES_MAX - 10), (3, 1), (4, many)] {
        let mut origin = batch(sequence, 0);
        origin.parts = (0..count as u32)
            .map(|first| OriginPart {
                command: 0,
                first,
                count: 1,
            })
            .collect();
        machine.apply(entry(1, vec![scheduled(count)], vec![origin]));
        let found: Vec<_> = (1..=sequence).map(|it| places(&machine, it)).collect();
        let expected = match sequence {
            1 => vec![Some(10)],
            2 => vec![Some(10), Some(PLACES_MAX - 10)],
            3 => vec![Some(0), Some(PLACES_MAX - 10), Some(1)],
            _ => vec![Some(0), Some(0), Some(0), Some(many)],
        };
        assert_eq!(found, expected);
    }
}
