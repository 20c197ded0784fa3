//! Opening: finds the segment files, reads them all, and says where to go on. Not here: walking one file (`scan`), what its
//! frames mean (`replay`), the acknowledged marks (`mod`).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::Chain;
use super::files::{Held, SegmentFiles, WriteError};
use super::replay::Replay;
use super::scan::{Cause, Damage, End, Expected, Scan, WholeBatch};
use super::sealed::SealedSegments;
use super::segment::{Segment, segment_name, sequence_of};
use crate::log::disk::Disk;
use crate::log::options::LogOptions;

/// Why the engine cannot be opened, in words.
#[derive(Debug)]
pub(super) enum Refused {
    /// What is there cannot be used.
    Damaged(String),
    /// The system refused: it may be otherwise later.
    Failed(String),
}

impl From<Damage> for Refused {
    fn from(damage: Damage) -> Self {
        match damage.cause {
            Cause::Bytes => Self::Damaged(damage.to_string()),
            Cause::Refused => Self::Failed(damage.to_string()),
        }
    }
}

/// Everything the files say.
pub(super) struct Recovered {
    pub(super) files: SegmentFiles,
    pub(super) replay: Replay,
}

/// What lies in the directory.
pub(super) struct Found {
    /// Sequences, oldest first.
    pub(super) segments: Vec<u64>,
    /// Retired files of the right size.
    spares: Vec<PathBuf>,
    /// What a start or a switch that was cut off left.
    leftovers: Vec<PathBuf>,
}

pub(super) fn find(disk: &dyn Disk, dir: &Path, options: &LogOptions) -> io::Result<Found> {
    let mut found = Found {
        segments: segments(disk, dir)?,
        spares: Vec::new(),
        leftovers: Vec::new(),
    };
    for (name, bytes) in disk.list(dir)? {
        if name.ends_with(".spare") {
            let fits =
                bytes == options.segment_bytes && found.spares.len() < options.spare_segments;
            let list = if fits {
                &mut found.spares
            } else {
                &mut found.leftovers
            };
            list.push(dir.join(name));
        } else if name.ends_with(".new") {
            found.leftovers.push(dir.join(name));
        }
    }
    Ok(found)
}

/// Sequences of the segments in a directory, oldest first.
pub(super) fn segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let names = disk.list(dir)?;
    let mut found: Vec<u64> = names
        .iter()
        .filter_map(|(name, _)| sequence_of(name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads everything; writes nothing but the first segment of a new engine.
///
/// # Errors
/// The cause, with file and offset.
pub(super) fn recover(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: &LogOptions,
) -> Result<Recovered, Refused> {
    let at_dir = |error: io::Error| Refused::Failed(format!("{}: {error}", dir.display()));
    let found = find(&*disk, dir, options).map_err(at_dir)?;
    for path in &found.leftovers {
        disk.remove(path).map_err(at_dir)?;
    }
    if found.segments.is_empty() {
        let files = SegmentFiles::begin(disk, dir, options, found.spares);
        let files = files.map_err(|(WriteError::Full(cause) | WriteError::Failed(cause))| cause);
        return Ok(Recovered {
            files: files.map_err(Refused::Failed)?,
            replay: Replay::default(),
        });
    }
    let mut replay = Replay::default();
    let mut reader = Reader::new(&*disk, dir);
    let mut held = VecDeque::new();
    for sequence in found.segments {
        let read = reader.segment(sequence, &mut replay);
        held.push_back(read?);
    }
    let files = arrange(disk.clone(), dir, options, held, found.spares)?;
    Ok(Recovered { files, replay })
}

/// Reads segments in order and sees that each follows the one before.
pub(super) struct Reader<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    /// The segment before, and where it ended.
    pub(super) previous: Option<(u64, u64)>,
    pub(super) expected: Option<Expected>,
}

impl<'a> Reader<'a> {
    /// Begins with whatever segment comes first.
    pub(super) fn new(disk: &'a dyn Disk, dir: &'a Path) -> Self {
        Self {
            disk,
            dir,
            previous: None,
            expected: None,
        }
    }

    pub(super) fn segment(
        &mut self,
        sequence: u64,
        replay: &mut Replay,
    ) -> Result<(Held, End), Damage> {
        let path = self.dir.join(segment_name(sequence));
        let unread = |error: io::Error| Damage::of_io(&path, 0, &error);
        if let Some((previous, end)) = self.previous
            && previous + 1 != sequence
        {
            let missing = previous + 1;
            return Err(Damage {
                path: self.dir.join(segment_name(missing)),
                offset: 0,
                detail: format!("it is missing; the segment before it ends at offset {end}"),
                cause: Cause::Bytes,
            });
        }
        let file = self.disk.open(&path).map_err(unread)?;
        let mut scan = Scan::new(&*file, &path)?;
        let head = scan.head()?;
        if head.sequence != sequence {
            let detail = format!("its head is that of segment {}", head.sequence);
            return Err(scan.damage(0, detail));
        }
        let segment = Segment::new(sequence, head.epoch, path.clone(), file.clone());
        let segment = Arc::new(segment);
        let first = scan.first_header(head.epoch)?;
        if let (Some(expected), Some(first)) = (self.expected, first)
            && !expected.is_met_by(&first)
        {
            let (previous, offset) = self.previous.unwrap_or_default();
            return Err(Damage {
                path: self.dir.join(segment_name(previous)),
                offset,
                detail: format!(
                    "batch {} should stand there; the next segment begins with batch {}",
                    expected.sequence, first.sequence
                ),
                cause: Cause::Bytes,
            });
        }
        let mut begins = true;
        let mut visit =
            |batch: &WholeBatch<'_>| replay.batch(&segment, batch, std::mem::take(&mut begins));
        let end = scan.batches(head.epoch, self.expected, &mut visit)?;
        let bytes = scan.bytes;
        self.previous = Some((sequence, end.offset));
        self.expected = end.expected;
        Ok((Held { segment, bytes }, end))
    }
}

fn chain_of(expected: Expected) -> Chain {
    Chain {
        sequence: expected.sequence,
        previous_crc: expected.crc,
    }
}

/// Says where writing goes on: behind the last whole batch.
fn arrange(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: &LogOptions,
    mut held: VecDeque<(Held, End)>,
    spares: Vec<PathBuf>,
) -> Result<SegmentFiles, Refused> {
    let at_dir = |error: io::Error| Refused::Failed(format!("{}: {error}", dir.display()));
    let damaged = Refused::Damaged;
    let last = held.iter().rposition(|(_, end)| end.batches > 0);
    let later = held.split_off((last.unwrap_or(0) + 1).min(held.len()));
    let (active, end) = held
        .pop_back()
        .ok_or_else(|| damaged("no segment is left to write to".to_owned()))?;
    if let Some((empty, _)) = held.iter().find(|(_, end)| end.batches == 0) {
        let path = empty.segment.path.display();
        let detail = format!("{path} holds nothing, but a later segment does");
        return Err(damaged(detail));
    }
    let mut next = None;
    // Newest first, so that no gap is left. One that was begun would pass for what follows, once something else did.
    for (number, (later, end)) in later.into_iter().enumerate().rev() {
        if number == 0 && end.torn.is_none() {
            next = Some(later);
        } else {
            disk.remove(&later.segment.path).map_err(at_dir)?;
            disk.sync_directory(dir).map_err(at_dir)?;
        }
    }
    let chain = end.expected.map_or(Chain::FIRST, chain_of);
    let sealed = Arc::new(SealedSegments::default());
    for (held, end) in &held {
        if let Some(next) = end.expected.map(chain_of) {
            sealed.add(&held.segment, end.offset, next);
        }
    }
    sealed.grew(&active.segment, end.offset, chain);
    if options.direct {
        for held in [&active].into_iter().chain(&next) {
            held.segment.file.stream(&held.segment.path);
        }
    }
    Ok(SegmentFiles {
        disk,
        dir: dir.to_owned(),
        segment_bytes: options.segment_bytes,
        direct: options.direct,
        spares_max: options.spare_segments,
        closed: held.into_iter().map(|(held, _)| held).collect(),
        sealed,
        active,
        offset: end.offset,
        next,
        spares,
        chain,
    })
}
