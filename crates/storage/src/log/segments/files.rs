//! The segment files of one engine: which is written, which is next, which are old, which wait to be used again.
//! Not here: what is written (`batch`), whether an old one is needed (`writer`), finding them at start (`recover`).
//!
//! A file becomes a segment in one order only: space, head, sync, name, sync of the directory. So whatever bears a segment's
//! name has a whole head, and a damaged one is damage.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::batch::{Batch, Chain, checkpoint_frame};
use super::format::{ALIGNMENT, CheckpointGroup, HEAD_BYTES, SegmentHead, aligned};
use super::sealed::SealedSegments;
use super::segment::{Segment, segment_name, spare_path};
use crate::log::disk::{Disk, DiskFile, write_all};
use crate::log::options::LogOptions;

/// A segment and how long its file is.
pub(super) struct Held {
    pub(super) segment: Arc<Segment>,
    pub(super) bytes: u64,
}

pub(super) struct SegmentFiles {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    /// Past the page cache.
    pub(super) direct: bool,
    pub(super) spares_max: usize,
    /// Full ones, oldest first.
    pub(super) closed: VecDeque<Held>,
    /// The same, for the scrub.
    pub(super) sealed: Arc<SealedSegments>,
    pub(super) active: Held,
    /// Where the active one ends.
    pub(super) offset: u64,
    pub(super) next: Option<Held>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) chain: Chain,
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The disk took no more. Nothing was synced; the same batch may be tried again.
    Full(String),
    /// Final: what the disk holds is not known any more.
    Failed(String),
}

/// Where a batch went.
pub(super) struct Written {
    pub(super) segment: Arc<Segment>,
    /// Offset of the first frame after a checkpoint.
    pub(super) frames_at: u64,
    pub(super) bytes: u64,
}

fn error_at(path: &Path, error: &io::Error) -> WriteError {
    let text = format!("{}: {error}", path.display());
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    if full {
        WriteError::Full(text)
    } else {
        WriteError::Failed(text)
    }
}

/// A sync is never tried again, whatever it failed with.
fn sync(file: &dyn DiskFile, path: &Path) -> Result<(), WriteError> {
    file.sync()
        .map_err(|error| WriteError::Failed(format!("{}: sync: {error}", path.display())))
}

impl SegmentFiles {
    /// The files of a new engine: one segment, nothing in it.
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &LogOptions,
        spares: Vec<PathBuf>,
    ) -> Result<Self, WriteError> {
        let (segment_bytes, direct, mut spares) = (options.segment_bytes, options.direct, spares);
        let active = prepare(&*disk, dir, segment_bytes, direct, &mut spares, 1)?;
        let sealed = Arc::new(SealedSegments::default());
        sealed.grew(&active.segment, HEAD_BYTES, Chain::FIRST);
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            segment_bytes,
            direct,
            spares_max: options.spare_segments,
            closed: VecDeque::new(),
            sealed,
            active,
            offset: HEAD_BYTES,
            next: None,
            spares,
            chain: Chain::FIRST,
        })
    }

    /// Writes and syncs a batch. `groups` is the state before it, for the head of a segment.
    pub(super) fn append(
        &mut self,
        batch: &mut Batch,
        groups: impl Fn() -> Vec<CheckpointGroup>,
    ) -> Result<Written, WriteError> {
        let full = self.offset + batch.bytes() > self.active.bytes;
        // There may be no room for another one: then the damaged one is good enough to be written.
        let closes = self.next.is_some() && self.sealed.is_to_be_closed(&self.active.segment);
        if self.offset > HEAD_BYTES && (full || closes) {
            self.switch()?;
        }
        let checkpoint = (self.offset == HEAD_BYTES).then(|| checkpoint_frame(&groups()));
        let checkpoint_bytes = checkpoint.as_ref().map_or(0, Vec::len) as u64;
        let end = aligned(self.offset + batch.bytes() + checkpoint_bytes);
        let segment = self.active.segment.clone();
        if end > self.active.bytes {
            // One batch longer than a segment is usual.
            let allocated = segment.file.allocate(end);
            allocated.map_err(|error| error_at(&segment.path, &error))?;
            self.active.bytes = end;
        }
        let sealed = batch.seal(segment.epoch, self.chain, checkpoint);
        let frames_at = self.offset + sealed.shift();
        let padding = [0; ALIGNMENT as usize];
        let padding_bytes = end - (self.offset + batch.bytes() + checkpoint_bytes);
        let padding = padding
            .get(..usize::try_from(padding_bytes).unwrap_or(0))
            .unwrap_or_default();
        let mut slices = batch.slices(&sealed, padding);
        write_all(&*segment.file, &mut slices, self.offset)
            .map_err(|error| error_at(&segment.path, &error))?;
        sync(&*segment.file, &segment.path)?;
        let bytes = end - self.offset;
        self.offset = end;
        self.chain = Chain {
            sequence: self.chain.sequence + 1,
            previous_crc: sealed.header_crc,
        };
        self.sealed.grew(&segment, end, self.chain);
        Ok(Written {
            segment,
            frames_at,
            bytes,
        })
    }

    fn switch(&mut self) -> Result<(), WriteError> {
        self.prepare_next()?;
        if let Some(next) = self.next.take() {
            self.sealed.grew(&next.segment, HEAD_BYTES, self.chain);
            self.closed
                .push_back(std::mem::replace(&mut self.active, next));
            self.offset = HEAD_BYTES;
        }
        Ok(())
    }

    /// Whether the active segment is half full, or damaged, and none is ready to follow it.
    pub(super) fn wants_next(&self) -> bool {
        let ends = self.offset > self.active.bytes / 2
            || self.sealed.is_to_be_closed(&self.active.segment);
        self.next.is_none() && ends
    }

    /// Gets the segment ready that will be written next.
    pub(super) fn prepare_next(&mut self) -> Result<(), WriteError> {
        if self.next.is_none() {
            let sequence = self.active.segment.sequence + 1;
            self.next = Some(prepare(
                &*self.disk,
                &self.dir,
                self.segment_bytes,
                self.direct,
                &mut self.spares,
                sequence,
            )?);
        }
        Ok(())
    }

    /// Takes the oldest segment out of use if nobody needs it: nothing refers to it but this list. True if there was one.
    pub(super) fn retire(&mut self) -> Result<bool, WriteError> {
        let unused = |held: &mut Held| self.sealed.release(&held.segment);
        let Some(held) = self.closed.pop_front_if(unused) else {
            return Ok(false);
        };
        let path = &held.segment.path;
        let spare = spare_path(&self.dir, held.segment.sequence);
        let keep = self.spares.len() < self.spares_max && held.bytes == self.segment_bytes;
        let moved = if keep {
            self.disk.rename(path, &spare)
        } else {
            self.disk.remove(path)
        };
        // Oldest first, each for good before the next: a gap in the middle would be damage.
        moved
            .and_then(|()| self.disk.sync_directory(&self.dir))
            .map_err(|error| WriteError::Failed(format!("{}: {error}", path.display())))?;
        if keep {
            self.spares.push(spare);
        }
        Ok(true)
    }

    /// Bytes that the files take.
    pub(super) fn used_bytes(&self) -> u64 {
        let spares = self.spares.len() as u64 * self.segment_bytes;
        let next = self.next.as_ref().map_or(0, |held| held.bytes);
        self.closed_bytes() + self.active.bytes + next + spares
    }

    pub(super) fn closed_bytes(&self) -> u64 {
        self.closed.iter().map(|held| held.bytes).sum()
    }

    /// About how many bytes of records are alive.
    pub(super) fn live_bytes(&self) -> u64 {
        let held = self.closed.iter().chain([&self.active]);
        held.map(|held| held.segment.live_bytes()).sum()
    }
}

/// Makes a file a segment.
fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    segment_bytes: u64,
    direct: bool,
    spares: &mut Vec<PathBuf>,
    sequence: u64,
) -> Result<Held, WriteError> {
    let (epoch, _) = Uuid::new_v4().as_u64_pair();
    let path = dir.join(segment_name(sequence));
    let (file, from) = match spares.last() {
        Some(spare) => (disk.open(spare), spare.clone()),
        None => {
            let new = path.with_extension("new");
            (disk.create(&new), new)
        }
    };
    let at = |error: io::Error| error_at(&from, &error);
    let file = file.map_err(at)?;
    if direct {
        file.stream(&from);
    }
    let head = SegmentHead { sequence, epoch }.encode();
    file.allocate(segment_bytes)
        .and_then(|()| write_all(&*file, &mut [IoSlice::new(&head)], 0))
        .map_err(at)?;
    sync(&*file, &from)?;
    disk.rename(&from, &path)
        .and_then(|()| disk.sync_directory(dir))
        .map_err(|error| WriteError::Failed(format!("{}: {error}", path.display())))?;
    spares.pop();
    Ok(Held {
        segment: Arc::new(Segment::new(sequence, epoch, path, file)),
        bytes: segment_bytes,
    })
}
