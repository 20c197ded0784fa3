//! Empties the oldest segment: records that live in it are written again at the head, a little at a time, so that no group holds
//! the disk. Not here: giving the segment back (`files`), writing (`writer`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warren_types::{GroupId, LogIndex};

use super::files::SegmentFiles;
use super::group::Group;
use super::read::{Place, ReadError};
use super::segment::Segment;
use crate::log::contract::LogRecord;

/// So much is added to one batch at most, beside one record.
const STEP_BYTES: usize = 256 << 10;
/// A segment of which less than one part in so many is alive is worth emptying.
const WORTH_PARTS: u64 = 8;

/// A reader that holds an empty segment is left in peace for so long: the scrub takes its time.
const HELD_FOR: Duration = Duration::from_secs(1);

/// Records that are written again, all of them on disk already.
pub(super) struct Rewrite {
    pub(super) group: Arc<Group>,
    pub(super) records: Vec<LogRecord>,
}

pub(super) struct Relog {
    /// Beyond this the oldest segment is emptied however much of it is alive.
    log_bytes_max: u64,
    emptying: Option<Emptying>,
    /// A segment that somebody reads although nothing lives in it, and when that was seen.
    held: Option<(u64, Instant)>,
    /// A segment up to this sequence has a record that cannot be read: it stays until its group goes.
    kept: u64,
}

/// A segment that is being emptied.
struct Emptying {
    sequence: u64,
    /// The groups that may have records there still.
    left: Vec<Arc<Group>>,
    /// Some records could not be read.
    unreadable: bool,
}

impl Relog {
    pub(super) fn new(log_bytes_max: u64) -> Self {
        Self {
            log_bytes_max,
            emptying: None,
            held: None,
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
        let held = self.held.filter(|it| it.0 == oldest.segment.sequence);
        if held.is_some_and(|(_, at)| at.elapsed() < HELD_FOR) {
            return false;
        }
        // A start would refuse a damaged one, and with it all that lives in it.
        let damaged = oldest.segment.sequence <= files.sealed.damaged_upto();
        if self.emptying.is_some() || damaged {
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
            .is_some_and(|it| it.sequence != segment.sequence)
        {
            self.emptying = None;
        }
        if !self.is_due(files) {
            return Vec::new();
        }
        let emptying = self.emptying.get_or_insert_with(|| Emptying {
            sequence: segment.sequence,
            left: groups.values().cloned().collect(),
            unreadable: false,
        });
        while let Some(group) = emptying.left.last() {
            match next_records(group, segment) {
                Ok(Some(records)) => {
                    let group = group.clone();
                    return vec![Rewrite { group, records }];
                }
                Ok(None) => {
                    emptying.left.pop();
                }
                Err((last, error)) => {
                    tracing::error!(group = %group.id, ?error, "records cannot be written again");
                    group.note(last, error);
                    emptying.unreadable = true;
                    emptying.left.pop();
                }
            }
        }
        if emptying.unreadable {
            self.kept = segment.sequence;
        } else {
            self.held = Some((segment.sequence, Instant::now()));
        }
        // A reader holds it, or a span was put there after the groups were listed: looked at again later.
        self.emptying = None;
        Vec::new()
    }
}

/// The group's first records in the segment, if it has any there; the last one of those that cannot be read, and why.
fn next_records(
    group: &Arc<Group>,
    segment: &Arc<Segment>,
) -> Result<Option<Vec<LogRecord>>, (LogIndex, ReadError)> {
    let (place, first, last) = {
        let known = group.known();
        let mut spans = known.spans.iter();
        let Some(span) = spans.find(|span| Arc::ptr_eq(&span.segment, segment)) else {
            return Ok(None);
        };
        (Place::of(span), span.first, span.last)
    };
    let read = place.read_whole(group.id, first..=last);
    let mut records = read.map_err(|cause| (LogIndex(last), cause))?;
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
