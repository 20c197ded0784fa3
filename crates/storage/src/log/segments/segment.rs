//! One segment file in use. Not here: which segments there are (`files`), what is in them (`scan`, `read`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::log::disk::DiskFile;

/// Spans of records and readers hold it; when nobody but the writer does, nothing in it is needed any more.
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// About how many bytes of records in it are alive.
    live_bytes: AtomicU64,
}

impl Segment {
    pub(super) fn new(sequence: u64, epoch: u64, path: PathBuf, file: Arc<dyn DiskFile>) -> Self {
        Self {
            sequence,
            epoch,
            path,
            file,
            live_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }
}

/// Name of the segment with this sequence.
pub(super) fn segment_name(sequence: u64) -> String {
    format!("{sequence:016x}.segment")
}

/// The sequence in a segment's name.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

/// Where a retired segment waits to be used again.
pub(super) fn spare_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.spare"))
}

/// Records of one group that follow each other, somewhere in one stretch of a segment.
///
/// The stretch holds whole frames, perhaps of other groups too, and batch headers; it may hold records beyond `first..=last`,
/// which do not count.
pub(super) struct Span {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    /// About how many bytes its records have; counted in the segment as long as the span lives.
    bytes: u64,
}

impl Span {
    pub(super) fn new(
        segment: Arc<Segment>,
        stretch: std::ops::Range<u64>,
        indexes: std::ops::RangeInclusive<u64>,
        bytes: u64,
    ) -> Self {
        segment.live_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self {
            segment,
            offset: stretch.start,
            end: stretch.end,
            first: *indexes.start(),
            last: *indexes.end(),
            bytes,
        }
    }

    /// About how many bytes its records have.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same stretch with fewer records.
    pub(super) fn part(&self, indexes: std::ops::RangeInclusive<u64>) -> Self {
        let count = self.last - self.first + 1;
        let kept = indexes.end() - indexes.start() + 1;
        // Widened: bytes times records may exceed 64 bits.
        let bytes = u128::from(self.bytes) * u128::from(kept) / u128::from(count);
        let bytes = u64::try_from(bytes).unwrap_or(self.bytes);
        Self::new(self.segment.clone(), self.offset..self.end, indexes, bytes)
    }

    /// Takes up a span that follows it in the same segment.
    pub(super) fn extend(&mut self, next: &Self) {
        self.segment
            .live_bytes
            .fetch_add(next.bytes, Ordering::Relaxed);
        self.bytes += next.bytes;
        self.end = next.end;
        self.last = next.last;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.segment
            .live_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
