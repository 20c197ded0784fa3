//! Random states of messages. Not here: other rows.

use proptest::{collection::vec, option, prelude::*};
use warren_queue::{entry::*, rows::*};
use warren_types::*;

use super::{blocks::block_of_queue, park_cause, ranges, reason};

pub(super) fn counts_row() -> impl Strategy<Value = CountsRow> {
    let counts = proptest::collection::btree_map(any::<u64>(), any::<(u32, u32, u8)>(), 0..5);
    let counts = counts.prop_map(|counts| CountsRow {
        delayed: counts
            .iter()
            .filter(|(_, (_, _, until))| *until > 100)
            .map(|(&at, &(_, _, until))| (Position(at), ShardTime(u64::from(until))))
            .collect(),
        counts: counts
            .into_iter()
            .map(|(at, (delivered, acquired, _))| (Position(at), delivered, acquired))
            .collect(),
        said: vec![],
    });
    let said =
        proptest::collection::btree_map(any::<u64>(), vec((any::<u64>(), said()), 1..3), 0..3);
    (counts, said).prop_map(|(counts, said)| CountsRow {
        said: said
            .into_iter()
            .map(|(at, of_it)| {
                let of_it = of_it.into_iter();
                let of_it = of_it.map(|(at, said)| SaidAt {
                    at: ShardTime(at),
                    said,
                });
                (Position(at), of_it.collect())
            })
            .collect(),
        ..counts
    })
}

/// At least a word.
pub(super) fn said() -> impl Strategy<Value = Said> {
    let outcome = prop_oneof![
        Just(AttemptOutcome::Rejected),
        Just(AttemptOutcome::Parked),
        Just(AttemptOutcome::Failed),
        Just(AttemptOutcome::Returned),
    ];
    (outcome, "[a-z]{1,20}", ".{0,40}", "[a-z]{0,9}").prop_map(
        |(outcome, reason, detail, consumer)| Said {
            outcome,
            reason,
            detail,
            consumer,
        },
    )
}

pub(super) fn marks_row() -> impl Strategy<Value = MarksRow> {
    let parked = proptest::collection::btree_map(any::<u64>(), park_cause(), 0..5);
    (ranges(), parked, option::of(any::<u64>())).prop_map(|(released, parked, timer)| MarksRow {
        released,
        parked: parked
            .into_iter()
            .map(|(at, cause)| (Position(at), cause))
            .collect(),
        timer: timer.map(ShardTime),
    })
}

/// Removes messages of some states.
pub(super) fn purge() -> impl Strategy<Value = Command> {
    let states = any::<[bool; 5]>();
    (any::<u64>(), 1..u64::MAX, ranges(), states).prop_map(|(queue, below, except, states)| {
        let [ready, delayed, scheduled, parked, dead_lettering] = states;
        Command::Purge(Purge {
            queue: QueueId(queue),
            below: Position(below),
            except,
            states: PurgeStates {
                ready,
                delayed,
                scheduled,
                parked,
                dead_lettering,
            },
        })
    })
}

/// Several deliveries that end in one.
pub(super) fn settle_together() -> impl Strategy<Value = Command> {
    let queue = any::<u64>().prop_map(QueueId);
    let spot = (any::<[u64; 4]>()).prop_map(|[queue, position, term, number]| EndedDelivery {
        queue: QueueId(queue),
        position: Position(position),
        attempt: Attempt {
            term: Term(term),
            number,
        },
    });
    let words = option::of(said());
    let moved = option::weighted(0.2, super::moves::move_out());
    let ending = (queue, ranges(), reason(), park_cause(), words, moved).prop_map(
        |(queue, ranges, reason, cause, said, moved)| {
            if let Some(moved) = moved {
                return Ending::MoveOut(moved);
            }
            let kind = ReturnKind::Failed;
            let not_before = Some(ShardTime(7));
            match (said, reason) {
                (Some(said), _) => Ending::Remark(Remark {
                    queue,
                    ranges,
                    said,
                }),
                (None, SettleReason::Rejected) => Ending::Park(Park {
                    queue,
                    ranges,
                    cause,
                    kind,
                }),
                (None, SettleReason::Expired) => Ending::Return(Return {
                    queue,
                    ranges,
                    kind,
                    not_before,
                }),
                (None, reason) => Ending::Settle(Settle {
                    queue,
                    ranges,
                    reason,
                }),
            }
        },
    );
    let (deliveries, endings) = (vec(spot, 1..4), vec(ending, 1..5));
    (deliveries, endings, vec(block_of_queue(), 0..3)).prop_map(|(deliveries, endings, blocks)| {
        Command::SettleTogether(SettleTogether {
            deliveries,
            endings,
            blocks,
        })
    })
}
