//! Laws of the store over random entries, against the naive model. `WARREN_PROPTEST_CASES` sets how many; a failure prints its seed.
//! Not here: entries no leader proposes (`nonsense`).

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use warren_queue::dispatch::io::QueueOpening;
use warren_queue::outcome::Effect;
use warren_queue::rows::Rows as _;
use warren_queue::store::TIMER_RECHECK_MS;
use warren_types::{Position, PositionRange, Priority, QueueId};

use crate::generator::plans;
use crate::machine::{LARGE, Machine, SMALL};
use crate::model::{Model, ModelCancel, ModelMessage, ModelQueue};

pub(crate) fn config() -> ProptestConfig {
    #[allow(
        clippy::disallowed_methods,
        reason = "the long form is asked for from outside"
    )]
    let cases = std::env::var("WARREN_PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(256);
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// One law per line of the comparison: replies, batches, counters, marks, what is live and how often it came back. With
    /// all blocks in memory, with two, and with a store opened anew on its rows every few entries: the same.
    #[test]
    fn store_random_entries_equals_the_model_whatever_is_in_memory(plans in plans(), reopen in 1..9_usize) {
        let mut model = Model::default();
        let (mut large, mut small, mut anew) = (Machine::new(LARGE), Machine::new(SMALL), Machine::new(SMALL));
        for (number, plan) in plans.into_iter().enumerate() {
            let entry = plan.entry(&model);
            prop_assert_eq!(entry.validate(), Ok(()));
            if recreates(&entry) {
                continue; // ids are never used again
            }
            let expected = model.apply(&entry);
            let out = large.apply(entry.clone());
            prop_assert_eq!(&out.entries, &vec![expected]);
            prop_assert_eq!(&small.apply(entry.clone()).changes, &out.changes);
            if number % reopen == 0 {
                anew = Machine::on(anew.rows, SMALL);
            }
            let from_anew = anew.apply(entry);
            prop_assert_eq!(from_anew.changes, out.changes);
            prop_assert_eq!(format!("{:?}", from_anew.effects), format!("{:?}", out.effects));
            for machine in [&small, &anew] {
                prop_assert_eq!(&machine.rows, &large.rows);
                prop_assert_eq!(machine.store.digest(), large.store.digest());
            }
            prop_assert_eq!(large.store.now().0, model.now);
            positions_of_effects_exist(&out.effects, &model)?;
            prop_assert_eq!(cancels(&out.effects), std::mem::take(&mut model.cancels));
            for machine in [&large, &small] {
                compare(machine, &model)?;
            }
        }
    }
}

fn recreates(entry: &warren_queue::entry::ShardEntry) -> bool {
    use warren_queue::entry::Command;
    let deleted = entry
        .commands
        .iter()
        .position(|it| matches!(it, Command::DeleteQueue(_)));
    let created = |it: &Command| matches!(it, Command::CreateQueue(it) if it.queue == QueueId(2));
    deleted.is_some_and(|at| entry.commands[at..].iter().any(created))
}

fn positions_of_effects_exist(effects: &[Effect], model: &Model) -> TestCaseResult {
    for effect in effects {
        if let Effect::Settled { queue, ranges, .. } | Effect::Purged { queue, ranges, .. } = effect
            && let Some(queue) = model.queues.get(&queue.0)
        {
            for position in ranges.iter().flat_map(|it| it.positions()) {
                prop_assert!(!queue.messages[position.0 as usize - 1].live);
            }
        }
    }
    Ok(())
}

/// What the entry says of its cancels.
fn cancels(effects: &[Effect]) -> Vec<ModelCancel> {
    let listed = |ranges: &[PositionRange]| {
        let positions = ranges.iter().flat_map(|it| it.positions());
        positions.map(|it| it.0).collect()
    };
    let cancels = effects.iter().filter_map(|effect| {
        if let Effect::Cancelled(it) = effect {
            Some(ModelCancel {
                now: listed(&it.ranges),
                before: listed(&it.before),
                unknown: listed(&it.unknown),
            })
        } else {
            None
        }
    });
    cancels.collect()
}

fn compare(machine: &Machine, model: &Model) -> TestCaseResult {
    prop_assert_eq!(
        machine.store.queues().map(|it| it.0).collect::<Vec<_>>(),
        model.queues.keys().copied().collect::<Vec<_>>()
    );
    for (id, queue) in &model.queues {
        let stats = machine.store.queue_stats(QueueId(*id)).unwrap();
        prop_assert_eq!(stats.counters, queue.counters);
        prop_assert_eq!((stats.live, stats.next.0), (queue.live(), queue.next()));
        let opening = machine.store.opening(&machine.rows, QueueId(*id)).unwrap();
        prop_assert_eq!(opening.next.0, queue.next());
        let marks = opening
            .levels
            .iter()
            .map(|it| (it.priority.level(), it.handed_out.0));
        prop_assert_eq!(
            marks.collect::<Vec<_>>(),
            queue.marks.clone().into_iter().collect::<Vec<_>>()
        );
        for level in &opening.levels {
            let of_level = |at: u64| {
                queue
                    .messages
                    .get(at as usize - 1)
                    .filter(|it| it.live && it.priority == level.priority.level())
            };
            let live: Vec<u64> = (1..queue.next())
                .filter(|at| of_level(*at).is_some())
                .collect();
            prop_assert_eq!(level.live, live.len() as u64);
            if let Some(first) = live.first() {
                prop_assert_eq!(level.head.0, queue.messages[*first as usize - 1].block);
            }
            let released = level
                .released
                .iter()
                .flat_map(|it| it.positions())
                .map(|it| it.0);
            let released: Vec<u64> = released
                .filter(|at| *at < queue.next() && of_level(*at).is_some())
                .collect();
            let expected = live
                .into_iter()
                .filter(|at| of_level(*at).unwrap().released);
            prop_assert_eq!(released, expected.collect::<Vec<_>>());
            let count = |is: fn(&ModelMessage) -> bool| {
                let of_level = (1..queue.next()).filter_map(of_level);
                of_level.filter(|it| is(it)).count() as u64
            };
            prop_assert_eq!(level.scheduled, count(|it| it.waiting));
            prop_assert_eq!(level.parked, count(|it| it.parked));
            blocks(machine, QueueId(*id), level.priority, queue)?;
        }
        delayed(&opening, queue)?;
        said(machine, QueueId(*id), queue)?;
        timers(machine, QueueId(*id), queue, model.now)?;
    }
    Ok(())
}

/// What consumers said is kept with what is there.
fn said(machine: &Machine, id: QueueId, queue: &ModelQueue) -> TestCaseResult {
    let all = PositionRange {
        first: Position(1),
        count: queue.messages.len() as u64,
    };
    let read = machine.store.read(&machine.rows, id, &[all]);
    let told: Vec<(u64, Vec<(u64, String)>)> = read
        .into_iter()
        .filter(|it| !it.said.is_empty())
        .map(|it| {
            let said = it.said.into_iter().map(|it| (it.at.0, it.said.reason));
            (it.position.0, said.collect())
        })
        .collect();
    let expected = (1..)
        .zip(&queue.messages)
        .filter(|(_, it)| it.live && !it.said.is_empty())
        .map(|(at, it)| (at, it.said.clone()));
    prop_assert_eq!(told, expected.collect::<Vec<_>>());
    Ok(())
}

/// What an opening says is delayed.
fn delayed(opening: &QueueOpening, queue: &ModelQueue) -> TestCaseResult {
    let mut told: Vec<(u64, u64, (u32, u32))> = opening
        .delayed
        .iter()
        .map(|it| {
            let counts = (it.delivery_count, it.acquired_count);
            (it.position.0, it.until.0, counts)
        })
        .collect();
    told.sort_unstable();
    let expected = (1..)
        .zip(&queue.messages)
        .filter(|(_, it)| it.live)
        .filter_map(|(at, it)| Some((at, it.delayed?, it.counts)));
    prop_assert_eq!(told, expected.collect::<Vec<_>>());
    Ok(())
}

/// Whatever comes due or expires, the timer of its block rings no later; one that expired in flight is looked at again.
fn timers(machine: &Machine, id: QueueId, queue: &ModelQueue, now: u64) -> TestCaseResult {
    let timers = machine.rows.timers(id, usize::MAX);
    let mut blocks: Vec<u64> = timers.iter().map(|(_, _, first)| first.0).collect();
    blocks.sort_unstable();
    blocks.dedup();
    prop_assert_eq!(blocks.len(), timers.len(), "one timer per block");
    for (at, message) in (1..)
        .zip(&queue.messages)
        .filter(|(_, it)| it.live && !it.parked)
    {
        let latest = if message.waiting {
            message.due
        } else {
            message.expiry.map(|it| it.max(now + TIMER_RECHECK_MS))
        };
        let Some(latest) = latest else { continue };
        let timer = timers.iter().find(|(_, _, first)| first.0 == message.block);
        prop_assert!(
            timer.is_some_and(|(rings, _, _)| rings.0 <= latest),
            "message {} of queue {} is due at {}, its block's timer: {:?}",
            at,
            id,
            latest,
            timer
        );
    }
    Ok(())
}

/// Walks over a priority's blocks as the dispatcher loads them.
fn blocks(
    machine: &Machine,
    id: QueueId,
    priority: Priority,
    queue: &ModelQueue,
) -> TestCaseResult {
    let mut from = Position(1);
    let mut seen = Vec::new();
    while let Some(it) = machine.store.load(&machine.rows, id, priority, from).block {
        prop_assert!(it.block.first >= from);
        from = it.block.first.plus(u64::from(it.block.count));
        let settled =
            |position: &Position| it.settled.iter().any(|range| range.contains(*position));
        seen.extend(
            (it.block.first.0..from.0)
                .map(Position)
                .filter(|position| !settled(position))
                .map(|position| {
                    let counts = it.counts.iter().find(|(at, _, _)| *at == position);
                    (
                        position.0,
                        counts.map_or((0, 0), |(_, delivered, acquired)| (*delivered, *acquired)),
                    )
                }),
        );
    }
    let expected = (1..)
        .zip(&queue.messages)
        .filter(|(_, it)| it.live && !it.parked && it.priority == priority.level());
    prop_assert_eq!(
        seen,
        expected.map(|(at, it)| (at, it.counts)).collect::<Vec<_>>()
    );
    Ok(())
}
