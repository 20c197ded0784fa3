//! Reads a group's records from a stretch of a segment. Not here: which stretch (`index`), whole files (`scan`).

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use warren_types::GroupId;

use super::format::{
    BATCH_HEADER_BYTES, BATCH_MAGIC, BatchHeader, FRAME_HEADER_BYTES, FrameHeader, Kind, aligned,
    decode_records,
};
use super::segment::{Segment, Span};
use crate::files::checksum;
use crate::log::contract::{LogError, LogRecord};
use crate::log::disk::read_full;

/// Why records were not read, in words.
#[derive(Debug)]
pub(super) enum ReadError {
    /// What is there is not what was written.
    Damaged(String),
    /// The system did not give it.
    Failed(String),
}

impl ReadError {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Damaged(text) | Self::Failed(text) => text,
        }
    }

    pub(super) fn of(self, group: GroupId) -> LogError {
        match self {
            Self::Damaged(detail) => LogError::Damaged {
                group,
                detail: detail.into(),
            },
            Self::Failed(detail) => LogError::Unread {
                group,
                detail: detail.into(),
            },
        }
    }
}

/// A span as it was found; keeps its segment from being used again.
pub(super) struct Place {
    segment: Arc<Segment>,
    offset: u64,
    end: u64,
}

impl Place {
    pub(super) fn of(span: &Span) -> Self {
        Self {
            segment: span.segment.clone(),
            offset: span.offset,
            end: span.end,
        }
    }

    /// Records of `group` with an index in `wanted`, as they stand in the stretch.
    ///
    /// # Errors
    /// What is wrong, naming file and offset: nothing that does not match its checksum is returned.
    pub(super) fn read(
        &self,
        group: GroupId,
        wanted: RangeInclusive<u64>,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let damaged = ReadError::Damaged;
        let path = self.segment.path.display();
        let bytes = usize::try_from(self.end - self.offset)
            .map_err(|_| damaged(format!("{path}: stretch is too long")))?;
        let mut buffer = vec![0; bytes];
        let read = read_full(&*self.segment.file, &mut buffer, self.offset);
        let read = read.map_err(|error| {
            ReadError::Failed(format!("{path} at offset {}: {error}", self.offset))
        })?;
        if read < bytes {
            let end = self.offset + read as u64;
            return Err(damaged(format!("{path} ends at {end}")));
        }
        let stretch = Bytes::from(buffer);
        let mut records = Vec::new();
        let mut at = 0;
        while at < bytes {
            let found = self.step(&stretch, at, group, &wanted).ok_or_else(|| {
                let offset = self.offset + at as u64;
                damaged(format!("{path} is damaged at offset {offset}"))
            })?;
            at = found.next;
            records.extend(found.records);
        }
        Ok(records)
    }

    /// Same, and all of them are there.
    ///
    /// # Errors
    /// Same.
    pub(super) fn read_whole(
        &self,
        group: GroupId,
        wanted: RangeInclusive<u64>,
    ) -> Result<Vec<LogRecord>, ReadError> {
        let records = self.read(group, wanted.clone())?;
        if wanted.clone().eq(records.iter().map(|it| it.id.index.0)) {
            return Ok(records);
        }
        let (first, last) = wanted.into_inner();
        Err(ReadError::Damaged(format!(
            "records {first} to {last} are not where they were put"
        )))
    }

    /// Takes what stands at one place of the stretch: a frame, a batch header, or zeros before one.
    fn step(
        &self,
        stretch: &Bytes,
        at: usize,
        group: GroupId,
        wanted: &RangeInclusive<u64>,
    ) -> Option<Step> {
        let rest = stretch.get(at..)?;
        let skip = |next: usize| Step {
            next,
            records: Vec::new(),
        };
        if rest.first() == Some(&0) {
            let offset = self.offset + at as u64;
            let zeros = usize::try_from(aligned(offset + 1) - offset).ok()?;
            return Some(skip(at + zeros));
        }
        if rest.starts_with(&BATCH_MAGIC) {
            BatchHeader::decode(rest, self.segment.epoch)?;
            return Some(skip(at + BATCH_HEADER_BYTES));
        }
        let header = FrameHeader::decode(rest, self.segment.epoch)?;
        let start = at + FRAME_HEADER_BYTES;
        let next = start + header.content_bytes();
        let holds = matches!(header.kind, Kind::Append | Kind::Rewrite)
            && header.group == group
            && header.first.0 <= *wanted.end()
            && header.last().0 >= *wanted.start();
        if !holds {
            return Some(skip(next));
        }
        let content = stretch
            .get(start..next)
            .map(|_| stretch.slice(start..next))?;
        if checksum(&[&content]) != header.content_crc {
            return None;
        }
        let records = decode_records(&header, &content)?
            .into_iter()
            .filter(|record| wanted.contains(&record.id.index.0))
            .collect();
        Some(Step { next, records })
    }
}

struct Step {
    next: usize,
    records: Vec<LogRecord>,
}
