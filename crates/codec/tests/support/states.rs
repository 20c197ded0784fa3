//! Random states of messages. Not here: other rows.

use proptest::{option, prelude::*};
use warren_queue::rows::*;
use warren_types::*;

use super::{park_cause, ranges};

pub(super) fn counts_row() -> impl Strategy<Value = CountsRow> {
    let counts = proptest::collection::btree_map(any::<u64>(), any::<(u32, u32, u8)>(), 0..5);
    counts.prop_map(|counts| CountsRow {
        delayed: counts
            .iter()
            .filter(|(_, (_, _, until))| *until > 100)
            .map(|(&at, &(_, _, until))| (Position(at), ShardTime(u64::from(until))))
            .collect(),
        counts: counts
            .into_iter()
            .map(|(at, (delivered, acquired, _))| (Position(at), delivered, acquired))
            .collect(),
    })
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
