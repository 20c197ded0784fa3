//! Ranges of message blocks that were deleted as a whole: of a queue that is gone, of a replica that left. RocksDB gives their space back when it
//! compacts their keys, which at rest nothing makes it do; so it is asked to. Not here: blocks that end one by one (`garbage`).

use std::ops::Range;

use rocksdb::{CompactOptions, DB, Range as KeyRange};

use super::database::column_family;
use super::error::StateError;
use super::garbage::{BlobFiles, failed};
use super::layout::BLOCKS;

/// More are not remembered: other work has them compacted, as after a restart.
const RANGES_MAX: usize = 1_000;
/// Worth it: so many bytes in tables, which are the keys of large blocks and all of small ones,
const TABLE_BYTES_MIN: u64 = 256 << 10;
/// or so many as they are by the share that tables have of everything.
const BYTES_MIN: u64 = 32 << 20;
const TABLES: &str = "rocksdb.live-sst-files-size";

/// What was deleted and not compacted yet. A restart forgets it.
#[derive(Default, Debug)]
pub(super) struct DeletedRanges(Vec<Range<Vec<u8>>>);

impl DeletedRanges {
    pub(super) fn note(&mut self, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        let range = from.into()..to.into();
        if self.0.len() < RANGES_MAX && !range.is_empty() {
            self.0.push(range);
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
    pub(super) fn compact(self, database: &DB) -> Result<(), StateError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let family = column_family(database, BLOCKS);
        let blobs = BlobFiles::of(database).map_err(failed)?.bytes;
        let tables = database.property_int_value_cf(family, TABLES);
        let tables = tables.map_err(failed)?.unwrap_or(0).max(1);
        let ranges = self.0.iter();
        let ranges = ranges.map(|it| KeyRange::new(&it.start, &it.end));
        let ranges: Vec<KeyRange<'_>> = ranges.collect();
        let sizes = database.get_approximate_sizes_cf(family, &ranges);
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        for (range, bytes) in self.0.iter().zip(sizes) {
            let share = u128::from(bytes) * (u128::from(blobs) + u128::from(tables));
            if bytes >= TABLE_BYTES_MIN || share / u128::from(tables) >= u128::from(BYTES_MIN) {
                let (from, to) = (Some(&range.start), Some(&range.end));
                database.compact_range_cf_opt(family, from, to, &options);
                tracing::info!(
                    table_bytes = bytes,
                    "space of deleted messages is given back"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_remembered_up_to_a_number_and_none_that_is_empty() {
        let mut deleted = DeletedRanges::default();
        let key = |number: u64| number.to_be_bytes().to_vec();
        deleted.note(key(1), key(1));
        assert_eq!(deleted.len(), 0);
        for number in 0..3_000_u64 {
            deleted.note(key(number * 2), key(number * 2 + 1));
        }
        assert_eq!(deleted.take().len(), RANGES_MAX);
        assert_eq!(deleted.len(), 0);
    }
}
