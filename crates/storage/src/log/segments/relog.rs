//! Empties the oldest segment: records that live in it are written again at the head, a little at a time, so that no group holds
//! the disk. Not here: giving the segment back (`files`), writing (`writer`).

use std::collections::BTreeMap;
use std::sync::Arc;

use warren_types::GroupId;

use super::files::SegmentFiles;
use super::group::Group;
use super::read::Place;
use super::segment::Segment;
use crate::log::contract::LogRecord;

/// So much is added to one batch at most, beside one record.
const STEP_BYTES: usize = 256 << 10;
/// A segment of which less than one part in so many is alive is worth emptying.
const WORTH_PARTS: u64 = 8;

/// Records that are written again, all of them on disk already.
pub(super) struct Rewrite {
    pub(super) group: Arc<Group>,
    pub(super) records: Vec<LogRecord>,
}

pub(super) struct Relog {
    /// Beyond this the oldest segment is emptied however much of it is alive.
    log_bytes_max: u64,
    /// The segment that is being emptied, by its sequence, and the groups that may have records there still.
    emptying: Option<(u64, Vec<Arc<Group>>)>,
    /// A segment up to this sequence has a record that cannot be read: it stays.
    kept: u64,
}

impl Relog {
    pub(super) fn new(log_bytes_max: u64) -> Self {
        Self {
            log_bytes_max,
            emptying: None,
            kept: 0,
        }
    }

    /// Whether the oldest segment should be emptied.
    pub(super) fn is_due(&self, files: &SegmentFiles) -> bool {
        let Some(oldest) = files.closed.front() else {
            return false;
        };
        if oldest.segment.sequence <= self.kept || Arc::strong_count(&oldest.segment) == 1 {
            return false;
        }
        if self.emptying.is_some() {
            return true;
        }
        let live = oldest.segment.live_bytes();
        let little = files.closed.len() > 1 && live <= oldest.bytes / WORTH_PARTS;
        let closed = files.closed_bytes();
        // Writing again what is alive frees nothing when everything is.
        let pays = closed > self.log_bytes_max && files.live_bytes() <= closed / 2;
        little || pays
    }

    /// The next records to write again.
    pub(super) fn step(
        &mut self,
        files: &SegmentFiles,
        groups: &BTreeMap<GroupId, Arc<Group>>,
    ) -> Vec<Rewrite> {
        let Some(oldest) = files.closed.front() else {
            self.emptying = None;
            return Vec::new();
        };
        let segment = &oldest.segment;
        if self
            .emptying
            .as_ref()
            .is_some_and(|it| it.0 != segment.sequence)
        {
            self.emptying = None;
        }
        if !self.is_due(files) {
            return Vec::new();
        }
        let (_, left) = self
            .emptying
            .get_or_insert_with(|| (segment.sequence, groups.values().cloned().collect()));
        while let Some(group) = left.last() {
            match next_records(group, segment) {
                Ok(Some(records)) => {
                    let group = group.clone();
                    return vec![Rewrite { group, records }];
                }
                Ok(None) => {
                    left.pop();
                }
                Err(cause) => {
                    tracing::error!(group = %group.id, %cause, "records cannot be written again");
                    self.kept = segment.sequence;
                    self.emptying = None;
                    return Vec::new();
                }
            }
        }
        // A reader holds it, or a span was put there after the groups were listed: looked at again later.
        self.emptying = None;
        Vec::new()
    }
}

/// The group's first records in the segment, if it has any there.
fn next_records(
    group: &Arc<Group>,
    segment: &Arc<Segment>,
) -> Result<Option<Vec<LogRecord>>, String> {
    let (place, first, last) = {
        let known = group.known();
        let mut spans = known.spans.iter();
        let Some(span) = spans.find(|span| Arc::ptr_eq(&span.segment, segment)) else {
            return Ok(None);
        };
        (Place::of(span), span.first, span.last)
    };
    let mut records = place.read(group.id, first..=last)?;
    let whole = (first..=last).eq(records.iter().map(|record| record.id.index.0));
    if !whole {
        return Err(format!(
            "records {first} to {last} are not where they were put"
        ));
    }
    let mut bytes = 0;
    let mut fits = |record: &LogRecord| {
        let fits = bytes < STEP_BYTES;
        bytes += record.bytes.len();
        fits
    };
    let count = records.iter().take_while(|it| fits(it)).count();
    records.truncate(count);
    Ok(Some(records))
}
