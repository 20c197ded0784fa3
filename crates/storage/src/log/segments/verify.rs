//! Reads the segments of a node that does not run: all of them although some are damaged, and nothing is written. Not here: what a
//! running node does about damage (`recover`).

use std::path::{Path, PathBuf};

use warren_types::{GroupId, ReplicaId};

use super::group::index_of;
use super::read::Place;
use super::recover::{Reader, segments};
use super::replay::{Replay, Replayed};
use super::segment::segment_name;
use super::{Marks, compare};
use crate::log::acked;
use crate::log::contract::{GroupLogState, LogRecord};
use crate::log::disk::{Disk, ReadOnlyDisk};
use crate::verify::{DumpError, Finding, Findings, Grade};

/// Where a log ended that was read.
struct ReadTo {
    path: PathBuf,
    offset: u64,
    bytes: u64,
}

/// Checks every segment and compares the groups with what was acknowledged.
pub(crate) fn verify(dir: &Path, findings: &mut Findings<'_>) {
    let marks_path = dir.join("acked");
    let marks = match std::fs::read(&marks_path) {
        Ok(bytes) => {
            findings.file(&marks_path, bytes.len() as u64);
            for offset in acked::bad_copies(&bytes) {
                let detail = "an acknowledged mark does not match its checksum";
                findings.damage(&marks_path, Some(offset), detail);
            }
            acked::marks_in(&bytes)
        }
        Err(error) => return findings.damage(&marks_path, None, error.to_string()),
    };
    let sequences = match segments(&ReadOnlyDisk, dir) {
        Ok(sequences) => sequences,
        Err(error) => return findings.damage(dir, None, error.to_string()),
    };
    let Some((replay, end)) = read_segments(dir, sequences, findings) else {
        return; // what is missing is said already, and makes every comparison wrong
    };
    let marks = Marks(marks);
    for (&group, replayed) in &replay.groups {
        if let Some(missing) = replayed.first_missing() {
            findings.damage(
                dir,
                None,
                format!("group {group}: entry {missing} is missing"),
            );
        }
        let forgotten = compare(group, &replayed.state, &marks);
        findings.records += records_of(replayed);
        let (Some(detail), Some(end)) = (forgotten, &end) else {
            continue;
        };
        findings.damage(
            &end.path,
            Some(end.offset),
            format!("the log ends here; group {group}: {detail}"),
        );
    }
    if let Some(end) = &end
        && is_torn(end)
    {
        findings.found.push(Finding {
            grade: Grade::Torn,
            path: end.path.clone(),
            offset: Some(end.offset),
            detail: "a write that was cut off stands behind the last whole batch".to_owned(),
        });
    }
}

fn records_of(replayed: &Replayed) -> u64 {
    let purged = index_of(replayed.state.purged).0;
    index_of(replayed.state.last).0.saturating_sub(purged)
}

/// Reads every segment. `None` if one was damaged: the groups are not known then.
fn read_segments(
    dir: &Path,
    sequences: Vec<u64>,
    findings: &mut Findings<'_>,
) -> Option<(Replay, Option<ReadTo>)> {
    let mut replay = Replay::default();
    let mut reader = Reader::new(&ReadOnlyDisk, dir);
    let mut whole = true;
    let mut read_to = None;
    let mut empty: Option<PathBuf> = None;
    for sequence in sequences {
        let path = dir.join(segment_name(sequence));
        let bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
        findings.file(&path, bytes);
        match reader.segment(sequence, &mut replay) {
            Ok((_, end)) if end.batches == 0 => empty = empty.or(Some(path)),
            Ok((_, end)) => {
                if let Some(empty) = empty.take() {
                    whole = false;
                    findings.damage(
                        &empty,
                        Some(end.offset),
                        "it holds nothing, but a later one does",
                    );
                }
                let offset = end.offset;
                read_to = Some(ReadTo {
                    path,
                    offset,
                    bytes,
                });
            }
            Err(damage) => {
                whole = false;
                findings.damage(&damage.path, Some(damage.offset), damage.detail);
                // The rest is read as if it began there.
                replay = Replay::default();
                reader = Reader::new(&ReadOnlyDisk, dir);
            }
        }
    }
    whole.then_some((replay, read_to))
}

/// Whether a batch of this life of the file stands behind the last whole one, with bytes that are not its.
fn is_torn(end: &ReadTo) -> bool {
    let Ok(file) = ReadOnlyDisk.open(&end.path) else {
        return false;
    };
    super::scan::begins_batch(&*file, &end.path, end.offset).unwrap_or(false)
        && end.offset < end.bytes
}

/// A group's log as it is read for people.
pub struct DumpedGroup {
    pub group: GroupId,
    pub replica: ReplicaId,
    pub state: GroupLogState,
}

/// Calls `group` with each group's state, and `record` with its records in order if `group` said so.
///
/// # Errors
/// The first damage, with file and offset.
pub(crate) fn dump(
    dir: &Path,
    group: &mut dyn FnMut(&DumpedGroup) -> bool,
    record: &mut dyn FnMut(GroupId, LogRecord) -> std::io::Result<()>,
) -> Result<(), DumpError> {
    let at_dir = |error: std::io::Error| DumpError::Damaged(format!("{}: {error}", dir.display()));
    let mut replay = Replay::default();
    let mut reader = Reader::new(&ReadOnlyDisk, dir);
    for sequence in segments(&ReadOnlyDisk, dir).map_err(at_dir)? {
        let read = reader.segment(sequence, &mut replay);
        read.map_err(|damage| DumpError::Damaged(damage.to_string()))?;
    }
    for (id, replayed) in &replay.groups {
        let about = DumpedGroup {
            group: *id,
            replica: replayed.replica,
            state: replayed.state,
        };
        if !group(&about) {
            continue;
        }
        for span in replayed.spans.iter() {
            let found = Place::of(span).read(*id, span.first..=span.last);
            let found = found.map_err(|error| DumpError::Damaged(error.into_text()));
            for found in found? {
                record(*id, found).map_err(DumpError::Stopped)?;
            }
        }
    }
    Ok(())
}
