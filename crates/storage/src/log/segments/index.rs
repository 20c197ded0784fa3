//! Where a group's records are on disk, and which leader made which: per stretch and per run, not per entry.
//! Not here: reading them (`read`), records in memory (`tail`).

use std::collections::BTreeMap;
use std::sync::Arc;

use warren_types::{LogId, LogIndex, ReplicaId, Term};

use super::segment::Span;

/// Small frames of a group that lie this close share a span, so that a log of small entries needs little memory.
const SPAN_BYTES: u64 = 32 << 10;

/// Where records are, by the first index of each span. Spans do not overlap.
#[derive(Default)]
pub(super) struct Spans {
    spans: BTreeMap<u64, Span>,
    /// The last span's stretch may hold records that were truncated: nothing may be added to it.
    sealed: bool,
}

impl Spans {
    /// Adds records that follow the last ones.
    pub(super) fn add(&mut self, span: Span) {
        let sealed = std::mem::take(&mut self.sealed);
        if let Some(mut last) = self.spans.last_entry() {
            let last = last.get_mut();
            let near = Arc::ptr_eq(&last.segment, &span.segment)
                && last.last + 1 == span.first
                && last.offset < span.offset
                && span.end - last.offset <= SPAN_BYTES;
            if near && !sealed {
                last.extend(&span);
                return;
            }
        }
        self.spans.insert(span.first, span);
    }

    /// Puts records at another place than they were.
    pub(super) fn replace(&mut self, span: Span) {
        self.remove(span.first, span.last);
        self.spans.insert(span.first, span);
    }

    pub(super) fn truncate_after(&mut self, kept: LogIndex) {
        self.remove(kept.0.saturating_add(1), u64::MAX);
        self.sealed = true;
    }

    pub(super) fn remove_upto(&mut self, upto: LogIndex) {
        self.remove(0, upto.0);
    }

    pub(super) fn clear(&mut self) {
        self.spans.clear();
    }

    fn remove(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // The span that begins before the range may reach into it, and beyond it.
        if let Some((&key, span)) = self.spans.range(..first).next_back()
            && span.last >= first
        {
            let before = span.part(span.first..=first - 1);
            let after = (span.last > last).then(|| span.part(last + 1..=span.last));
            self.spans.insert(key, before);
            if let Some(after) = after {
                self.spans.insert(after.first, after);
            }
        }
        while let Some((&key, span)) = self.spans.range(first..=last).next() {
            let after = (span.last > last).then(|| span.part(last + 1..=span.last));
            self.spans.remove(&key);
            if let Some(after) = after {
                self.spans.insert(after.first, after);
                break;
            }
        }
    }

    /// The span that holds an index.
    pub(super) fn find(&self, index: LogIndex) -> Option<&Span> {
        let (_, span) = self.spans.range(..=index.0).next_back()?;
        (span.last >= index.0).then_some(span)
    }

    /// The first of the newest entries that have at most about so many bytes, those of one span counted as if they were of one size;
    /// what lies before them may be dropped.
    pub(super) fn newest_within(&self, bytes: u64) -> LogIndex {
        let mut left = bytes;
        for span in self.spans.values().rev() {
            match left.checked_sub(span.bytes()) {
                Some(less) => left = less,
                None => {
                    let fit = (span.last - span.first + 1).saturating_mul(left) / span.bytes();
                    return LogIndex((span.last - fit).saturating_add(1));
                }
            }
        }
        LogIndex(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Span> {
        self.spans.values()
    }

    /// The first index of a range that no span holds.
    pub(super) fn first_missing(&self, first: u64, last: u64) -> Option<u64> {
        let mut next = first;
        for span in self.spans.values() {
            if span.first > next {
                break;
            }
            next = next.max(span.last.saturating_add(1));
        }
        (next <= last).then_some(next)
    }
}

/// Which leader made which entries: the first index of each run.
#[derive(Clone, Default, Debug)]
pub(super) struct Runs(BTreeMap<u64, (Term, ReplicaId)>);

impl Runs {
    /// Learns of entries from `first` on. Leaders only grow along a log, so it does not matter what was known around them.
    pub(super) fn learn(&mut self, first: u64, term: Term, leader: ReplicaId) {
        let before = self.0.range(..=first).next_back().map(|(_, run)| *run);
        if before != Some((term, leader)) {
            self.0.insert(first, (term, leader));
        }
    }

    pub(super) fn truncate_after(&mut self, kept: LogIndex) {
        self.0.split_off(&kept.0.saturating_add(1));
    }

    /// Forgets runs that end at or before `upto`.
    pub(super) fn remove_upto(&mut self, upto: LogIndex) {
        let next = upto.0.saturating_add(1);
        let Some((_, run)) = self.0.range(..=next).next_back() else {
            return;
        };
        let run = *run;
        self.0 = self.0.split_off(&next);
        self.0.insert(next, run);
    }

    /// The id of an index that the log holds.
    pub(super) fn id(&self, index: LogIndex) -> Option<LogId> {
        let (_, (term, leader)) = self.0.range(..=index.0).next_back()?;
        Some(LogId {
            term: *term,
            leader: *leader,
            index,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::super::segment::Segment;
    use super::*;
    use crate::log::disk::Disk as _;
    use crate::log::test_disk::TestDisk;

    fn segment(sequence: u64) -> Arc<Segment> {
        let path = PathBuf::from(format!("{sequence}"));
        let file = TestDisk::default().create(&path).unwrap();
        Arc::new(Segment::new(sequence, 1, path, file))
    }

    #[derive(Clone, Debug)]
    enum Change {
        Add(u64),
        Truncate(u64),
        Purge(u64),
        Replace(u64, u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (1..20_u64).prop_map(Change::Add),
            1 => (0..15_u64).prop_map(Change::Truncate),
            1 => (0..15_u64).prop_map(Change::Purge),
            2 => (0..20_u64, 1..12_u64).prop_map(|(back, count)| Change::Replace(back, count)),
        ]
    }

    proptest! {
        /// Each index is where it was put last, and what is counted as alive is what is there.
        #[test]
        fn spans_follow_a_map_of_single_entries(changes in proptest::collection::vec(change(), 1..60)) {
            let segments = [segment(1), segment(2)];
            let (mut spans, mut model) = (Spans::default(), BTreeMap::new());
            let (mut purged, mut last, mut offset) = (0, 0, 0);
            for change in changes {
                let place = &segments[usize::from(offset % 7 > 3)];
                let mut put = |spans: &mut Spans, from: u64, to: u64, add: bool| {
                    offset += 1_000;
                    let span = Span::new(place.clone(), offset..offset + 900, from..=to, (to - from + 1) * 10);
                    (from..=to).for_each(|index| { model.insert(index, (place.sequence, offset)); });
                    if add { spans.add(span) } else { spans.replace(span) }
                };
                match change {
                    Change::Add(count) => {
                        put(&mut spans, last + 1, last + count, true);
                        last += count;
                    }
                    Change::Truncate(back) => {
                        last = last.saturating_sub(back).max(purged);
                        spans.truncate_after(LogIndex(last));
                        model.retain(|index, _| *index <= last);
                    }
                    Change::Purge(back) => {
                        purged = last.saturating_sub(back).max(purged);
                        spans.remove_upto(LogIndex(purged));
                        model.retain(|index, _| *index > purged);
                    }
                    Change::Replace(back, count) => {
                        let from = last.saturating_sub(back).max(purged + 1);
                        let to = (from + count - 1).min(last);
                        if from <= to { put(&mut spans, from, to, false); }
                    }
                }
                for index in purged.saturating_sub(2)..last + 3 {
                    let found = spans.find(LogIndex(index));
                    prop_assert_eq!(found.map(|it| it.segment.sequence), model.get(&index).map(|it| it.0));
                    if let (Some(found), Some((_, at))) = (found, model.get(&index)) {
                        prop_assert!(found.offset <= *at && *at < found.end, "{} is at {}", index, at);
                    }
                }
                prop_assert_eq!(spans.first_missing(purged + 1, last), None);
            }
            let referred = segments.iter().filter(|it| Arc::strong_count(it) > 1).count();
            let expected = segments.iter().filter(|it| model.values().any(|at| at.0 == it.sequence)).count();
            prop_assert_eq!(referred, expected);
            spans.clear();
            prop_assert!(segments.iter().all(|it| it.live_bytes() == 0));
        }
    }
}
