//! Ranges of message blocks that were deleted as a whole: of a queue that is gone, of a replica that left. RocksDB gives their space back when it
//! compacts their keys, which at rest nothing makes it do; so it is asked to. Not here: blocks that end one by one (`garbage`).

use std::ops::Range;

use rocksdb::{CompactOptions, DB, Range as KeyRange};

use super::database::column_family;
use super::layout::BLOCKS;

/// More are remembered as one that covers them.
const RANGES_MAX: usize = 1_000;
/// Keys of fewer bytes, of some thousand blocks, are left to RocksDB.
const KEYS_MIN: u64 = 64 << 10;

/// What was deleted and not compacted yet. A restart forgets it.
#[derive(Default, Debug)]
pub(super) struct DeletedRanges(Vec<Range<Vec<u8>>>);

impl DeletedRanges {
    pub(super) fn note(&mut self, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        let (from, to) = (from.into(), to.into());
        let is_full = self.0.len() >= RANGES_MAX;
        match self.0.last_mut().filter(|_| is_full) {
            Some(last) => {
                let start = std::mem::take(&mut last.start).min(from);
                let end = std::mem::take(&mut last.end).max(to);
                *last = start..end;
            }
            None => self.0.push(from..to),
        }
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Compacts the keys of what is worth it, one range after the other; writes go on meanwhile.
    pub(super) fn compact(self, database: &DB) {
        let family = column_family(database, BLOCKS);
        let ranges = self.0.iter();
        let ranges = ranges.map(|it| KeyRange::new(&it.start, &it.end));
        let ranges: Vec<KeyRange<'_>> = ranges.collect();
        if ranges.is_empty() {
            return;
        }
        let sizes = database.get_approximate_sizes_cf(family, &ranges);
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        for (range, bytes) in self.0.iter().zip(sizes) {
            if bytes >= KEYS_MIN {
                let (from, to) = (Some(&range.start), Some(&range.end));
                database.compact_range_cf_opt(family, from, to, &options);
                tracing::info!(key_bytes = bytes, "space of deleted messages is given back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_too_many_become_one_that_covers_them() {
        let mut deleted = DeletedRanges::default();
        for number in 0..3_000_u64 {
            let key = |number: u64| number.to_be_bytes().to_vec();
            deleted.note(key(number * 2), key(number * 2 + 1));
        }
        assert_eq!(deleted.len(), RANGES_MAX);
        let last = deleted.take().0.pop().unwrap();
        assert_eq!(last.start, (1_998_u64).to_be_bytes());
        assert_eq!(last.end, (5_999_u64).to_be_bytes());
        assert_eq!(deleted.len(), 0);
    }
}
