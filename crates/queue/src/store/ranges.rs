//! A set of positions as ascending, joined ranges in a `Vec`. Not here: settled positions of a block, which are a bitmap (`blocks`).

use warren_types::{Position, PositionRange};

/// From `first` up to, not including, `end`; nothing if that is empty.
pub(super) fn between(first: Position, end: Position) -> Option<PositionRange> {
    (first < end).then(|| PositionRange {
        first,
        count: end.0 - first.0,
    })
}

/// Appends a range that begins at or after the end of the last one.
pub(super) fn push(ranges: &mut Vec<PositionRange>, range: PositionRange) {
    match ranges.last_mut() {
        Some(last) if last.end() == range.first => last.count += range.count,
        Some(_) | None => ranges.push(range),
    }
}

/// Adds positions to the set.
pub(super) fn insert(ranges: &mut Vec<PositionRange>, range: PositionRange) {
    if range.count == 0 {
        return;
    }
    let from = ranges.partition_point(|it| it.end() < range.first);
    let to = ranges.partition_point(|it| it.first <= range.end());
    let first = ranges
        .get(from)
        .map_or(range.first, |it| it.first.min(range.first));
    let last = to.checked_sub(1).and_then(|at| ranges.get(at));
    let end = last.map_or(range.end(), |it| it.end().max(range.end()));
    ranges.splice(from..to, between(first, end));
}

/// Takes positions out of the set.
pub(super) fn remove(ranges: &mut Vec<PositionRange>, range: PositionRange) {
    let from = ranges.partition_point(|it| it.end() <= range.first);
    let to = ranges.partition_point(|it| it.first < range.end());
    if from >= to || range.count == 0 {
        return;
    }
    let before = ranges
        .get(from)
        .and_then(|it| between(it.first, range.first));
    let after = ranges
        .get(to - 1)
        .and_then(|it| between(range.end(), it.end()));
    ranges.splice(from..to, before.into_iter().chain(after));
}

pub(super) fn contains(ranges: &[PositionRange], position: Position) -> bool {
    let at = ranges.partition_point(|it| it.end() <= position);
    ranges.get(at).is_some_and(|it| it.contains(position))
}

/// Takes out all positions below `floor`.
pub(super) fn remove_below(ranges: &mut Vec<PositionRange>, floor: Position) {
    if ranges.first().is_some_and(|it| it.first < floor)
        && let Some(range) = between(Position(0), floor)
    {
        remove(ranges, range);
    }
}

/// Keeps the highest `max` ranges.
pub(super) fn keep_highest(ranges: &mut Vec<PositionRange>, max: usize) {
    let excess = ranges.len().saturating_sub(max);
    ranges.drain(..excess);
}

/// Any ranges as a set.
pub(super) fn set_of(any: &[PositionRange]) -> Vec<PositionRange> {
    let mut sorted: Vec<PositionRange> = any.iter().copied().filter(|it| it.count > 0).collect();
    sorted.sort_unstable();
    let mut set: Vec<PositionRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match set.last_mut() {
            Some(last) if range.first <= last.end() => {
                if let Some(longer) = between(last.first, last.end().max(range.end())) {
                    *last = longer;
                }
            }
            Some(_) | None => set.push(range),
        }
    }
    set
}

/// What of `first..end` is not in the set.
pub(super) fn complement(
    set: &[PositionRange],
    first: Position,
    end: Position,
) -> Vec<PositionRange> {
    let mut at = first;
    let mut rest = Vec::with_capacity(set.len() + 1);
    for range in set {
        rest.extend(between(at, range.first.min(end)));
        at = at.max(range.end());
    }
    rest.extend(between(at, end));
    rest
}

/// The common part of a range and `first..end`.
pub(super) fn clip(range: PositionRange, first: Position, end: Position) -> Option<PositionRange> {
    between(range.first.max(first), range.end().min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(first: u64, count: u64) -> PositionRange {
        PositionRange {
            first: Position(first),
            count,
        }
    }

    fn listed(ranges: &[PositionRange]) -> Vec<u64> {
        ranges
            .iter()
            .flat_map(|it| it.positions())
            .map(|it| it.0)
            .collect()
    }

    proptest! {
        #[test]
        fn set_random_inserts_and_removes_equals_a_set_of_numbers(
            steps in prop::collection::vec((any::<bool>(), 0..60_u64, 0..12_u64), 0..60),
            floor in 0..70_u64,
        ) {
            let mut ranges = Vec::new();
            let mut model = BTreeSet::new();
            for (add, first, count) in steps {
                if add {
                    insert(&mut ranges, range(first, count));
                    model.extend(first..first + count);
                } else {
                    remove(&mut ranges, range(first, count));
                    model.retain(|at| !(first..first + count).contains(at));
                }
                prop_assert_eq!(listed(&ranges), model.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].first));
            }
            let holes = complement(&ranges, Position(3), Position(65));
            prop_assert_eq!(listed(&holes), (3..65).filter(|at| !model.contains(at)).collect::<Vec<_>>());
            remove_below(&mut ranges, Position(floor));
            prop_assert_eq!(listed(&ranges), model.into_iter().filter(|&at| at >= floor).collect::<Vec<_>>());
        }

        #[test]
        fn set_of_any_ranges_is_ascending_and_joined(any in prop::collection::vec((0..60_u64, 0..12_u64), 0..20)) {
            let given: Vec<_> = any.into_iter().map(|(first, count)| range(first, count)).collect();
            let set = set_of(&given);
            let expected: BTreeSet<u64> = listed(&given).into_iter().collect();
            prop_assert_eq!(listed(&set), expected.into_iter().collect::<Vec<_>>());
            prop_assert!(set.windows(2).all(|pair| pair[0].end() < pair[1].first));
        }
    }

    #[test]
    fn set_ranges_at_the_end_of_all_positions_do_not_overflow() {
        let mut ranges = vec![range(5, 2)];
        insert(&mut ranges, range(u64::MAX - 1, u64::MAX));
        remove(&mut ranges, range(0, u64::MAX));
        assert!(ranges.is_empty());
    }
}
