//! Walks a segment file from its head to its end and says what it is that ends it. Not here: what the batches mean (`replay`),
//! which files there are (`recover`).
//!
//! A batch is written only after the one before it was synced. So where something does not match its checksum, a later batch of
//! the same life of the file proves damage; without one it is the torn end of a write that nobody was told of.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{
    ALIGNMENT, BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, FRAME_HEADER_BYTES, FrameHeader,
    HEAD_BYTES, HeadError, SegmentHead, aligned,
};
use crate::files::checksum;
use crate::log::disk::{DiskFile, read_full};

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) detail: String,
    pub(super) cause: Cause,
}

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not what was written.
    Bytes,
    /// The system refuses it, or newer software wrote it.
    Refused,
}

impl Damage {
    pub(super) fn of_io(path: &Path, offset: u64, error: &io::Error) -> Self {
        Self {
            path: path.to_owned(),
            offset,
            detail: error.to_string(),
            cause: Cause::Refused,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(
            f,
            "{path} is damaged at offset {}: {}",
            self.offset, self.detail
        )
    }
}

/// A frame whose checksums match.
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    /// Where it stands in the file, header included.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Where meta and body stand in the payload.
    content: std::ops::Range<usize>,
}

/// A batch all of whose checksums match.
pub(super) struct WholeBatch<'a> {
    pub(super) frames: Vec<Frame>,
    payload: &'a [u8],
}

impl WholeBatch<'_> {
    pub(super) fn content(&self, frame: &Frame) -> &[u8] {
        self.payload.get(frame.content.clone()).unwrap_or_default()
    }
}

/// Where batch `sequence` would have to follow the header with checksum `crc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) sequence: u64,
    pub(super) crc: u32,
}

impl Expected {
    pub(super) fn is_met_by(&self, header: &BatchHeader) -> bool {
        self.sequence == header.sequence && self.crc == header.previous_crc
    }
}

/// How a segment ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) offset: u64,
    pub(super) batches: u64,
    /// Known once there was a batch, here or before.
    pub(super) expected: Option<Expected>,
    /// The header of a batch that stands at the end with its payload torn.
    pub(super) torn: Option<BatchHeader>,
}

/// A segment file that is read.
pub(super) struct Scan<'a> {
    pub(super) file: &'a dyn DiskFile,
    pub(super) path: &'a Path,
    pub(super) bytes: u64,
    buffer: Vec<u8>,
    /// Offset of the buffer in the file.
    buffered: u64,
}

const CHUNK_BYTES: u64 = 1 << 20;

impl<'a> Scan<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, path: &'a Path) -> Result<Self, Damage> {
        let size = file.size();
        Ok(Self {
            file,
            path,
            bytes: size.map_err(|error| Damage::of_io(path, 0, &error))?,
            buffer: Vec::new(),
            buffered: 0,
        })
    }

    pub(super) fn damage(&self, offset: u64, detail: impl Into<String>) -> Damage {
        Damage {
            path: self.path.to_owned(),
            offset,
            detail: detail.into(),
            cause: Cause::Bytes,
        }
    }

    /// A part of the file; `None` if it is not as long.
    fn part(&mut self, offset: u64, bytes: u64) -> Result<Option<&[u8]>, Damage> {
        let Some(end) = offset.checked_add(bytes).filter(|end| *end <= self.bytes) else {
            return Ok(None);
        };
        let buffered_end = self.buffered + self.buffer.len() as u64;
        if offset < self.buffered || end > buffered_end {
            let wanted = bytes.max(CHUNK_BYTES).min(self.bytes - offset);
            let wanted = usize::try_from(wanted)
                .map_err(|_| self.damage(offset, "it is too long for this machine"))?;
            self.buffer.clear();
            self.buffer.resize(wanted, 0);
            let read = read_full(self.file, &mut self.buffer, offset);
            let read = read.map_err(|error| Damage::of_io(self.path, offset, &error))?;
            self.buffer.truncate(read);
            self.buffered = offset;
        }
        let start = usize::try_from(offset - self.buffered).unwrap_or(usize::MAX);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(self.buffer.get(start..start.saturating_add(length)))
    }

    pub(super) fn head(&mut self) -> Result<SegmentHead, Damage> {
        let decoded = match self.part(0, HEAD_BYTES)? {
            Some(bytes) => SegmentHead::decode(bytes),
            None => Err(HeadError::Damaged),
        };
        decoded.map_err(|error| match error {
            HeadError::Damaged => self.damage(0, "its head does not match its checksum"),
            HeadError::Format(found) => {
                let known = super::format::FORMAT;
                let detail = format!("its format {found} is not known, only {known}");
                Damage {
                    cause: Cause::Refused,
                    ..self.damage(0, detail)
                }
            }
        })
    }

    /// The header of the batch that begins the segment, whole or torn.
    pub(super) fn first_header(&mut self, epoch: u64) -> Result<Option<BatchHeader>, Damage> {
        Ok(self.header(HEAD_BYTES, epoch)?.map(|(header, _)| header))
    }

    /// Visits every whole batch, in order.
    ///
    /// # Errors
    /// Damage, and what the visitor says is wrong with a batch.
    pub(super) fn batches(
        &mut self,
        epoch: u64,
        expected: Option<Expected>,
        visit: &mut dyn FnMut(&WholeBatch<'_>) -> Result<(), String>,
    ) -> Result<End, Damage> {
        let mut end = End {
            offset: HEAD_BYTES,
            batches: 0,
            expected,
            torn: None,
        };
        while let Some((header, crc)) = self.header(end.offset, epoch)? {
            let follows = end.expected.is_none_or(|it| it.is_met_by(&header));
            let payload_at = end.offset + BATCH_HEADER_BYTES as u64;
            let end_at = payload_at.saturating_add(header.payload_bytes);
            let padded = end_at.checked_next_multiple_of(ALIGNMENT);
            let bytes = self.part(payload_at, padded.unwrap_or(u64::MAX) - payload_at)?;
            let whole = bytes.and_then(|bytes| whole(bytes, payload_at, &header));
            let Some((frames, payload)) = whole else {
                end.torn = Some(header);
                break;
            };
            if !follows {
                let detail = format!("batch {} does not follow what is before", header.sequence);
                return Err(self.damage(end.offset, detail));
            }
            let batch = WholeBatch { frames, payload };
            visit(&batch).map_err(|detail| self.damage(end.offset, detail))?;
            end.offset = aligned(payload_at + header.payload_bytes);
            end.batches += 1;
            end.expected = Some(Expected {
                sequence: header.sequence + 1,
                crc,
            });
        }
        let sequence = end.expected.map_or(0, |it| it.sequence);
        match self.later(end.offset + ALIGNMENT, epoch, sequence)? {
            None => Ok(end),
            Some(later) => Err(self.damage(
                end.offset,
                format!(
                    "what stands there is no whole batch, but a later one stands at offset {later}"
                ),
            )),
        }
    }

    fn header(&mut self, offset: u64, epoch: u64) -> Result<Option<(BatchHeader, u32)>, Damage> {
        let bytes = self.part(offset, BATCH_HEADER_BYTES as u64)?;
        Ok(bytes.and_then(|bytes| BatchHeader::decode(bytes, epoch)))
    }

    /// The offset of a later batch's header, if there is one.
    fn later(&mut self, from: u64, epoch: u64, above: u64) -> Result<Option<u64>, Damage> {
        let mut at = from;
        while at + BATCH_HEADER_BYTES as u64 <= self.bytes {
            let chunk = CHUNK_BYTES.min(self.bytes - at);
            let Some(bytes) = self.part(at, chunk)? else {
                return Ok(None);
            };
            let places = bytes.chunks(ALIGNMENT as usize).enumerate();
            for (number, _) in places.filter(|(_, place)| place.starts_with(&BATCH_MAGIC)) {
                let offset = at + number as u64 * ALIGNMENT;
                let rest = bytes.get(number * ALIGNMENT as usize..).unwrap_or_default();
                // At the end of the chunk it is looked at again with the next one.
                if BatchHeader::decode(rest, epoch).is_some_and(|(it, _)| it.sequence > above) {
                    return Ok(Some(offset));
                }
            }
            if at + chunk >= self.bytes {
                break;
            }
            at += chunk - BATCH_HEADER_BYTES as u64;
        }
        Ok(None)
    }
}

/// Whether something stands at `offset` that was meant as a batch of the file's present life.
pub(super) fn begins_batch(file: &dyn DiskFile, path: &Path, offset: u64) -> Result<bool, Damage> {
    let mut scan = Scan::new(file, path)?;
    let epoch = scan.head()?.epoch;
    Ok(scan.header(offset, epoch)?.is_some())
}

/// Frames and payload of a batch, if each byte of it matches, the zeros behind it too: reading goes over them.
fn whole<'a>(
    bytes: &'a [u8],
    payload_at: u64,
    batch: &BatchHeader,
) -> Option<(Vec<Frame>, &'a [u8])> {
    let (payload, padding) = bytes.split_at_checked(usize::try_from(batch.payload_bytes).ok()?)?;
    let frames = frames(payload, payload_at, batch)?;
    padding
        .iter()
        .all(|byte| *byte == 0)
        .then_some((frames, payload))
}

/// All frames of a payload, if each byte of it matches.
fn frames(payload: &[u8], payload_at: u64, batch: &BatchHeader) -> Option<Vec<Frame>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut crc = 0;
    while at < payload.len() {
        let rest = payload.get(at..)?;
        let header = FrameHeader::decode(rest, batch.epoch)?;
        crc = crc32c::crc32c_append(crc, rest.get(..FRAME_HEADER_BYTES)?);
        let start = at + FRAME_HEADER_BYTES;
        let content = start..start + header.content_bytes();
        if checksum(&[payload.get(content.clone())?]) != header.content_crc {
            return None;
        }
        found.push(Frame {
            header,
            offset: payload_at + at as u64,
            end: payload_at + content.end as u64,
            content: content.clone(),
        });
        at = content.end;
    }
    (crc == batch.frames_crc && found.len() == batch.frames as usize).then_some(found)
}
