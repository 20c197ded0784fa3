//! Puts what came apart into one block or list. Not here: which belongs together (`batcher`).

use bytes::{Bytes, BytesMut};
use warren_types::{Facts, PositionRange, ProducerSpan};

/// Counts inside one entry are far below 2^32: an entry is at most a few tens of MiB.
pub(super) fn narrow(count: u64) -> u32 {
    u32::try_from(count).expect("an entry holds fewer than 2^32 messages")
}

pub(super) fn join_payload(mut segments: Vec<Bytes>) -> Bytes {
    if segments.len() == 1
        && let Some(only) = segments.pop()
    {
        return only;
    }
    let mut joined = BytesMut::with_capacity(segments.iter().map(Bytes::len).sum());
    for segment in &segments {
        joined.extend_from_slice(segment);
    }
    joined.freeze()
}

/// Ascending, joined, without overlap.
pub(super) fn join_ranges(mut ranges: Vec<PositionRange>) -> Vec<PositionRange> {
    if ranges.is_sorted_by(|a, b| a.end() < b.first) {
        return ranges;
    }
    ranges.sort_unstable();
    let mut joined: Vec<PositionRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.end() => {
                let end = last.end().max(range.end());
                last.count = end.0 - last.first.0;
            }
            _ => joined.push(range),
        }
    }
    joined
}

pub(super) fn join_span(spans: &mut Vec<ProducerSpan>, span: ProducerSpan) {
    match spans
        .iter_mut()
        .find(|known| known.producer == span.producer && known.epoch == span.epoch)
    {
        Some(known) => known.sequences.extend(span.sequences),
        None => spans.push(span),
    }
}

/// Appends `more`'s columns; an optional column appears as soon as one part has it.
pub(super) fn join_facts(facts: &mut Facts, more: Facts) {
    let before = facts.size.len();
    let after = before + more.size.len();
    if before == 0 {
        *facts = more;
        return;
    }
    join_column(&mut facts.expiry, more.expiry, before, after);
    join_column(&mut facts.due, more.due, before, after);
    join_column(&mut facts.group_hash, more.group_hash, before, after);
    join_column(&mut facts.fairness_hash, more.fairness_hash, before, after);
    join_column(&mut facts.dedup_hash, more.dedup_hash, before, after);
    join_column(&mut facts.dedup_body, more.dedup_body, before, after);
    facts.size.extend(more.size);
    facts.body_size.extend(more.body_size);
}

fn join_column<T: Clone + Default>(column: &mut Vec<T>, more: Vec<T>, before: usize, after: usize) {
    if column.is_empty() && more.is_empty() {
        return;
    }
    column.resize(before, T::default());
    column.extend(more);
    column.resize(after, T::default());
}
